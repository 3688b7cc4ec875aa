"""The driver's own answer, through NVML: the version that was asked for, and every GPU that PCI shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpunode.errors import HostError
from gpunode.host.packages.base import version_matches
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import Difference, Local

WHY = "the driver works when its library and its module agree and it shows every GPU"
HINTS = {
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "the running module is of another version than the library: reboot, or reload the modules",
    "NVML_ERROR_DRIVER_NOT_LOADED": "see `dmesg | grep NVRM`",
    "DID_NOT_ANSWER": "a GPU that hangs its callers has often fallen off the bus: see `dmesg | grep Xid`",
}


@dataclass(frozen=True)
class DriverAnswer(Local):
    """NVML answers with a driver version (any, when empty) and a number of GPUs, within `timeout` seconds."""

    version: str
    gpus: int
    timeout: int

    @property
    def id(self) -> str:
        """`nvml:driver`."""
        return "nvml:driver"

    def observe(self, host: Reader) -> dict[str, Any]:
        """Ask NVML in a child process."""
        return host.probe("nvml", timeout=self.timeout)

    def differences(self, state: dict[str, Any]) -> list[Difference]:
        """An error, another version, or fewer GPUs than PCI shows."""
        if "error" in state or not {"driver_version", "gpus"} <= state.keys():
            told = state.get("error", {}).get("message", "an answer that cannot be understood")
            return [Difference("answer", told, self._wanted(), WHY)]
        found = []
        if not version_matches(state["driver_version"], self.version):
            found.append(Difference("driver version", state["driver_version"], self.version, WHY))
        if len(state["gpus"]) != self.gpus:
            found.append(Difference("GPUs", str(len(state["gpus"])), f"{self.gpus}, as PCI shows", WHY))
        return found

    def converge(self, _host: Writer, state: dict[str, Any]) -> None:
        """What brings it about has been done by now: that it still differs is an error. Raises HostError."""
        difference = self.differences(state)[0]
        name = state.get("error", {}).get("name", "")
        raise HostError(
            f"the driver does not answer as wanted: {difference.field} is {difference.found}, wanted {difference.wanted}",
            hint=HINTS.get(name, "see `nvidia-smi` and `dmesg | grep NVRM`"),
        )

    def _wanted(self) -> str:
        return f"driver {self.version or 'loaded'}, {self.gpus} GPU{'' if self.gpus == 1 else 's'}"
