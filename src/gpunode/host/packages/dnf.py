"""dnf of RHEL and its rebuilds, Fedora and Amazon Linux: rpm's database read by rpm, changed by dnf alone, each generation in its dialect.

Where dnf can fail in silence (an unreachable repository, a locked version: `Nothing to do.`, exit status 0), it is told not to, or what
it has done is compared with what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpunode.errors import CommandError, HostError
from gpunode.host.machine import FileStat, Machine, OnLine, Output
from gpunode.host.packages import dnf5, dnf_errors, rpm
from gpunode.host.packages.base import Change, Package, Spec
from gpunode.host.packages.dnf4 import Dnf4
from gpunode.host.packages.dnf5 import Dnf5
from gpunode.host.packages.dnf_dialect import (
    QUERY_SECONDS,
    TRANSACTION_SECONDS,
    Dialect,
    Locks,
    Planned,
    Task,
    full_name,
)
from gpunode.host.packages.rpm import Rpm
from gpunode.host.reader import Reader

DEPENDENCY = ("dependency", "weak-dependency", "weak dependency")

# Indices are fetched when gpunode says so, not in between: what was simulated is what is done.
OPTIONS = (
    "--setopt=*.metadata_expire=never",
    "--setopt=install_weak_deps=False",
    "--setopt=best=True",
    "--setopt=clean_requirements_on_remove=False",
)
# A version that a rollback goes back to may be of the stream that is enabled again only after it.
ANY_STREAM = ("--setopt=*.module_hotfixes=1",)


class Dnf(rpm.Database):
    """PackageManager for the dnf family."""

    name = "dnf"
    programs: tuple[str, ...] = ("dnf", "dnf5", "rpm")

    def refusal(self, reader: Reader) -> str:
        """The first releases of dnf 5 cannot do what dnf 4's shell does, nor anything in its place."""
        version = dnf5.too_old(reader) if _is_dnf5(reader) else ""
        if not version:
            return ""
        return f"this host's dnf 5 is {version}, and gpunode needs {dnf5.FIRST} or newer: update it first, with `dnf upgrade dnf5`"

    def installed(self, reader: Reader) -> dict[str, Package]:
        """rpm's database, the reasons that dnf keeps, and its list of locks."""
        locks = _dialect(reader).locks
        text = _text_of(reader, locks.PATH)
        return rpm.packages(rpm.installed(reader), _dependencies(reader), lambda each: locks.holds(text, each))

    def candidates(self, reader: Reader, names: Sequence[str]) -> dict[str, str]:
        """The highest version in the indices, those of streams that are not enabled left out."""
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
        """What dnf would do, asked so that nothing is done."""
        changes, _ = self._planned(reader, install, purge, reinstall, override_holds=override_holds)
        return changes

    def _planned(
        self,
        reader: Reader,
        install: Sequence[Spec],
        purge: Sequence[str],
        reinstall: Sequence[str] = (),
        *,
        override_holds: bool = True,
    ) -> tuple[list[Change], tuple[str, ...]]:
        """The changes and the options that they take: locks are gone past only where there is no way within them."""
        if refused := self.refusal(reader):
            raise HostError(refused)
        known = rpm.installed(reader)
        gone = [name for name in purge if _named(known, name)]
        task = Task(_wanted(reader, install, known), gone, reinstall)
        flags = (*OPTIONS, *(ANY_STREAM if any(spec.exact for spec in install) else ()))
        if not task:
            return [], flags
        dialect = _dialect(reader)
        try:
            return _simulated(reader, task, flags, known), flags
        except CommandError:
            if not override_holds or not dialect.locks.any_lock(_text_of(reader, dialect.locks.PATH)):
                raise
        flags = (*flags, *dialect.past_locks)
        changes = _simulated(reader, task, flags, known)
        _require_unlocked(reader, changes, known)
        return changes, flags

    def install(
        self, machine: Machine, *, install: Sequence[Spec], reinstall: Sequence[str] = (), on_line: OnLine
    ) -> None:
        """`dnf install` of exact versions, which also goes back in version, and `dnf reinstall`; locks of what changes are lifted."""
        reader = Reader(machine)
        wanted = _wanted(reader, install, rpm.installed(reader))
        if wanted:
            changes, flags = self._planned(reader, install, ())
            _lift_locks(machine, changes)
            output = _dnf(machine, ["install", "--assumeyes", *flags, *map(full_name, wanted)], on_line)
            reader.forget()
            rpm.require(rpm.installed(reader), wanted, "dnf", output.last_words())
        if reinstall:
            _dnf(machine, ["reinstall", "--assumeyes", *OPTIONS, *_dialect(reader).past_locks, *reinstall], on_line)

    def restore(
        self, machine: Machine, *, install: Sequence[Spec], remove: Sequence[str], purge: Sequence[str], on_line: OnLine
    ) -> None:
        """One transaction for both directions."""
        reader = Reader(machine)
        known = rpm.installed(reader)
        going = [name for name in (*remove, *purge) if _named(known, name)]
        task = Task(_wanted(reader, install, known), going)
        if not task:
            return
        changes, flags = self._planned(reader, install, going)
        _lift_locks(machine, changes)
        output = _dialect(reader).carry_out(machine, task, flags, on_line)
        reader.forget()
        left = [name for name in going if _named(rpm.installed(reader), name)]
        if not output.ok or left:
            raise dnf_errors.error(output, f"dnf did not remove {', '.join(left)}" if left else "")
        rpm.require(rpm.installed(reader), task.install, "dnf", output.last_words())

    def repair(self, machine: Machine, reader: Reader, on_line: OnLine) -> None:
        """Remove the older halves of an interrupted upgrade, and what an interrupted transaction was the first to install.

        rpm has such a package in its database before the package's script has run to its end (a module is built, say), and does not tell
        afterwards; so it is taken out, to be installed once more.
        """
        rpm.repair(machine, reader, on_line)
        begun = _begun(reader)
        rpm.erase(machine, reader, [each for each in rpm.installed(reader) if full_name(each) in begun], on_line)

    def set_hold(self, machine: Machine, names: Sequence[str], *, held: bool) -> None:
        """Entries of the list of locks, at the versions that are there. Raises HostError where locks are not in force."""
        if not names:
            return
        reader = Reader(machine)
        dialect = _dialect(reader)
        if held:
            dialect.require_locking(reader)
        rpms = [each for each in rpm.installed(reader) if each.name in names]
        free = dialect.locks.without(_text_of(reader, dialect.locks.PATH), rpms)
        _write_locks(machine, dialect.locks, dialect.locks.with_held(free, rpms) if held else free)

    def set_auto(self, machine: Machine, names: Sequence[str], *, auto: bool) -> None:
        """`dnf mark`."""
        if names:
            output = machine.run(_dialect(Reader(machine)).mark(names, auto=auto), timeout=QUERY_SECONDS)
            if not output.ok:
                raise dnf_errors.error(output)

    def refresh_lists(self, machine: Machine, on_line: OnLine, source: str = "") -> None:
        """`dnf makecache`, of the repositories of one file or of all.

        With `skip_if_unavailable`, and an older cache at hand, dnf succeeds though the server is dead: for one file it is not let to.
        """
        if not source:
            _dnf(machine, ["makecache", "--assumeyes", "--refresh"], on_line)
            return
        ids = rpm.repository_ids(Reader(machine).read_text(source) or "")
        if not ids:
            raise HostError(f"{source} names no repository")
        flags = [word for each in ids for word in (f"--repo={each}", f"--setopt={each}.skip_if_unavailable=False")]
        _dnf(machine, ["makecache", "--assumeyes", "--refresh", *flags], on_line)

    def release_command(self, names: Sequence[str]) -> str:
        """`dnf versionlock delete`."""
        return f"dnf versionlock delete {' '.join(names)}"

    def removal_command(self, names: Sequence[str]) -> str:
        """`dnf remove`."""
        return f"dnf remove {' '.join(names)}"


