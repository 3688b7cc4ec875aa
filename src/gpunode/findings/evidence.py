"""Everything the findings look at, as data. Unknown is None: what could not be read proves nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from gpunode.catalog.model import DriverPackages
from gpunode.findings.history import AptChange, Written
from gpunode.findings.sources import Source
from gpunode.formats.engine_config import Reason
from gpunode.host.cdi import FoundSpecification
from gpunode.host.packages.base import Package
from gpunode.host.systemd import Unit
from gpunode.resources.packages import matches
from gpunode.steps import decisions
from gpunode.steps.base import Context

if TYPE_CHECKING:  # they are made of what is here
    from gpunode.findings.containers import DockerFile, Plugin
    from gpunode.findings.machine import Asked, Boot, PciGpu

PERSISTENCED = "nvidia-persistenced.service"
FABRIC_MANAGER = "nvidia-fabricmanager.service"
# Packages of the driver's family that hold neither its module nor its libraries.
ACCESSORIES = (
    "nvidia-modprobe",
    "nvidia-persistenced",
    "nvidia-settings",
    "nvidia-fabricmanager*",
    "nvidia-imex*",
    "nvidia-firmware*",
)


@dataclass(frozen=True)
class TextFile:
    """A text file; `modified` is its mtime in seconds since the epoch."""

    path: str
    text: str
    modified: float

    def place(self, pattern: str) -> str:
        """`PATH line N` of the first line in which a regular expression is found; the path alone where none is."""
        for number, line in enumerate(self.text.splitlines(), start=1):
            if re.search(pattern, line):
                return f"{self.path} line {number}"
        return self.path


@dataclass(frozen=True)
class Kernel:
    """An installed kernel: the driver's module files built for it, whether its headers are there, whether it has nouveau."""

    release: str
    modules: tuple[str, ...]
    headers: bool
    nouveau: bool = False


@dataclass(frozen=True)
class EngineConfig:
    """containerd's configuration.

    `data` is the file as TOML, `effective` what containerd makes of it with what it imports. `effective` is asked only where
    the file alone does not tell. `written` is gpunode's last write of the file, `stale` why the running daemon has not read it,
    `repairs` what an apply would set right in it that older guides left behind.
    """

    path: str
    file: TextFile | None = None
    data: dict[str, Any] | None = None
    effective: dict[str, Any] | None = None
    imported: tuple[TextFile, ...] = ()
    written: Written | None = None
    overwritten: bool = False
    stale: str = ""
    repairs: tuple[Reason, ...] = ()

    @property
    def newest(self) -> TextFile | None:
        """The file, of those that containerd reads, that changed last."""
        files = [each for each in (self.file, *self.imported) if each]
        return max(files, key=lambda each: each.modified) if files else None


