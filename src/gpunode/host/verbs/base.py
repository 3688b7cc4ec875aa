"""What a verb is: one kind of change to the host that knows, before it acts, how it will be taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from gpunode.host.journal import Json
from gpunode.host.machine import Machine, OnBytes, OnLine
from gpunode.host.reader import Reader
from gpunode.host.state import Store

__all__ = ["Conflict", "FileView", "Hands", "Json", "Taken", "Verb"]


def _quiet(_line: str) -> None:
    """The default for progress: nobody is watching."""


def _forgotten(_data: Json) -> None:
    """The default for notes: there is no journal to note them in."""


@dataclass
class Hands:
    """What a verb may act with. `on_line` gets a long command's output as it comes, `on_bytes` a download's progress.

    `aside` notes in the journal, durably, what an undo has found out and would not find again after a crash.
    """

    machine: Machine
    reader: Reader
    store: Store
    on_line: OnLine = _quiet
    on_bytes: OnBytes | None = None
    force: bool = False
    aside: Callable[[Json], None] = _forgotten


@dataclass(frozen=True)
class Taken:
    """How an undo ended. `left` names what could not or should not be taken back, one sentence each."""

    left: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Conflict:
    """Why an undo cannot be done without losing somebody's edit; `diff` is what would be lost."""

    path: str
    why: str
    diff: str = ""


@dataclass
class FileView:
    """Files as a rollback would have them so far, so that it can be judged whole before it begins.

    Maps a path to its image (see images.py), None for absent; a path not in it is as the host has it.
    """

    images: dict[str, Json | None] = field(default_factory=dict)


class Verb(Protocol):
    """One kind of change. Instances are the change wanted; the class functions undo it from what the journal holds."""

    name: ClassVar[str]
    deferred: ClassVar[bool]
    """True when its undo belongs after all others of the rollback: a restart, once the files are as they were."""

    def intent(self, hands: Hands) -> Json | None:
        """All that acting and undoing need, read from the host now; None when there is nothing to do."""

    def act(self, hands: Hands, intent: Json) -> None:
        """Do it. Raises HostError. May be cut short at any instant."""

    @classmethod
    def conflict(cls, hands: Hands, intent: Json, view: FileView) -> Conflict | None:
        """What stands in the way of undoing; advances `view` as if it had been undone."""

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Take it back, whether it had happened wholly, in part or not at all. Doing it twice is doing it once."""


class NeverConflicts:
    """A verb whose undo stands in nobody's way: there is no text of somebody's that it could lose. Not deferred, unless it says so."""

    deferred: ClassVar[bool] = False

    @classmethod
    def conflict(cls, _hands: Hands, _intent: Json, _view: FileView) -> Conflict | None:
        """None ever."""
        return None
