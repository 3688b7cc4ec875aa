"""What only a boot brings about."""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.errors import RebootRequiredError
from gpunode.host.facts import LoadedDriver, loaded_driver
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import BootNeed, Difference, Local

WHY = "driver.load = false in the profile: the driver is loaded by the next boot"


@dataclass(frozen=True)
class DriverAtBoot(Local):
    """The driver running at a version that a boot, and nothing else, is to load. A version without a dot takes all of its branch."""

    version: str

    @property
    def id(self) -> str:
        """`boot:nvidia`."""
        return "boot:nvidia"

    def observe(self, host: Reader) -> LoadedDriver | None:
        """The driver that runs now."""
        return loaded_driver(host)

    def differences(self, state: LoadedDriver | None) -> list[Difference]:
        """None loaded, or another."""
        if state and (state.version == self.version or state.version.startswith(f"{self.version}.")):
            return []
        found = f"loaded, {state.version}" if state else "not loaded"
        return [Difference("nvidia", found, f"{self.version} after the next boot", WHY)]

    def boot_need(self, _host: Reader, _state: LoadedDriver | None) -> BootNeed | None:
        """The profile wants it so."""
        return BootNeed(f"driver.load = false in the profile: driver {self.version} is loaded by the next boot")

    def converge(self, _host: Writer, _state: LoadedDriver | None) -> None:
        """Ask for the reboot. Raises RebootRequiredError."""
        raise RebootRequiredError(f"driver {self.version} is not loaded before the next boot")
