"""The CDI specification of this host's GPUs, written and kept current by the container toolkit's own units."""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.errors import HostError
from gpunode.host import cdi, systemd
from gpunode.host.cdi import FoundSpecification
from gpunode.host.reader import Reader
from gpunode.host.systemd import Unit
from gpunode.host.writer import Writer
from gpunode.resources.base import Difference, Local

PATH_UNIT = "nvidia-cdi-refresh.path"
SERVICE = "nvidia-cdi-refresh.service"
UNITS_SINCE = "1.18.0"
"""The container toolkit's first release that has them."""
START_LIMIT_SECONDS = 10
"""So long systemd refuses a service that it has started five times, as it does with this one while a driver is being replaced."""
POLL_SECONDS = 0.5
LOG_LINES = 8


def refusal(toolkit: str) -> str:
    """Why a toolkit that has no units to write a specification is no choice where CDI is wanted, with the nearest one that is."""
    return (
        f"container toolkit {toolkit} keeps no CDI specification, its {SERVICE} came with {UNITS_SINCE}: "
        f'container_toolkit.version = "{UNITS_SINCE}" or newer, or leave container_toolkit.mode and containerd.cdi unset'
    )


@dataclass(frozen=True)
class CdiState:
    """The specification that engines find, None where they find none, and the toolkit's two units."""

    found: FoundSpecification | None
    path_unit: Unit
    service: Unit

    @property
    def fits(self) -> bool:
        """True when there is a specification, and the host is as it says."""
        return self.found is not None and not self.found.faults

    @property
    def kept(self) -> bool:
        """True when nobody but its owner has to keep it: a fitting one in /etc, or of a toolkit without the units."""
        lasting = self.found is not None and self.found.path.startswith("/etc/")
        return self.fits and (lasting or not self.service.loaded)


@dataclass(frozen=True)
class CdiSpec(Local):
    """A specification of nvidia.com/gpu that fits the host: its driver, its nodes, its libraries."""

    why: str

    @property
    def id(self) -> str:
        """`cdi:nvidia.com/gpu`."""
        return f"cdi:{cdi.KIND}"

    def observe(self, host: Reader) -> CdiState:
        """The specification held against the host, and the units. Raises HostError."""
        units = systemd.show(host, (PATH_UNIT, SERVICE))
        return CdiState(cdi.specification(host), units[PATH_UNIT], units[SERVICE])

    def differences(self, state: CdiState) -> list[Difference]:
        """None there, one that no longer fits, or nobody to keep it current."""
        differences = []
        if state.found is None:
            differences.append(Difference("specification", "absent", "there", self.why))
        elif state.found.faults:
            faults = state.found.faults
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            differences.append(
                Difference(state.found.path, f"{faults[0]}{more}", "one that fits this host's driver", self.why)
            )
        if not state.kept:
            differences += _unit_differences(state)
        return differences

    def converge(self, host: Writer, state: CdiState) -> None:
        """Enable the units and have them write it; the file is theirs. Raises HostError with their words when they do not."""
        if not state.service.loaded:
            raise HostError(
                f"this container toolkit has no {SERVICE}, which writes the CDI specification; it came with {UNITS_SINCE}",
                hint="a newer container_toolkit.version in the profile, or by hand: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
            )
        host.enable_service(PATH_UNIT)
        self._let_settle(host)
        now = self.observe(host)
        if not (now.fits and now.service.enabled):
            host.enable_service(SERVICE)
        self._require_one(host)

    @staticmethod
    def _let_settle(host: Writer) -> None:
        """Wait while the service, having failed, tries again by itself or may not be started yet."""
        deadline = host.now() + START_LIMIT_SECONDS
        while systemd.unit(host, SERVICE).state.startswith(("activating", "failed")) and host.now() < deadline:
            host.wait(POLL_SECONDS)

    @staticmethod
    def _require_one(host: Writer) -> None:
        found = cdi.specification(host)
        if found and not found.faults:
            return
        fault = (
            f"{found.path} does not fit the host: {found.faults[0]}" if found else "there is still no CDI specification"
        )
        journal = ["journalctl", "--unit", SERVICE, "--lines", str(LOG_LINES), "--no-pager", "--output", "cat"]
        raise HostError(
            f"{SERVICE} ran, and {fault}",
            hint="it runs only where modules.dep knows nvidia.ko and nvidia-smi answers; then: nvidia-ctk cdi generate",
            details=host.query(journal).last_words(LOG_LINES),
        )


def _unit_differences(state: CdiState) -> list[Difference]:
    why = "it writes the specification anew at every boot and when the driver changes"
    found = []
    for unit in (state.path_unit, state.service):
        if not unit.enabled:
            found.append(Difference(unit.name, "disabled" if unit.loaded else "absent", "enabled", why))
    if state.path_unit.enabled and not state.path_unit.active:
        found.append(Difference(PATH_UNIT, state.path_unit.state, "active", why))
    return found
