"""In what dnf 4 and dnf 5 differ, as small as it can be: their words, and their lists of locks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gpunode.host.machine import Machine, OnLine, Output
from gpunode.host.packages.rpm import Rpm
from gpunode.host.reader import Reader

TRANSACTION_SECONDS = 3600.0
QUERY_SECONDS = 120.0
FIELDS = "%{name}|%{epoch}|%{version}|%{release}|%{arch}"
REASON_FIELDS = "%{name}|%{reason}"


@dataclass(frozen=True)
class Task:
    """What one transaction is asked for. `remove` and `reinstall` are names, or full names of kernels' packages."""

    install: Sequence[Rpm] = ()
    remove: Sequence[str] = ()
    reinstall: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.install or self.remove or self.reinstall)


@dataclass(frozen=True)
class Planned:
    """One package of a transaction as dnf foresees it: one that `comes` is new to the host, one that `goes` leaves it."""

    rpm: Rpm
    comes: bool = False
    goes: bool = False


class Locks(Protocol):
    """A format of the list of locks. All take and give the file's text."""

    PATH: str
    ALWAYS_THERE: bool
    """Whether a list without a lock is an empty file, and not none."""

    def any_lock(self, text: str) -> bool:
        """True when something is locked. Raises HostError when the list cannot be read."""

    def holds(self, text: str, rpm: Rpm) -> bool:
        """True when a lock keeps the package from being upgraded from the version that it has."""

    def forbids(self, text: str, rpm: Rpm) -> bool:
        """True when locks on the package's name take other versions, and not this one."""

    def with_held(self, text: str, rpms: Iterable[Rpm]) -> str:
        """The list with locks on these packages at their versions, each marked as gpunode's."""

    def without(self, text: str, rpms: Iterable[Rpm]) -> str:
        """The list without the locks that name just these versions; all else stays."""


class Dialect(Protocol):
    """The words of one generation of dnf."""

    locks: Locks
    local: tuple[str, ...]
    """Options of questions about the host, for which no index is needed."""
    past_locks: tuple[str, ...]
    """Options that go past the locks: those of others were refused, or found out of the way, by then."""

    def require_locking(self, reader: Reader) -> None:
        """Raises HostError where locks are not in force."""

    def offers(self, flags: Sequence[str], names: Sequence[str]) -> list[str]:
        """The query for all versions in the indices, a line of FIELDS each."""

    def reasons(self) -> list[str]:
        """The query for why each package is installed, a line of REASON_FIELDS each."""

    def foreseen(self, reader: Reader, task: Task, flags: Sequence[str]) -> tuple[list[Planned], Output]:
        """What dnf would do, asked so that nothing is done, and all that it said; nothing when it would do nothing, or cannot."""

    def carry_out(self, machine: Machine, task: Task, flags: Sequence[str], on_line: OnLine) -> Output:
        """Do it, in one transaction. The exit status need not tell whether it was done."""

    def begun(self, history: str) -> frozenset[str]:
        """Full names of what the transaction that `dnf history info` tells of was to install, if it never came to an end."""

    def mark(self, names: Sequence[str], *, auto: bool) -> list[str]:
        """The command that says why packages are installed."""


def full_name(each: Rpm) -> str:
    """`name-epoch:version-release.arch`, by which dnf takes no other."""
    return f"{each.name}-{each.version}.{each.architecture}"
