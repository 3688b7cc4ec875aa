"""zypper of SLES and openSUSE Leap: rpm's database read by rpm, changed by zypper alone, its answers read as XML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from gpunode.errors import CommandError, HostError, UnknownPackageError
from gpunode.host.machine import FileStat, Machine, OnLine, Output
from gpunode.host.packages import rpm, zypper_locks
from gpunode.host.packages.base import Change, Package, Spec
from gpunode.host.packages.rpm import Rpm
from gpunode.host.reader import Reader

LOCKS = "/etc/zypp/locks"
AUTO = "/var/lib/zypp/AutoInstalled"
CONFS = ("/etc/zypp/zypp.conf", "/usr/etc/zypp/zypp.conf")
QUERY_SECONDS = 120.0
TRANSACTION_SECONDS = 3600.0
ENVIRONMENT = {"ZYPP_LOCK_TIMEOUT": "300"}  # seconds; without it zypper gives up at once

# Indices are fetched when gpunode says so, not in between: what was simulated is what is done.
BASE = ("zypper", "--non-interactive", "--no-refresh")
OPTIONS = ("--auto-agree-with-licenses", "--no-recommends", "--oldpackage", "--force-resolution")
# Exit statuses that are news, not failures: updates and patches there are, a reboot or restart is due, a repository was left out.
DONE = (0, 100, 101, 102, 103, 106)
NOT_FOUND = 104

SECTIONS = ("to-install", "to-upgrade", "to-downgrade", "to-reinstall", "to-remove")


class Zypper(rpm.Database):
    """PackageManager for the zypper family."""

    name = "zypper"
    programs: tuple[str, ...] = ("zypper", "rpm")

    def refusal(self, _reader: Reader) -> str:
        """None."""
        return ""

    def installed(self, reader: Reader) -> dict[str, Package]:
        """rpm's database, libzypp's list of what came along with others, and the locks."""
        locks, auto = reader.read_text(LOCKS) or "", frozenset(_names(reader.read_text(AUTO) or ""))
        return rpm.packages(rpm.installed(reader), auto, lambda each: zypper_locks.holds(locks, each.name))

    def candidates(self, reader: Reader, names: Sequence[str]) -> dict[str, str]:
        """The highest version in the indices."""
        return rpm.newest(_offers(reader, names), names)

    def simulate(
        self,
        reader: Reader,
        *,
        install: Sequence[Spec] = (),
        purge: Sequence[str] = (),
        reinstall: Sequence[str] = (),
        override_holds: bool = False,
    ) -> list[Change]:
        """What zypper would do, asked by `zypper install --dry-run`."""
        known = rpm.installed(reader)
        words = _words(_wanted(reader, install, known), _there(known, purge))
        found = _dry_run(reader, words, known, override_holds) if words else []
        if reinstall:
            found += _dry_run(reader, ["--force", *_same(known, reinstall)], known, override_holds)
        _require_unlocked(reader, found, known)
        return found

    def install(
        self, machine: Machine, *, install: Sequence[Spec], reinstall: Sequence[str] = (), on_line: OnLine
    ) -> None:
        """`zypper install` of exact versions, which also goes back in version; locks on what changes are lifted."""
        reader = Reader(machine)
        known = rpm.installed(reader)
        wanted = _wanted(reader, install, known)
        if wanted:
            _lift_locks(machine, self.simulate(reader, install=install, override_holds=True))
            output = _zypper(machine, ["install", *OPTIONS, *_words(wanted, ())], on_line)
            reader.forget()
            rpm.require(rpm.installed(reader), wanted, "zypper", output.last_words())
        if reinstall:
            _zypper(machine, ["install", *OPTIONS, "--force", *_same(known, reinstall)], on_line)

    def restore(
        self, machine: Machine, *, install: Sequence[Spec], remove: Sequence[str], purge: Sequence[str], on_line: OnLine
    ) -> None:
        """One `zypper install` for both directions: `!name` removes."""
        reader = Reader(machine)
        known = rpm.installed(reader)
        going = _there(known, (*remove, *purge))
        wanted = _wanted(reader, install, known)
        if not wanted and not going:
            return
        _lift_locks(machine, self.simulate(reader, install=install, purge=going, override_holds=True))
        output = _zypper(machine, ["install", *OPTIONS, *_words(wanted, going)], on_line)
        reader.forget()
        left = _there(rpm.installed(reader), going)
        if left:
            raise CommandError(f"zypper did not remove {', '.join(left)}", details=output.last_words())
        rpm.require(rpm.installed(reader), wanted, "zypper", output.last_words())

    def repair(self, machine: Machine, reader: Reader, on_line: OnLine) -> None:
        """Remove the older halves of an interrupted upgrade."""
        rpm.repair(machine, reader, on_line)

    def set_hold(self, machine: Machine, names: Sequence[str], *, held: bool) -> None:
        """Locks by name, as `zypper addlock` makes them; only such are taken off."""
        if not names:
            return
        text = Reader(machine).read_text(LOCKS) or ""
        free = zypper_locks.without(text, names)
        _write_locks(machine, zypper_locks.with_held(free, names) if held else free)

    def set_auto(self, machine: Machine, names: Sequence[str], *, auto: bool) -> None:
        """libzypp's list of packages that came along with others: no command of zypper's changes it."""
        text = Reader(machine).read_text(AUTO) or ""
        marked = frozenset(_names(text))
        changed = marked | set(names) if auto else marked - set(names)
        if changed != marked:
            head = [line for line in text.splitlines() if line.startswith("# ")]
            _write(machine, AUTO, "\n".join([*head, "#", *sorted(changed), "#", ""]))

    def refresh_lists(self, machine: Machine, on_line: OnLine, source: str = "") -> None:
        """`zypper refresh`, of the repositories of one file or of all; its exit status tells when one fails."""
        ids = rpm.repository_ids(Reader(machine).read_text(source) or "") if source else []
        if source and not ids:
            raise HostError(f"{source} names no repository")
        argv = ["zypper", "--non-interactive", "refresh", *ids]
        output = machine.run(argv, timeout=TRANSACTION_SECONDS, env=ENVIRONMENT, on_line=on_line)
        if not output.ok:
            raise _error(output)

    def release_command(self, names: Sequence[str]) -> str:
        """`zypper removelock`."""
        return f"zypper removelock {' '.join(names)}"

    def removal_command(self, names: Sequence[str]) -> str:
        """`zypper remove`."""
        return f"zypper remove {' '.join(names)}"


def _offers(reader: Reader, names: Sequence[str]) -> list[Rpm]:
    """All versions of the packages in the indices."""
    if not names:
        return []
    # A kernel's package may be asked for by its full name, which no search knows.
    bare = dict.fromkeys(re.sub(r"-\d.*$", "", name) if rpm.INSTALLONLY.match(name) else name for name in names)
    options = ("--details", "--match-exact", "--type=package")
    output = reader.query([*BASE, "--xmlout", "search", *options, *bare], timeout=QUERY_SECONDS, env=ENVIRONMENT)
    if output.returncode not in (*DONE, NOT_FOUND):
        raise _error(output)
    native = (reader.architecture(), "noarch")
    rows = [item.attrib for item in _xml(output).iter("solvable")]
    return [
        Rpm(row["name"], row["edition"], row["arch"])
        for row in rows
        if row["arch"] in native and row["repository"] != "(System Packages)"
    ]


def _wanted(reader: Reader, specs: Sequence[Spec], known: Sequence[Rpm]) -> list[Rpm]:
    """Exact packages for the specs that what is installed does not satisfy."""
    missing = [spec for spec in specs if rpm.resolve_installed(spec, known) is None]
    offers = _offers(reader, [spec.name for spec in missing])
    return [rpm.resolve(spec, offers) for spec in missing]


def _words(wanted: Sequence[Rpm], remove: Sequence[str]) -> list[str]:
    return [*(f"{each.name}={each.version}" for each in wanted), *(f"!{name}" for name in remove)]


def _there(known: Sequence[Rpm], names: Iterable[str]) -> list[str]:
    return [name for name in names if any(each.answers_to(name) for each in known)]


def _same(known: Sequence[Rpm], names: Sequence[str]) -> list[str]:
    """The packages at the versions that they have: without one, --force brings the newest."""
    return [f"{each.name}={each.version}" for each in known if each.name in names]


def _dry_run(reader: Reader, words: Sequence[str], known: Sequence[Rpm], override_holds: bool) -> list[Change]:
    """The transaction's packages. Locks are left aside by a configuration that zypper reads from its standard input."""
    argv = [*BASE, "--xmlout", "install", "--dry-run", *OPTIONS, *words]
    conf = next((text for path in CONFS if (text := reader.read_text(path)) is not None), "")
    stdin = f"{conf}\n[main]\nlocksfile.apply = false\n" if override_holds else ""
    env = {**ENVIRONMENT, **({"ZYPP_CONF": "/dev/stdin"} if override_holds else {})}
    output = reader.query(argv, stdin=stdin, timeout=QUERY_SECONDS, env=env)
    if output.returncode not in DONE:
        raise _error(output)
    return [
        _change(section, item.attrib, known)
        for section in SECTIONS
        for part in _xml(output).iter(section)
        for item in part.iter("solvable")
        if item.get("type") == "package"
    ]


