"""systemd units: enabled and running."""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.host import systemd
from gpunode.host.reader import Reader
from gpunode.host.systemd import Unit
from gpunode.host.writer import Writer
from gpunode.resources.base import Difference, Local


@dataclass(frozen=True)
class Service(Local):
    """A unit that is enabled and active."""

    unit: str
    why: str

    @property
    def id(self) -> str:
        """`service:UNIT`."""
        return f"service:{self.unit}"

    def observe(self, host: Reader) -> Unit:
        """The unit as systemd has it."""
        return systemd.unit(host, self.unit)

    def differences(self, state: Unit) -> list[Difference]:
        """Not enabled, not active."""
        found = []
        if not state.enabled:
            found.append(Difference("enabled", "absent" if not state.loaded else "disabled", "enabled", self.why))
        if not state.active:
            found.append(Difference("active", "absent" if not state.loaded else state.state, "active", self.why))
        return found

    def converge(self, host: Writer, _state: Unit) -> None:
        """Enable and start it."""
        host.enable_service(self.unit)
