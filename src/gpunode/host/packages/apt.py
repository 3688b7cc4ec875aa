"""Debian's and Ubuntu's packages: dpkg's database read by one query, changed by apt-get alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpunode.errors import CommandError, UnknownPackageError
from gpunode.host.machine import Machine, OnLine, Output
from gpunode.host.packages.base import Change, Package, Spec
from gpunode.host.reader import Reader

EXTENDED_STATES = "/var/lib/apt/extended_states"
INFO = "/var/lib/dpkg/info"
FIELDS = "${db:Status-Abbrev}|${Package}|${Version}|${Architecture}"
LOCK_WAIT_SECONDS = 300
TRANSACTION_SECONDS = 3600.0

# One line of `apt-get --simulate`: `Inst NAME [OLD] (NEW Repo [arch])`, `Remv NAME [OLD]`, `Purg NAME [OLD]`.
SIMULATED = re.compile(r"^(Inst|Remv|Purg) (\S+)(?: \[([^\]]+)\])?(?: \((\S+))?", re.MULTILINE)

# A prompt would hang an unattended run; a conffile that the operator changed stays as it is.
OPTIONS = (
    "--yes",
    "--no-install-recommends",
    "--option=Dpkg::Options::=--force-confdef",
    "--option=Dpkg::Options::=--force-confold",
    f"--option=DPkg::Lock::Timeout={LOCK_WAIT_SECONDS}",
    "--option=APT::Get::AutomaticRemove=false",
)

UNSIGNED = "is not signed."
ANY_VERSION = ("--allow-downgrades", "--allow-change-held-packages")


class Apt:
    """PackageManager for the apt family. With `source` it installs what that source file has, as if there were no other."""

    name = "apt"
    programs: tuple[str, ...] = ("apt-get", "dpkg")

    def __init__(self, source: str = "") -> None:
        self._only = _only(source) if source else []

    def refusal(self, _reader: Reader) -> str:
        """None: every apt that has deb822 sources will do."""
        return ""

    def installed(self, reader: Reader) -> dict[str, Package]:
        """Every package dpkg knows. One dpkg-query and one file."""
        output = reader.query_once(["dpkg-query", "--show", f"--showformat={FIELDS}\\n"])
        if not output.ok:
            raise CommandError("dpkg's database cannot be read", details=output.last_words())
        auto = _auto_marks(reader.read_text(EXTENDED_STATES) or "")
        rows = [line.split("|") for line in output.stdout.splitlines()]
        torn = next((row for row in rows if len(row) != 4), None)
        if torn or not rows:
            words = f"not a line of it: {'|'.join(torn)}" if torn else "it tells of no package"
            raise CommandError(f"dpkg's database cannot be read: {words}")
        # dpkg itself is of the host's own architecture; packages of others are not gpunode's to manage.
        native = next((architecture for _, name, _, architecture in rows if name == "dpkg"), "")
        return {
            name: _package(state, name, version, auto)
            for state, name, version, architecture in rows
            if not native or architecture in (native, "all", "")
        }

    def candidates(self, reader: Reader, names: Sequence[str]) -> dict[str, str]:
        """`apt-cache policy`, whose blocks begin with the name and have a line `Candidate:`."""
        output = reader.query_once(["apt-cache", "policy", *names])
        found = re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (\S+)", output.stdout, re.MULTILINE)
        return {name: version for name, version in found if version != "(none)"}

    def simulate(
        self,
        reader: Reader,
        *,
        install: Sequence[Spec] = (),
        purge: Sequence[str] = (),
        reinstall: Sequence[str] = (),
        override_holds: bool = False,
    ) -> list[Change]:
        """What apt would do, asked by `apt-get --simulate`, which needs no lock."""
        holds = ("--allow-change-held-packages",) if override_holds else ()
        words = [*arguments(install), *(f"{name}-" for name in purge), *reinstall]
        flags = ("--reinstall",) if reinstall else ()
        argv = [
            "apt-get",
            "--simulate",
            "install",
            "--allow-downgrades",
            "--no-install-recommends",
            "--yes",
            *holds,
            *flags,
        ]
        options = ["--option=APT::Get::AutomaticRemove=false", *self._only]
        output = reader.query([*argv, *options, *words], timeout=120)
        if not output.ok:
            raise _error(output)
        return [
            Change(match[2], match[3] or "", (match[4] or "") if match[1] == "Inst" else "")
            for match in SIMULATED.finditer(output.stdout)
        ]

    def install(
        self, machine: Machine, *, install: Sequence[Spec], reinstall: Sequence[str] = (), on_line: OnLine
    ) -> None:
        """One `apt-get install`, which may go back in version and past holds, and removes nothing."""
        flags = ("--no-remove", *(("--reinstall",) if reinstall else ()))
        _apt(
            machine, ["install", *OPTIONS, *ANY_VERSION, *flags, *self._only, *arguments(install), *reinstall], on_line
        )

    def restore(
        self, machine: Machine, *, install: Sequence[Spec], remove: Sequence[str], purge: Sequence[str], on_line: OnLine
    ) -> None:
        """One `apt-get install` for both directions (`name-` removes), then what is to leave no configuration is purged."""
        words = [*arguments(install), *(f"{name}-" for name in (*remove, *purge))]
        if words:
            _apt(machine, ["install", *OPTIONS, *ANY_VERSION, *words], on_line)
        # One that has left no configuration is gone already, and unknown to apt where its repository has gone before it.
        known = self.installed(Reader(machine)) if purge else {}
        left = [name for name in purge if name in known and known[name].state != "absent"]
        if left:
            _apt(machine, ["purge", *OPTIONS, *ANY_VERSION, *left], on_line)

    def repair(self, machine: Machine, reader: Reader, on_line: OnLine) -> None:
        """`dpkg --configure -a` when dpkg's own audit finds something half-done, then what was cut short while it was unpacked is installed
        once more, and `apt-get install --fix-broken` runs where packages lack others.

        Neither of them without need: they would configure once more what has just failed, a module that takes minutes to build perhaps.
        """
        if not reader.query(["dpkg", "--audit"]).stdout.strip():
            return
        done = machine.run(
            ["dpkg", "--configure", "-a", "--force-confold"], timeout=TRANSACTION_SECONDS, on_line=on_line
        )
        mended = self._reinstall_torn(machine, reader, on_line)
        fixing = reader.query(["apt-get", "--simulate", "install", "--fix-broken", "--yes"], timeout=120)
        if done.ok or not fixing.ok or SIMULATED.search(fixing.stdout):
            try:
                _apt(machine, ["install", *OPTIONS, *ANY_VERSION, "--no-remove", "--fix-broken"], on_line)
            except CommandError:
                if mended:
                    raise
        # apt mends a package by its name only where no other lacks something.
        mended = mended or self._reinstall_torn(machine, reader, on_line)
        reader.forget()
        if not (done.ok and mended) and reader.query(["dpkg", "--audit"]).stdout.strip():
            raise _error(done)

    def _reinstall_torn(self, machine: Machine, reader: Reader, on_line: OnLine) -> bool:
        """Install once more, at their own version or else at apt's candidate, the packages that were cut short while they came or went;
        whether none is left. apt itself takes them for installed where that version is the wanted one, even with `--fix-broken`.
        """
        reader.forget()
        torn = [each for each in self.installed(reader).values() if each.torn]
        exact = [f"{each.name}={each.version}" for each in torn if each.version]
        bare = [each.name for each in torn]
        for words in (exact, bare) if torn else ():
            argv = ["apt-get", "install", *OPTIONS, *ANY_VERSION, "--no-remove", "--reinstall", *words]
            if words and machine.run(argv, timeout=TRANSACTION_SECONDS, on_line=on_line).ok:
                return True
        return not torn

    def set_hold(self, machine: Machine, names: Sequence[str], *, held: bool) -> None:
        """`apt-mark hold` or `unhold`."""
        _mark(machine, "hold" if held else "unhold", names)

    def set_auto(self, machine: Machine, names: Sequence[str], *, auto: bool) -> None:
        """`apt-mark auto` or `manual`."""
        _mark(machine, "auto" if auto else "manual", names)

    def refresh_lists(self, machine: Machine, on_line: OnLine, source: str = "") -> None:
        """`apt-get update`, of one source file or of all.

        apt exits 0 with mere warnings for a dead or untrusted server, where it has older indices, unless told otherwise.
        """
        only = [*_only(source), "--option=APT::Get::List-Cleanup=false"] if source else []
        _apt(machine, ["update", f"--option=DPkg::Lock::Timeout={LOCK_WAIT_SECONDS}", "--error-on=any", *only], on_line)

    def install_scripts(self, reader: Reader, names: Sequence[str]) -> list[str]:
        """The preinst and postinst scripts that dpkg keeps."""
        paths = [f"{INFO}/{name}.{script}" for name in names for script in ("postinst", "preinst")]
        return [(reader.read(path) or b"").decode("utf-8", "replace") for path in paths]

    def files(self, reader: Reader, names: Sequence[str]) -> list[str]:
        """The lists that dpkg keeps."""
        texts = [(reader.read(f"{INFO}/{name}.list") or b"").decode("utf-8", "replace") for name in names]
        return [line for text in texts for line in text.splitlines()]

    def release_command(self, names: Sequence[str]) -> str:
        """`apt-mark unhold`."""
        return f"apt-mark unhold {' '.join(names)}"

    def removal_command(self, names: Sequence[str]) -> str:
        """`apt-get remove`."""
        return f"apt-get remove {' '.join(names)}"


def list_file_pattern(uri: str) -> str:
    """The shell pattern of the index that apt keeps for a flat repository: `/` becomes `_`, and `_` becomes `%5f`."""
    bare = uri.split("://", 1)[-1].rstrip("/")
    return bare.replace("_", "%5f").replace("/", "_") + "_*InRelease"


def _only(source: str) -> list[str]:
    """Options by which apt knows one source file and no other."""
    return [f"--option=Dir::Etc::SourceList={source}", "--option=Dir::Etc::SourceParts=-"]


def arguments(specs: Sequence[Spec]) -> list[str]:
    """`name`, or `name=version*`: apt takes a shell pattern, so the distribution's revision needs not be known."""
    return [f"{spec.name}={spec.version}{'' if spec.exact else '*'}" if spec.version else spec.name for spec in specs]