def streams(reader: Reader, module: str) -> list[str]:
    """The streams of a module that the indices offer: rows `NAME STREAM [e] PROFILES SUMMARY`."""
    output = reader.query(["dnf", "module", "list", "--quiet", *OPTIONS, module], timeout=QUERY_SECONDS)
    return re.findall(rf"^{re.escape(module)}\s+(\S+)", output.stdout, re.MULTILINE)


def _is_dnf5(reader: Reader) -> bool:
    return reader.realpath("/usr/bin/dnf").endswith(dnf5.PROGRAM)


def _dialect(reader: Reader) -> Dialect:
    return Dnf5() if _is_dnf5(reader) else Dnf4()


def _dependencies(reader: Reader) -> frozenset[str]:
    """Packages that came along with others."""
    output = reader.query_once(_dialect(reader).reasons())
    rows = [line.partition("|") for line in output.stdout.splitlines()]
    return frozenset(name for name, _, reason in rows if reason.lower() in DEPENDENCY)


def _begun(reader: Reader) -> frozenset[str]:
    """What dnf's last transaction was to install, if it never came to an end."""
    dialect = _dialect(reader)
    output = reader.query(["dnf", "history", "info", "last", *dialect.local], timeout=QUERY_SECONDS)
    return dialect.begun(output.stdout)


