"""Effects, numbered: the points at which a process can be killed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Moment = Literal["before", "torn", "after"]


class Crash(BaseException):
    """SIGKILL: no handler of the product may see it as an error of the machine."""


class Effects:
    """Counts effects, and ends the process at one of them when told so.

    `names` says what they were, `tearable` which of them have a middle.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.tearable: list[int] = []
        self._crash_at = 0
        self._moment: Moment = "before"

    def points(self) -> list[tuple[int, Moment]]:
        """Where a process that did just these effects can be killed: before each, in those that tear, and after the last."""
        torn: list[tuple[int, Moment]] = [(number, "torn") for number in self.tearable]
        return [*((number, "before") for number in range(1, self.count + 1)), *torn, (self.count, "after")]

    @property
    def count(self) -> int:
        """How many effects there were since the last `restart`."""
        return len(self.names)

    def restart(self) -> None:
        """Count from 0 again, without a crash to come."""
        self.names, self.tearable, self._crash_at = [], [], 0

    def crash_at(self, number: int, moment: Moment = "before") -> None:
        """Raise Crash at the effect of this number, from 1: before it, in the middle of it, or just after it."""
        self.restart()
        self._crash_at, self._moment = number, moment

    def do(self, name: str, change: Callable[[], None], torn: Callable[[], None] | None = None) -> None:
        """One effect. `torn` is what a crash in its middle leaves; without it the effect is atomic and did not happen."""
        self.names.append(name)
        if torn:
            self.tearable.append(self.count)
        if self.count != self._crash_at:
            change()
            return
        if self._moment == "after":
            change()
        elif self._moment == "torn" and torn:
            torn()
        raise Crash(f"{self._moment} effect {self.count}: {name}")