def _package(abbreviation: str, name: str, version: str, auto: frozenset[str]) -> Package:
    states = {"i": "installed", "c": "config-files", "n": "absent"}
    return Package(
        name=name,
        version=version,
        state=states.get(abbreviation[1:2], "half-installed"),
        auto=name in auto,
        held=abbreviation[:1] == "h",
        torn=abbreviation[1:2] == "H" or abbreviation[2:3] == "R",
    )


def _auto_marks(text: str) -> frozenset[str]:
    names = set()
    for paragraph in text.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in paragraph.splitlines())
        if fields.get("Auto-Installed") == "1":
            names.add(fields.get("Package", ""))
    return frozenset(names)


def _mark(machine: Machine, verb: str, names: Sequence[str]) -> None:
    if names:
        output = machine.run(["apt-mark", verb, *names], timeout=LOCK_WAIT_SECONDS)
        if not output.ok:
            raise _error(output)


def _apt(machine: Machine, words: Sequence[str], on_line: OnLine) -> None:
    output = machine.run(["apt-get", *words], timeout=TRANSACTION_SECONDS, on_line=on_line)
    if not output.ok:
        raise _error(output)


def _error(output: Output) -> CommandError:
    """apt's own `E:` lines are the message; the rest of what it printed last is the evidence."""
    text = f"{output.stdout}\n{output.stderr}"
    said = [line[3:].strip() for line in text.splitlines() if line.startswith("E: ")]
    distrusted = _bad_signatures(text)
    errors = [*_script_failures(text), *distrusted, *said]
    what = " ".join(output.argv[:2]) if output.argv[1:2] != ("--simulate",) else "apt-get install"
    message = f"{what} failed: {errors[0] if errors else f'exit status {output.returncode}'}"
    unknown = "Unable to locate package" in text or "was not found" in text
    kind = UnknownPackageError if unknown else CommandError
    evidence = (line for line in output.last_words(15) if not (distrusted and line.endswith(UNSIGNED)))
    return kind(message, hint=_hint(text), details=tuple(evidence))


