"""What a resource is: a noun of the host that can observe itself, tell its differences, and converge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from gpunode.host.gpu_users import GpuUser
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer


@dataclass(frozen=True)
class Difference:
    """One respect in which the host is not as wanted.

    `field` names it within the resource; `found` and `wanted` are for people; `diff` is a unified diff where there is text to show.
    """

    field: str
    found: str
    wanted: str
    why: str
    diff: str = ""


@dataclass(frozen=True)
class Consequences:
    """What converging brings with it, for the plan: units restarted, what cannot be undone, in those words, and how it is gone about."""

    restarts: tuple[str, ...] = ()
    irreversible: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BootNeed:
    """Why a reboot is needed before a resource can be brought in sync, and who uses the GPUs where that is the reason."""

    why: str
    users: tuple[GpuUser, ...] = ()


class Resource(Protocol):
    """A noun of the host. Frozen data: what is wanted. `observe` reads only; `converge` changes through the Writer's verbs only."""

    @property
    def id(self) -> str:
        """`kind:name`, unique within a profile: `file:/etc/profile.d/cuda.sh`."""

    def observe(self, host: Reader) -> Any:
        """What is there now, as whatever `differences` and `converge` need. Raises HostError when it cannot be known."""

    def differences(self, state: Any) -> list[Difference]:
        """How the observed state differs from what is wanted; empty when in sync."""

    def consequences(self, state: Any) -> Consequences:
        """What converging from the observed state brings with it."""

    def remarks(self, state: Any) -> tuple[str, ...]:
        """What a person should know of the observed state, be it in sync or not; one sentence each."""

    def boot_need(self, host: Reader, state: Any) -> BootNeed | None:
        """Why the observed state cannot be brought in sync in this boot; None where it can, as far as one sees."""

    def foresee(self, host: Reader, state: Any) -> None:
        """Try beforehand what can be tried without changing anything: is the key the pinned one, does the mirror answer?

        Called for every resource that differs before the first change is made. Raises HostError.
        """

    def converge(self, host: Writer, state: Any) -> None:
        """Make it so. Called only when there are differences. Raises HostError."""


NO_CONSEQUENCES = Consequences()


class Local:
    """Defaults for a resource that needs nothing from outside the host, restarts nothing, and waits for no boot."""

    def remarks(self, _state: Any) -> tuple[str, ...]:
        """None."""
        return ()

    def boot_need(self, _host: Reader, _state: Any) -> BootNeed | None:
        """None ever."""
        return None

    def foresee(self, host: Reader, state: Any) -> None:
        """Nothing outside the host is needed."""

    def consequences(self, _state: Any) -> Consequences:
        """None."""
        return NO_CONSEQUENCES
