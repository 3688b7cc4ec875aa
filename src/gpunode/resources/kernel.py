"""Kernel modules: the driver's, loaded at the right version, and the one that is in its way."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass

from gpunode.errors import HostError, RebootRequiredError
from gpunode.host import modules
from gpunode.host.facts import LoadedDriver, loaded_driver
from gpunode.host.gpu_users import OWN_UNITS, gpu_users
from gpunode.host.packages.base import version_matches
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import NO_CONSEQUENCES, BootNeed, Consequences, Difference, Local
from gpunode.resources.drain import NOBODY, Drain, Users

DRIVER_MODULES = ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia_peermem", "nvidia")
"""The driver's modules in the order in which they can be unloaded."""
MODULES_FOLDER = "/lib/modules"


@dataclass(frozen=True)
class ModuleState:
    """The driver that runs now, and who would make way for another: looked for only where another is to come, and they are to."""

    driver: LoadedDriver | None
    users: Users = NOBODY


@dataclass(frozen=True)
class DriverModule(Local):
    """The kernel module `nvidia`, loaded, at a version and of a kind (`open`, `proprietary`); empty takes any.

    `drain` is how its users make way for another version; None leaves it to them.
    """

    version: str
    modules: str
    why: str
    drain: Drain | None = None

    @property
    def id(self) -> str:
        """`module:nvidia`."""
        return "module:nvidia"

    def observe(self, host: Reader) -> ModuleState:
        """The driver that runs now, by the kernel's own word. Raises CommandError where the cluster does not tell its pods."""
        driver = loaded_driver(host)
        if driver is None or self.drain is None or self._is_wanted(driver):
            return ModuleState(driver)
        return ModuleState(driver, self.drain.users(host))

    def differences(self, state: ModuleState) -> list[Difference]:
        """Not loaded, or another."""
        if state.driver and self._is_wanted(state.driver):
            return []
        return [Difference("nvidia", _told(state.driver), f"loaded, {self.version} ({self.modules})", self.why)]

    def _is_wanted(self, driver: LoadedDriver) -> bool:
        return version_matches(driver.version, self.version) and self.modules in ("", driver.modules)

    def consequences(self, state: ModuleState) -> Consequences:
        """A module that something uses cannot be unloaded, unless its users make way."""
        if state.driver is None:
            return Consequences(irreversible=("a loaded kernel module that is in use stays until the next boot",))
        if self.drain:
            return self.drain.consequences(state.users)
        return Consequences(
            irreversible=("the running kernel module is replaced: where something uses it, a reboot is needed",)
        )

    def boot_need(self, host: Reader, state: ModuleState) -> BootNeed | None:
        """Somebody uses the driver that runs, and is not to make way; or the modules are built for a kernel that does not run yet."""
        running = state.driver
        if running is None:
            return _built_for_newer_kernel(host)
        users = () if self.drain else gpu_users(host)
        if not users:
            return None
        wanted = self.version if self.version != running.version else f"its {self.modules} modules"
        return BootNeed(f"the running driver {running.version} is in use, so {wanted} cannot take its place", users)

    def converge(self, host: Writer, state: ModuleState) -> None:
        """Unload another version where there is one, then load. Raises RebootRequiredError when it is in use."""
        with self.drain.drained(host) if self.drain and state.driver else nullcontext():
            if state.driver:
                self._unload_all(host)
            self._load(host)

    def _unload_all(self, host: Writer) -> None:
        for unit in OWN_UNITS:  # the driver's own daemons keep the module in use; their own resources start them again
            host.stop_service(unit)
        for module in DRIVER_MODULES:
            self._unload(host, module)

    def _load(self, host: Writer) -> None:
        host.load_module("nvidia")
        if modules.is_available(host, "nvidia-uvm"):
            host.load_module("nvidia_uvm")
        loaded = loaded_driver(host)
        if loaded is None or not self._is_wanted(loaded):
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

    def boot_need(self, _host: Reader, state: bool) -> BootNeed | None:
        """It is loaded."""
        return BootNeed("nouveau is loaded, and holds the GPU until a boot without it") if state else None

    def consequences(self, state: bool) -> Consequences:
        """A reboot."""
        return Consequences(irreversible=("a reboot is needed to get rid of nouveau",)) if state else NO_CONSEQUENCES

    def converge(self, _host: Writer, _state: bool) -> None:
        """Ask for the reboot. Raises RebootRequiredError."""
        raise RebootRequiredError(
            "nouveau holds the GPU until the next boot",
            hint="reboot, then run `gpunode apply` again: it goes on from here",
        )


def _told(driver: LoadedDriver | None) -> str:
    return f"loaded, {driver.version} ({driver.modules})" if driver else "not loaded"


def _built_for_newer_kernel(host: Reader) -> BootNeed | None:
    if modules.is_available(host, "nvidia"):
        return None
    running = host.kernel_release()
    newer = [name for name in host.listdir(MODULES_FOLDER) if _by_number(name) > _by_number(running)]
    for name in sorted(newer, key=_by_number, reverse=True):
        if host.query(["modinfo", "-k", name, "-F", "filename", "nvidia"]).ok:
            return BootNeed(f"the driver's modules are built for the kernel {name}, and {running} runs")
    return None


def _by_number(kernel: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", kernel)]