def _script_failures(text: str) -> list[str]:
    """What dpkg says of packages that it could not unpack or configure, in words that name the package."""
    found = re.findall(r"^dpkg: error processing (?:package|archive) (\S+) \(--(\w+)\):\n (.+)$", text, re.MULTILINE)
    return [f"{name} ({verb}): {why}" for name, verb, why in found]


def _bad_signatures(text: str) -> list[str]:
    """Why apt takes a repository for unsigned: a warning says it, before the error that says only that it does."""
    found = re.findall(
        r"^W: (?:OpenPGP signature verification failed|GPG error): (\S+) +.*?InRelease: (.+)$", text, re.MULTILINE
    )
    return [f"{uri}: {' '.join(why.rpartition('error message is: ')[2].split())}" for uri, why in found]


EXPIRED_KEY = "the repository's signing key has expired: `gpunode check` says which; its publisher has a newer one"
DAMAGED = "what the mirror gives is not what its signed index promises: try again later, or use another mirror; nothing of it was installed"
WRONG_CLOCK = "is this host's clock right? see `timedatectl`"
HINTS = (
    ("Could not get lock", "another package manager is at work (unattended-upgrades?): try again when it has ended"),
    (
        "NOSPLIT",
        "the repository answered something that is no repository (a login page?): see repositories.* in the profile",
    ),
    ("NO_PUBKEY", "the repository is signed by a key that the profile and the catalogue do not name"),
    ("Missing key", "the repository is signed by a key that the profile and the catalogue do not name"),
    ("Not live until", WRONG_CLOCK),  # of a signature, or of a key that is not live yet
    ("EXPKEYSIG", EXPIRED_KEY),
    ("The primary key is not live", EXPIRED_KEY),
    (
        "is expired (invalid since",
        "the mirror has stopped following its original, or this host's clock is wrong: see `timedatectl`",
    ),
    ("Hash Sum mismatch", DAMAGED),
    ("File has unexpected size", DAMAGED),
    (
        "407 ",
        "the proxy asks for a user name, which no profile holds: name a proxy by network.proxy that lets this host through",
    ),
    ("certificate verify failed", "add your CA to the system's trust store (update-ca-certificates): apt has no other"),
    (
        "certificate is NOT trusted",
        "add your CA to the system's trust store (update-ca-certificates): apt has no other",
    ),
    ("not valid yet", WRONG_CLOCK),
    ("No space left on device", "free some space, then run the same command again: what was begun is finished first"),
    (
        "Could not connect",
        "is the mirror up, and a way to it? a proxy or a mirror is set in the profile: network.proxy, repositories",
    ),
    ("Could not resolve", "is there a network, and a name server? a proxy is set in the profile: network.proxy"),
    (
        "script subprocess",
        "a script of that package failed: mend what it says, then run the same command again, or `gpunode rollback`",
    ),
    (
        "needs to be reinstalled",
        "it lies there in half, and no repository has it: `dpkg --remove --force-remove-reinstreq NAME`, then run this again",
    ),
    ("Unable to locate package", "the repository does not have it: see driver.branch, cuda.version in the profile"),
    ("was not found", "the repository does not have that version: `apt-cache madison NAME` lists what it has"),
)


def _hint(text: str) -> str:
    return next((hint for words, hint in HINTS if words in text), "")
