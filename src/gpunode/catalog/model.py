"""The catalogue's entries, typed. What each means is told by the comments of the TOML files beside this."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Modules = Literal["open", "proprietary", "any"]


@dataclass(frozen=True)
class Distribution:
    """A family of distributions that share package manager, package names and repository layout.

    `own_driver` maps releases to the driver version in the distribution's own archive.
    """

    name: str
    ids: tuple[str, ...]
    versions: tuple[str, ...]
    manager: str
    slug: str
    headers: tuple[str, ...]
    build_tools: tuple[str, ...]
    initramfs: str
    libraries: dict[str, str]
    source: str
    own_driver: dict[str, str] = field(default_factory=dict)

    def slug_of(self, version: str) -> str:
        """The repository's name for a release: `debian13`, `ubuntu2404`."""
        return self.slug.format(major=version.partition(".")[0], version=version.replace(".", ""))


@dataclass(frozen=True)
class Branch:
    """A driver branch. `ended` or `ends`: the month of its end of life, where known; `cuda`: the newest toolkit for it."""

    name: str
    version: str
    kind: str
    cuda: str
    source: str
    ended: str = ""
    ends: str = ""


@dataclass(frozen=True)
class DriverPackages:
    """What one source of the driver is made of, for one package manager."""

    open: tuple[str, ...]
    proprietary: tuple[str, ...]
    persistenced: tuple[str, ...]
    fabric_manager: tuple[str, ...]
    family: tuple[str, ...]
    source: str
    not_family: tuple[str, ...] = ()
    components: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runfile:
    """NVIDIA's self-extracting driver installer. `sha256` maps versions (x86_64) to checksums."""

    base: str
    path: str
    arguments: tuple[str, ...]
    open: tuple[str, ...]
    proprietary: tuple[str, ...]
    uninstaller: tuple[str, ...]
    record: str
    log: str
    source: str
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Repository:
    """A package repository, and the fingerprints of the keys that may sign it. A mirror replaces `base`, the paths stay."""

    name: str
    base: str
    path: str
    key_path: str
    fingerprints: tuple[str, ...]
    keyring: str
    list: str
    arch: dict[str, str]
    suite: str
    conflicting: tuple[str, ...]
    source: str
    key_paths: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Generation:
    """A GPU generation: its PCI device ids, which kernel modules drive it, and the last branch that does (None: still driven)."""

    name: str
    ranges: tuple[tuple[int, int], ...]
    modules: Modules
    last_branch: int | None = None


@dataclass(frozen=True)
class Flavour:
    """A Kubernetes distribution's layout on the host. `engine` is `self` where it configures its containerd by itself."""

    name: str
    markers: tuple[str, ...]
    engine: Literal["file", "self"]
    config: str
    units: tuple[str, ...]
    socket: str
    kubectl: tuple[str, ...]
    ctr: tuple[str, ...]
    kubeconfig: str
    device_plugins: str
    source: str


@dataclass(frozen=True)
class Toolkit:
    """The NVIDIA Container Toolkit's packages, and the oldest version without a known hole."""

    packages: tuple[str, ...]
    floor: str
    floor_reason: str
    runtime: str
    runtime_package: str
    source: str


@dataclass(frozen=True)
class Catalog:
    """All that is known of the world, as loaded."""

    distributions: dict[str, Distribution]
    branches: dict[str, Branch]
    driver_packages: dict[tuple[str, str], DriverPackages]
    runfile: Runfile
    repositories: dict[str, Repository]
    revoked: dict[str, str]
    generations: tuple[Generation, ...]
    gpu_names: dict[int, str]
    cuda_minimums: dict[str, str]
    cuda_packages: dict[str, tuple[str, ...]]
    toolkit: Toolkit
    flavours: dict[str, Flavour]

    def distribution(self, os_id: str, like: tuple[str, ...] = ()) -> Distribution | None:
        """The family an os-release ID belongs to, by itself or by ID_LIKE."""
        for name in (os_id, *like):
            for distribution in self.distributions.values():
                if name in distribution.ids:
                    return distribution
        return None

    def generation(self, device: int) -> Generation | None:
        """The generation of a PCI device id; None for one that the catalogue does not know."""
        for generation in self.generations:
            if any(first <= device <= last for first, last in generation.ranges):
                return generation
        return None

    def gpu_name(self, device: int) -> str:
        """A GPU's name, or its generation and device id where the name is not known."""
        if device in self.gpu_names:
            return self.gpu_names[device]
        generation = self.generation(device)
        return f"NVIDIA {generation.name if generation else 'GPU'} (device {device:04x})"

    def cuda_minimum(self, version: str) -> str:
        """The oldest driver for a CUDA toolkit version; empty when not known."""
        return self.cuda_minimums.get(version.partition(".")[0], "")
