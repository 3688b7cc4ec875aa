"""What the choice of a driver needs to know of a host besides `facts`: headers, others who manage a driver, room for a build."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpunode.catalog import Catalog
from gpunode.catalog.model import Distribution, DriverManager
from gpunode.errors import GpunodeError
from gpunode.host.packages import manager_named
from gpunode.host.packages.base import Package
from gpunode.host.reader import Reader

MODULES = "/lib/modules"
BOOT = "/boot"
INITRAMFS = ("initrd.img-*", "initramfs-*.img", "initrd-*")
LISTS = "/var/lib/apt/lists"
SOURCES = "/etc/apt/sources.list.d"
FRESH_SECONDS = 86400.0
"""How old apt's indices may be to be believed that the archive lacks something."""


@dataclass(frozen=True)
class FoundManager:
    """Somebody else's driver on the host, by its name in the catalogue, with what gave it away."""

    name: str
    evidence: str


@dataclass(frozen=True)
class DriverFacts:
    """What was found. An empty one knows nothing, and decides nothing.

    `kernels` are those installed that have their headers. `headers_offered` says whether the archive has the running kernel's: None where
    that was not asked or its indices do not tell. `free` is in bytes by path, `initramfs` the size in bytes of the largest one in /boot.
    """

    codename: str = ""
    kernels: tuple[str, ...] = ()
    headers_offered: bool | None = None
    managers: tuple[FoundManager, ...] = ()
    pinned: tuple[str, ...] = ()
    free: Mapping[str, int] = field(default_factory=dict)
    initramfs: int = 0


def gather_driver(reader: Reader, catalog: Catalog, distribution: Distribution | None) -> DriverFacts:
    """Read the host. A package database that cannot be read counts as empty: others report that. Raises HostError."""
    release = reader.os_release()
    packages = installed_packages(reader, distribution)
    return DriverFacts(
        codename=release.get("ubuntu_codename") or release.get("version_codename", ""),
        kernels=tuple(name for name in reader.listdir(MODULES) if reader.exists(f"{MODULES}/{name}/build")),
        headers_offered=_headers_offered(reader, distribution),
        managers=tuple(found for each in catalog.managers.values() if (found := _manager(reader, each, packages))),
        pinned=_pinned(catalog, distribution, packages),
        free={path: reader.free_bytes(path) for path in (BOOT, catalog.build.path)},
        initramfs=_largest_initramfs(reader),
    )


def installed_packages(reader: Reader, distribution: Distribution | None) -> Mapping[str, Package]:
    """What the package database has installed, by name; nothing where it cannot be read: others report that."""
    if distribution is None:
        return {}
    try:
        known = manager_named(distribution.manager).installed(reader)
    except GpunodeError:
        return {}
    return {name: package for name, package in known.items() if package.installed}


def _headers_offered(reader: Reader, distribution: Distribution | None) -> bool | None:
    """Asked only where the headers are missing. Indices that are old, or do not even have a compiler, do not tell anything."""
    kernel = reader.kernel_release()
    if distribution is None or reader.exists(f"{MODULES}/{kernel}/build"):
        return None
    if distribution.manager == "apt" and not _fresh_lists(reader):
        return None
    names = [name for name, _ in distribution.headers_of(kernel)]
    try:
        offered = manager_named(distribution.manager).candidates(reader, [*names, *distribution.build_tools])
    except GpunodeError:
        return None
    if not all(name in offered for name in distribution.build_tools):
        return None
    return bool(names) and all(name in offered for name in names)


def _fresh_lists(reader: Reader) -> bool:
    """Whether apt's indices are of today and know all sources: without them apt answers from what is installed."""
    fetched = _newest(reader, reader.glob(LISTS, "*_Packages*"))
    return fetched >= max(_newest(reader, reader.glob(SOURCES, "*")), reader.now() - FRESH_SECONDS)


def _newest(reader: Reader, paths: list[str]) -> float:
    stats = (reader.lstat(path) for path in paths)
    return max((stat.mtime for stat in stats if stat), default=0.0)


def _manager(reader: Reader, known: DriverManager, packages: Mapping[str, Package]) -> FoundManager | None:
    marks = [path for path in known.marks if reader.exists(path)]
    matching = [
        f"{name} {package.version}"
        for name, package in sorted(packages.items())
        if _matches(name, known.packages) and (not known.versions or _matches(package.version, known.versions))
    ]
    if (known.marks and not marks) or (known.packages and not matching):
        return None
    return FoundManager(known.name, (matching or marks)[0])


def _pinned(catalog: Catalog, distribution: Distribution | None, packages: Mapping[str, Package]) -> tuple[str, ...]:
    """What NVIDIA's own pinning packages on the host pin: branches or versions."""
    known = catalog.driver_packages.get(("nvidia", distribution.manager)) if distribution else None
    start = known.pinning.format(version="") if known and known.pinning else ""
    return tuple(name.removeprefix(start) for name in packages if start and name.startswith(start))


def _largest_initramfs(reader: Reader) -> int:
    paths = {path for pattern in INITRAMFS for path in reader.glob(BOOT, pattern)}
    stats = (reader.lstat(path) for path in paths)
    return max((stat.size for stat in stats if stat), default=0)


def _matches(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)