def _change(section: str, solvable: dict[str, str], known: Sequence[Rpm]) -> Change:
    each = Rpm(solvable["name"], solvable["edition"], solvable["arch"])
    if section == "to-remove":
        return Change(rpm.name_in_change(known, each, comes=False), each.version, "")
    named = rpm.name_in_change(known, each, comes=True) if section == "to-install" else each.name
    return Change(named, solvable.get("edition-old", ""), each.version)


def _require_unlocked(reader: Reader, changes: Sequence[Change], known: Sequence[Rpm]) -> None:
    """Locks on packages that are there are the caller's to judge; those on others keep them out."""
    text, there = reader.read_text(LOCKS) or "", {each.name for each in known}
    new = [change.name for change in changes if change.after and change.name not in there]
    locked = sorted(name for name in new if zypper_locks.holds(text, name))
    if locked:
        raise CommandError(
            f"a lock of zypper's keeps out {', '.join(locked)}",
            hint=f"release it with `zypper removelock {' '.join(locked)}` if that is what you want",
        )


def _lift_locks(machine: Machine, changes: Sequence[Change]) -> None:
    text = Reader(machine).read_text(LOCKS) or ""
    free = zypper_locks.without(text, [change.name for change in changes])
    if free != text:
        _write_locks(machine, free)


