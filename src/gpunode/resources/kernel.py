"""Kernel modules: the driver's, loaded at the right version, and the one that is in its way."""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.errors import HostError, RebootRequiredError
from gpunode.host import modules
from gpunode.host.facts import LoadedDriver, loaded_driver
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import NO_CONSEQUENCES, Consequences, Difference, Local

DRIVER_MODULES = ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia_peermem", "nvidia")
"""The driver's modules in the order in which they can be unloaded."""


@dataclass(frozen=True)
class DriverModule(Local):
    """The kernel module `nvidia`, loaded, at a version and of a kind (`open`, `proprietary`); empty takes any."""

    version: str
    modules: str
    why: str

    @property
    def id(self) -> str:
        """`module:nvidia`."""
        return "module:nvidia"

    def observe(self, host: Reader) -> LoadedDriver | None:
        """The driver that runs now, by the kernel's own word."""
        return loaded_driver(host)

    def differences(self, state: LoadedDriver | None) -> list[Difference]:
        """Not loaded, or another."""
        wanted = f"loaded, {self.version} ({self.modules})"
        if state is None:
            return [Difference("nvidia", "not loaded", wanted, self.why)]
        if state.version == self.version and self.modules in ("", state.modules):
            return []
        return [Difference("nvidia", f"loaded, {state.version} ({state.modules})", wanted, self.why)]

    def consequences(self, state: LoadedDriver | None) -> Consequences:
        """A module that something uses cannot be unloaded."""
        if state is None:
            return Consequences(irreversible=("a loaded kernel module that is in use stays until the next boot",))
        return Consequences(
            irreversible=("the running kernel module is replaced: where something uses it, a reboot is needed",)
        )

    def converge(self, host: Writer, state: LoadedDriver | None) -> None:
        """Unload another version where there is one, then load. Raises RebootRequiredError when it is in use."""
        if state is not None:
            # The persistence daemon keeps the module in use; its own resource starts it again.
            host.stop_service("nvidia-persistenced.service")
            for module in DRIVER_MODULES:
                self._unload(host, module)
        host.load_module("nvidia")
        if modules.is_available(host, "nvidia-uvm"):
            host.load_module("nvidia_uvm")
        loaded = loaded_driver(host)
        if self.differences(loaded):
            found = f"{loaded.version} ({loaded.modules})" if loaded else "nothing"
            raise HostError(
                f"the kernel loaded {found}, wanted {self.version} ({self.modules})", hint="see `dkms status`"
            )

    def _unload(self, host: Writer, module: str) -> None:
        try:
            host.unload_module(module)
        except HostError as error:
            raise RebootRequiredError(
                f"the running driver cannot be unloaded: {error.message}",
                hint="end what uses the GPU, or reboot; then run `gpunode apply` again",
            ) from None


@dataclass(frozen=True)
class NouveauAbsent(Local):
    """nouveau not loaded. Once its blacklist is in place, only a reboot brings that about safely."""

    why: str

    @property
    def id(self) -> str:
        """`module:nouveau`."""
        return "module:nouveau"

    def observe(self, host: Reader) -> bool:
        """Whether it is loaded."""
        return modules.is_loaded(host, "nouveau")

    def differences(self, state: bool) -> list[Difference]:
        """Loaded."""
        return [Difference("nouveau", "loaded", "not loaded", self.why)] if state else []

    def consequences(self, state: bool) -> Consequences:
        """A reboot."""
        return Consequences(irreversible=("a reboot is needed to get rid of nouveau",)) if state else NO_CONSEQUENCES

    def converge(self, _host: Writer, _state: bool) -> None:
        """Ask for the reboot. Raises RebootRequiredError."""
        raise RebootRequiredError(
            "nouveau holds the GPU until the next boot",
            hint="reboot, then run `gpunode apply` again: it goes on from here",
        )
