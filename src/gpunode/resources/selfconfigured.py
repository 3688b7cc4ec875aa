"""An engine that configures itself: k3s and RKE2 add the nvidia runtime to their generated config when they start and find its binary."""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.errors import HostError
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import Consequences, Difference, Local

WHY = "the engine looks for the nvidia runtime once, when it starts"


@dataclass(frozen=True)
class SelfConfigured(Local):
    """A generated config that names the runtime; the unit restarted while it does not."""

    path: str
    unit: str
    runtime: str
    restart_timeout: int

    @property
    def id(self) -> str:
        """`generated:PATH`."""
        return f"generated:{self.path}"

    def observe(self, host: Reader) -> bool:
        """Whether the generated file names the runtime."""
        return f"runtimes.{self.runtime}" in (host.read_text(self.path) or "").replace("'", "").replace('"', "")

    def differences(self, state: bool) -> list[Difference]:
        """It does not."""
        return [] if state else [Difference(f"runtimes.{self.runtime}", "absent", "present", WHY)]

    def consequences(self, _state: bool) -> Consequences:
        """A restart of the engine's unit."""
        return Consequences(restarts=(self.unit,))

    def converge(self, host: Writer, _state: bool) -> None:
        """Restart it. Raises HostError when the file still does not name the runtime."""
        host.restart_service(self.unit, timeout=self.restart_timeout)
        if not self.observe(host):
            raise HostError(
                f"{self.unit} was restarted and its {self.path} still names no runtime {self.runtime}",
                hint="does it find /usr/bin/nvidia-container-runtime? see its log",
            )