def _offers(reader: Reader, names: Sequence[str], *, any_stream: bool = False) -> list[Rpm]:
    """All versions of the packages in the indices."""
    if not names:
        return []
    flags = (*OPTIONS, *(ANY_STREAM if any_stream else ()))
    output = reader.query(_dialect(reader).offers(flags, names), timeout=QUERY_SECONDS)
    if not output.ok:
        raise dnf_errors.error(output)
    rows = [line.split("|") for line in output.stdout.splitlines() if line.count("|") == 4]
    native = (reader.architecture(), "noarch")
    return [
        Rpm(name, rpm.with_epoch(epoch, version, release), architecture)
        for name, epoch, version, release, architecture in rows
        if architecture in native
    ]


def _wanted(reader: Reader, specs: Sequence[Spec], known: Sequence[Rpm]) -> list[Rpm]:
    """Exact packages for the specs that what is installed does not satisfy."""
    missing = [spec for spec in specs if rpm.resolve_installed(spec, known) is None]
    any_stream = any(spec.exact for spec in specs)
    offers = _offers(reader, [spec.name for spec in missing], any_stream=any_stream)
    return [rpm.resolve(spec, offers) for spec in missing]


def _named(known: Sequence[Rpm], name: str) -> bool:
    return any(each.answers_to(name) for each in known)


def _simulated(reader: Reader, task: Task, flags: Sequence[str], known: Sequence[Rpm]) -> list[Change]:
    """What dnf would do. Raises CommandError when that is not what is wanted."""
    planned, output = _dialect(reader).foreseen(reader, task, flags)
    changes = [_change(each, known) for each in planned]
    _require_planned(output, task.install, changes)
    return changes


def _change(planned: Planned, known: Sequence[Rpm]) -> Change:
    each, aside = planned.rpm, planned.comes or planned.goes
    before = "" if planned.comes else next((old.version for old in reversed(known) if old.name == each.name), "")
    name = rpm.name_in_change(known, each, comes=planned.comes) if aside else each.name
    return Change(name, before, "" if planned.goes else each.version)


def _require_planned(output: Output, wanted: Sequence[Rpm], changes: Sequence[Change]) -> None:
    planned = {change.after for change in changes}
    if not changes or any(each.version not in planned for each in wanted):
        raise dnf_errors.error(output, f"dnf would not install {' '.join(map(full_name, wanted))}" if wanted else "")


def _require_unlocked(reader: Reader, changes: Sequence[Change], known: Sequence[Rpm]) -> None:
    """Locks on packages that are there are the caller's to judge; those on others keep them out."""
    locks = _dialect(reader).locks
    text = _text_of(reader, locks.PATH)
    new = [Rpm(change.name, change.after) for change in changes if change.after and not _named(known, change.name)]
    locked = sorted(each.name for each in new if locks.forbids(text, each))
    if locked:
        raise CommandError(
            f"{locks.PATH} keeps out the version wanted of {', '.join(locked)}",
            hint=f"release it with `dnf versionlock delete {' '.join(locked)}`, or ask for the locked version in the profile",
        )


def _text_of(reader: Reader, path: str) -> str:
    return reader.read_text(path) or ""


def _lift_locks(machine: Machine, changes: Sequence[Change]) -> None:
    """Take off the locks at the versions that packages are leaving: they would keep out the new ones from then on."""
    reader = Reader(machine)
    names = {change.name for change in changes if change.before and change.after}
    locks = _dialect(reader).locks
    text = _text_of(reader, locks.PATH)
    free = locks.without(text, [each for each in rpm.installed(reader) if each.name in names])
    if free != text:
        _write_locks(machine, locks, free)


def _write_locks(machine: Machine, locks: Locks, text: str) -> None:
    if not text and not locks.ALWAYS_THERE:
        machine.remove(locks.PATH)
        return
    stat = machine.lstat(locks.PATH) or FileStat(kind="file", mode=0o644)
    machine.write_atomic(locks.PATH, text.encode(), stat=stat, temporary=f"{locks.PATH}.gpunode")


def _dnf(machine: Machine, words: Sequence[str], on_line: OnLine) -> Output:
    output = machine.run(["dnf", *words], timeout=TRANSACTION_SECONDS, on_line=on_line)
    if not output.ok:
        raise dnf_errors.error(output)
    return output
