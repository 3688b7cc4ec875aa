"""Debian's and Ubuntu's packages: dpkg's database read by one query, changed by apt-get alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpunode.errors import CommandError, UnknownPackageError
from gpunode.host.machine import Machine, OnLine, Output
from gpunode.host.packages.base import Change, Package, Spec
from gpunode.host.reader import Reader

EXTENDED_STATES = "/var/lib/apt/extended_states"
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

ANY_VERSION = ("--allow-downgrades", "--allow-change-held-packages")


class Apt:
    """PackageManager for the apt family."""

    name = "apt"

    def installed(self, reader: Reader) -> dict[str, Package]:
        """Every package dpkg knows. One dpkg-query and one file."""
        fields = "${db:Status-Abbrev}|${Package}|${Version}|${Architecture}"
        output = reader.query_once(["dpkg-query", "--show", f"--showformat={fields}\\n"])
        if not output.ok:
            raise CommandError("dpkg's database cannot be read", details=output.last_words())
        auto = _auto_marks(reader.read_text(EXTENDED_STATES) or "")
        rows = [line.split("|") for line in output.stdout.splitlines()]
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
        words = [*_words(install), *(f"{name}-" for name in purge), *reinstall]
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
        output = reader.query([*argv, "--option=APT::Get::AutomaticRemove=false", *words], timeout=120)
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
        _apt(machine, ["install", *OPTIONS, *ANY_VERSION, *flags, *_words(install), *reinstall], on_line)

    def restore(
        self, machine: Machine, *, install: Sequence[Spec], remove: Sequence[str], purge: Sequence[str], on_line: OnLine
    ) -> None:
        """One `apt-get install` for both directions (`name-` removes), then what is to leave no configuration is purged."""
        words = [*_words(install), *(f"{name}-" for name in (*remove, *purge))]
        if words:
            _apt(machine, ["install", *OPTIONS, *ANY_VERSION, *words], on_line)
        if purge:
            _apt(machine, ["purge", *OPTIONS, *ANY_VERSION, *purge], on_line)

    def repair(self, machine: Machine, reader: Reader, on_line: OnLine) -> None:
        """`dpkg --configure -a`, then `apt-get install --fix-broken`, when dpkg's own audit finds something half-done."""
        if not reader.query(["dpkg", "--audit"]).stdout.strip():
            return
        done = machine.run(
            ["dpkg", "--configure", "-a", "--force-confold"], timeout=TRANSACTION_SECONDS, on_line=on_line
        )
        _apt(machine, ["install", *OPTIONS, *ANY_VERSION, "--no-remove", "--fix-broken"], on_line)
        reader.forget()
        if not done.ok and reader.query(["dpkg", "--audit"]).stdout.strip():
            raise _error(done)

    def set_hold(self, machine: Machine, names: Sequence[str], *, held: bool) -> None:
        """`apt-mark hold` or `unhold`."""
        _mark(machine, "hold" if held else "unhold", names)

    def set_auto(self, machine: Machine, names: Sequence[str], *, auto: bool) -> None:
        """`apt-mark auto` or `manual`."""
        _mark(machine, "auto" if auto else "manual", names)

    def refresh_lists(self, machine: Machine, on_line: OnLine, source: str = "") -> None:
        """`apt-get update`, of one source file or of all.

        apt exits 0 with mere warnings for a dead or untrusted server unless told otherwise. For one source that is an error;
        for all it is not: somebody else's broken repository is no reason to stop.
        """
        words = ["update", f"--option=DPkg::Lock::Timeout={LOCK_WAIT_SECONDS}"]
        if source:
            words += ["--error-on=any", f"--option=Dir::Etc::SourceList={source}", "--option=Dir::Etc::SourceParts=-"]
            words += ["--option=APT::Get::List-Cleanup=false"]
            _apt(machine, words, on_line)
        else:
            machine.run(["apt-get", *words], timeout=TRANSACTION_SECONDS, on_line=on_line)


def list_file_pattern(uri: str) -> str:
    """The shell pattern of the index that apt keeps for a flat repository: `/` becomes `_`, and `_` becomes `%5f`."""
    bare = uri.split("://", 1)[-1].rstrip("/")
    return bare.replace("_", "%5f").replace("/", "_") + "_*InRelease"


def _words(specs: Sequence[Spec]) -> list[str]:
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
    errors = [line[3:].strip() for line in text.splitlines() if line.startswith("E: ")]
    what = " ".join(output.argv[:2]) if output.argv[1:2] != ("--simulate",) else "apt-get install"
    message = f"{what} failed: {errors[0] if errors else f'exit status {output.returncode}'}"
    unknown = "Unable to locate package" in text or "was not found" in text
    kind = UnknownPackageError if unknown else CommandError
    return kind(message, hint=_hint(text), details=output.last_words(15))


HINTS = (
    ("Could not get lock", "another package manager is at work (unattended-upgrades?): try again when it has ended"),
    (
        "NOSPLIT",
        "the repository answered something that is no repository (a login page?): see repositories.* in the profile",
    ),
    ("NO_PUBKEY", "the repository is signed by a key that the profile and the catalogue do not name"),
    ("Missing key", "the repository is signed by a key that the profile and the catalogue do not name"),
    ("not valid yet", "is this host's clock right? see `timedatectl`"),
    ("is not live until", "is this host's clock right? see `timedatectl`"),
    ("No space left on device", "free some space, then run the same command again: what was begun is finished first"),
    ("Could not resolve", "is there a network, and a name server? a proxy is set in the profile: network.proxy"),
    ("Unable to locate package", "the repository does not have it: see driver.branch, cuda.version in the profile"),
    ("was not found", "the repository does not have that version: `apt-cache madison NAME` lists what it has"),
)


def _hint(text: str) -> str:
    return next((hint for words, hint in HINTS if words in text), "")
