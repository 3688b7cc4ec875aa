"""Effects, numbered: the points at which a process can be killed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Moment = Literal["before", "torn", "after"]
MOMENTS: tuple[Moment, ...] = ("before", "torn", "after")


class Crash(BaseException):
    """SIGKILL: no handler of the product may see it as an error of the machine."""


class Effects:
    """Counts effects, and ends the process at one of them when told so. `names` says what they were."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._crash_at = 0
        self._moment: Moment = "before"

    @property
    def count(self) -> int:
        """How many effects there were since the last `restart`."""
        return len(self.names)

    def restart(self) -> None:
        """Count from 0 again, without a crash to come."""
        self.names, self._crash_at = [], 0

    def crash_at(self, number: int, moment: Moment = "before") -> None:
        """Raise Crash at the effect of this number, from 1: before it, in the middle of it, or just after it."""
        self.restart()
        self._crash_at, self._moment = number, moment

    def do(self, name: str, change: Callable[[], None], torn: Callable[[], None] | None = None) -> None:
        """One effect. `torn` is what a crash in its middle leaves; without it the effect is atomic and did not happen."""
        self.names.append(name)
        if self.count != self._crash_at:
            change()
            return
        if self._moment == "after":
            change()
        elif self._moment == "torn" and torn:
            torn()
        raise Crash(f"{self._moment} effect {self.count}: {name}")