@dataclass(frozen=True)
class Evidence:
    """A host at one moment, and what its profile wants.

    `libraries` maps the loader's links (`…/libcuda.so.1`) to the files they lead to, `keyrings` files to fingerprints, `units` names to
    units as systemd has them; `kernels` begins with the running one. `cuda_link` is where /usr/local/cuda leads, None for nowhere. `cdi` is
    the specification of its GPUs that counts, an empty tuple where there is none. `images` are initramfs by kernel (their times alone),
    `loader` is the loader's cache: files by library; `compat` is the file that it takes for libcuda from a CUDA toolkit, empty for none.
    `paths` says of paths that are named somewhere whether each is there, `expiries` when keys expire, by keyring and fingerprint,
    `certificate` from when to when the kubelet's is good. `boot_wanted` is the mark of a reboot that is
    due, `disabled` are apt's entries that are switched off, `beside` files of a containerd that the kubelet does not use.
    """

    context: Context
    libraries: Mapping[str, str]
    kernels: tuple[Kernel, ...]
    packages: Mapping[str, Package] | None
    changes: Mapping[str, AptChange]
    preferences: tuple[TextFile, ...]
    apt_conf: tuple[TextFile, ...]
    sources: tuple[Source, ...]
    disabled: tuple[Source, ...]
    keyrings: Mapping[str, tuple[str, ...]]
    modprobe: tuple[TextFile, ...]
    initramfs: TextFile | None
    units: Mapping[str, Unit]
    config: EngineConfig
    beside: tuple[TextFile, ...]
    kubelet: TextFile | None
    toolkit_config: TextFile | None
    toolkit_runtime: bool
    cdi: tuple[FoundSpecification, ...] | None
    installer_log: bool
    nodes: tuple[str, ...]
    char_links: tuple[str, ...]
    profile_d: TextFile | None
    cuda_link: str | None
    gpus: tuple[PciGpu, ...]
    boot: Boot
    asked: Asked
    images: Mapping[str, TextFile]
    dkms_logs: tuple[TextFile, ...]
    loader: Mapping[str, tuple[str, ...]] | None
    loader_conf: tuple[TextFile, ...]
    compat: str
    docker: DockerFile | None
    paths: Mapping[str, bool | None]
    plugin: Plugin
    boot_wanted: TextFile | None
    boot_wanted_by: TextFile | None
    dnf_conf: tuple[TextFile, ...]
    expiries: Mapping[tuple[str, str], float]
    certificate: tuple[float, float] | None

    @property
    def driver_names(self) -> DriverPackages | None:
        """The catalogue's names of the driver's packages; NVIDIA's where the profile's source has none of its own."""
        distribution = self.context.facts.distribution
        manager = distribution.manager if distribution else ""
        return decisions.packages_of(self.context) or self.context.catalog.driver_packages.get(("nvidia", manager))

    @property
    def driver_family(self) -> dict[str, Package]:
        """The packages of the driver's family that the database knows, in whatever state."""
        names = self.driver_names
        if names is None:
            return {}
        return {
            name: package
            for name, package in (self.packages or {}).items()
            if matches(name, names.family) and not matches(name, names.not_family)
        }

    @property
    def driver_packages(self) -> dict[str, Package]:
        """Those of them that are installed."""
        return {name: package for name, package in self.driver_family.items() if package.installed}

    @property
    def driver_proper(self) -> dict[str, Package]:
        """Those of them that hold the module or the libraries."""
        return {name: package for name, package in self.driver_packages.items() if not matches(name, ACCESSORIES)}

    @property
    def driver_installed(self) -> bool:
        """True when there is a driver on the disk, whether it runs or not."""
        return bool(self.libraries or self.driver_proper or self.context.facts.runfile_driver)

    @property
    def toolkit_packages(self) -> dict[str, Package]:
        """The installed packages of the container toolkit, in the catalogue's order."""
        known, names = self.packages or {}, self.context.catalog.toolkit.packages
        return {name: known[name] for name in names if name in known and known[name].installed}

    @property
    def library_version(self) -> str:
        """The version of the driver's libraries, from the name of the file that the loader's link leads to; empty when unknown."""
        versions = (version_of_library(path) for path in self.libraries.values())
        return next((version for version in versions if version), "")

    @property
    def toolkit_installed(self) -> bool:
        """True when the container toolkit is here, by packages or otherwise."""
        return bool(self.toolkit_packages) or self.toolkit_runtime

    @property
    def engine(self) -> Unit | None:
        """containerd's unit, or the unit of what runs it."""
        return self.units.get(self.context.facts.engine_unit)


def version_of_library(path: str) -> str:
    """`…/libnvidia-ml.so.580.159.04` → `580.159.04`; empty for a name that ends in no driver version."""
    found = re.search(r"\.so\.(\d+\.\d+(?:\.\d+)?)$", path)
    return found[1] if found else ""


def upstream(version: str) -> str:
    """A package's version without epoch and the distribution's revision: `1:580.159.04-1` → `580.159.04`."""
    return re.sub(r"^\d+:", "", version).partition("-")[0]


def clock(seconds: float | None) -> str:
    """A moment for a person, in the host's time zone."""
    moment = datetime.fromtimestamp(seconds or 0, tz=timezone.utc).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")