def _write_locks(machine: Machine, text: str) -> None:
    """A file without locks is none, as on a fresh host."""
    if text.strip():
        _write(machine, LOCKS, text)
    else:
        machine.remove(LOCKS)


def _write(machine: Machine, path: str, text: str) -> None:
    stat = machine.lstat(path) or FileStat(kind="file", mode=0o644)
    machine.write_atomic(path, text.encode(), stat=stat, temporary=f"{path}.gpunode")


def _names(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _zypper(machine: Machine, words: Sequence[str], on_line: OnLine) -> Output:
    output = machine.run([*BASE, *words], timeout=TRANSACTION_SECONDS, env=ENVIRONMENT, on_line=on_line)
    if output.returncode not in DONE:
        raise _error(output)
    return output


def _xml(output: Output) -> ElementTree.Element:
    """zypper's answer. It is the host's own program, and entities are not expanded from outside."""
    try:
        return ElementTree.fromstring(output.stdout)  # noqa: S314 - see above
    except ElementTree.ParseError as error:
        raise CommandError(f"zypper answered no XML: {error}", details=output.last_words()) from None


def _error(output: Output) -> CommandError:
    """zypper's own words: its problems, where it has some, before what it says last."""
    text = f"{output.stdout}\n{output.stderr}"
    if "<stream>" in output.stdout:
        messages = [item.text or "" for item in _xml(output).iter("message")]
        text = "\n".join([*messages, output.stderr])
    problems = re.findall(r"^(?:Problem: (?:\d+: )?|- )(.+)$", text, re.MULTILINE) + re.findall(
        r"(No provider of .+)", text
    )
    verb = next((word for word in output.argv[1:] if not word.startswith("-")), "")
    said = (problems or text.strip().splitlines()[-1:] or ["exit status"])[0].strip()
    kind = UnknownPackageError if output.returncode == NOT_FOUND else CommandError
    details = tuple(text.strip().splitlines()[-15:])
    return kind(f"zypper {verb} failed: {said} (exit status {output.returncode})", hint=_hint(text), details=details)


HINTS = (
    (
        "Signature verification failed",
        "the repository is signed by a key that the profile and the catalogue do not name",
    ),
    (
        "doesn't contain public key data",
        "the repository answered something that is no repository (a login page?): see repositories.* in the profile",
    ),
    (
        "Digest verification failed",
        "the package is not the one that the signed index names: a damaged or tampered mirror",
    ),
    ("ZYPP library is locked", "another package manager is at work: try again when it has ended"),
    ("System management is locked", "another package manager is at work: try again when it has ended"),
    ("SSL certificate", "add your CA to the system's trust store: zypper takes no other"),
    ("Could not resolve", "is there a network, and a name server? a proxy is set in the profile: network.proxy"),
    (
        "temporarily unaccessible",
        "the mirror does not answer as it should: try again later, or see repositories.* in the profile",
    ),
    ("No space left on device", "free some space, then run the same command again: what was begun is finished first"),
    ("No provider of", "the repository does not have it: see driver.branch, cuda.version in the profile"),
)


def _hint(text: str) -> str:
    return next((hint for words, hint in HINTS if words in text), "")
