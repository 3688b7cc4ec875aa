"""The catalogue's entries, typed. What each means is told by the comments of the TOML files beside this."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gpunode.catalog.runfiles import CudaRunfile, Runfile

Modules = Literal["open", "proprietary", "any"]


@dataclass(frozen=True)
class Distribution:
    """A family of distributions that share package manager, package names and repository layout.

    `own_driver` maps releases to the driver version in the distribution's own archive, `own_branches` names branches that it has at
    versions that move. `hold_tools` are packages without which its package manager holds nothing, `architectures` its
    words for the kernel's, where its packages have words of their own. `releases` overrides fields for a
    release: see `at`.
    """

    name: str
    ids: tuple[str, ...]
    versions: tuple[str, ...]
    manager: str
    slug: str
    headers: tuple[str, ...]
    build_tools: tuple[str, ...]
    initramfs: str
    libraries: Mapping[str, str]
    source: str
    kernel: str = "(?P<version>.+)"
    kernel_headers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    mok: str = ""
    hold_tools: tuple[str, ...] = ()
    architectures: Mapping[str, str] = field(default_factory=dict)
    codenames: Mapping[str, str] = field(default_factory=dict)
    own_driver: Mapping[str, str] = field(default_factory=dict)
    own_branches: tuple[str, ...] = ()
    precompiled: tuple[str, ...] = ()
    releases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def release(self, version: str, codename: str = "") -> str:
        """Which of `versions` a VERSION_ID is, whole (`24.04`) or by its major part (`9.5`), or else by a codename; empty for none."""
        for each in (version, version.partition(".")[0], self.codenames.get(codename, "")):
            if each in self.versions:
                return each
        return ""

    def at(self, release: str) -> Distribution:
        """The distribution as it is at a release."""
        return replace(self, **self.releases.get(release, {}))

    def slug_of(self, version: str) -> str:
        """The repository's name for a release: `debian13`, `ubuntu2404`."""
        slug = self.at(self.release(version)).slug
        return slug.format(major=version.partition(".")[0], version=version.replace(".", ""))

    def kernel_parts(self, release: str) -> dict[str, str]:
        """What a kernel's release is made of: `kernel`, the whole of it, and `version`, `flavour` where the pattern `kernel` finds them."""
        found = re.fullmatch(self.kernel, release)
        return {"kernel": release, **(found.groupdict() if found else {})}

    def headers_of(self, release: str) -> tuple[tuple[str, str], ...]:
        """Packages (name, version or empty) with the headers of a kernel; none for a kernel that is not the distribution's own."""
        parts = self.kernel_parts(release)
        named = next((names for start, names in self.kernel_headers.items() if release.startswith(start)), self.headers)
        try:
            filled = [template.format(**parts).partition("=") for template in named]
        except KeyError:
            return ()
        return tuple((name, version) for name, _, version in filled)


@dataclass(frozen=True)
class Branch:
    """A driver branch. `ended` or `ends`: the month of its end of life, where known; `cuda`: the newest toolkit for it."""

    name: str
    version: str
    kind: str
    cuda: str
    source: str
    modules: Modules = "any"
    ended: str = ""
    ends: str = ""
    recommended: bool = False


@dataclass(frozen=True)
class DriverPackages:
    """What one source of the driver is made of, for one package manager. Empty lists and texts say that it has no such thing.

    Names are templates, with {branch}, {version}, {kernel}. `stream_…` is a dnf module's stream, `pinning` a package that pins a version.
    `when` overrides fields under conditions: see `at`.
    """

    open: tuple[str, ...]
    proprietary: tuple[str, ...]
    persistenced: tuple[str, ...]
    fabric_manager: tuple[str, ...]
    family: tuple[str, ...]
    source: str
    not_family: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    precompiled_open: tuple[str, ...] = ()
    precompiled_proprietary: tuple[str, ...] = ()
    stream_open: str = ""
    stream_proprietary: str = ""
    pinning: str = ""
    when: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def at(self, distribution: str, release: str, branch: str) -> DriverPackages:
        """The packages for a distribution (by its name in the catalogue), a release of it and a branch."""
        found = self
        for rule in self.when.values():
            if _applies(rule, distribution, release, branch):
                found = replace(found, **{key: value for key, value in rule.items() if key not in CONDITIONS})
        return found


CONDITIONS = ("distributions", "releases", "since", "until")
"""Keys of a `when` that say where it holds."""


def _applies(rule: Mapping[str, Any], distribution: str, release: str, branch: str) -> bool:
    fits_distribution = distribution in rule.get("distributions", (distribution,))
    fits_release = release in rule.get("releases", (release,))
    return fits_distribution and fits_release and rule.get("since", 0) <= int(branch) <= rule.get("until", 999)


@dataclass(frozen=True)
class DriverManager:
    """Somebody else who puts drivers on hosts. How it is found is told in drivers.toml; `against` are the sources it is in the way of."""

    name: str
    title: str
    against: tuple[str, ...]
    advice: str
    source: str
    marks: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Note:
    """What a person should know of a driver on a distribution. Empty conditions take all."""

    name: str
    text: str
    source: str
    sources: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()

    def concerns(self, source: str, distribution: str, release: str, branch: str) -> bool:
        """Whether all its conditions hold."""
        pairs = (
            (source, self.sources),
            (distribution, self.distributions),
            (release, self.releases),
            (branch, self.branches),
        )
        return all(not wanted or found in wanted for found, wanted in pairs)


@dataclass(frozen=True)
class Build:
    """What a module's build takes: free MiB below `path`, and in /boot beside a new initramfs."""

    path: str
    mib: int
    boot_margin_mib: int
    source: str


@dataclass(frozen=True)
class Repository:
    """A package repository, and the fingerprints of the keys that may sign it. A mirror replaces `base`, the paths stay.

    `unpinned` are slugs whose key is none of those: it is trusted only where the profile names its fingerprint. `suite` is apt's. For dnf
    and zypper `id` is the repository's name in its file, and `signed` says what its publisher signs: `index`, `packages`.
    """

    name: str
    base: str
    path: str
    key_path: str
    fingerprints: tuple[str, ...]
    keyring: str
    list: str
    arch: dict[str, str]
    conflicting: tuple[str, ...]
    source: str
    key_paths: dict[str, str] = field(default_factory=dict)
    unpinned: tuple[str, ...] = ()
    suite: str = ""
    id: str = ""
    signed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generation:
    """A GPU generation: its PCI device ids, which kernel modules drive it, and the branches that do (`last_branch` None: all newer ones).

    `last_cuda` is the last toolkit that compiles for it (empty: the newest does), `example` a device that stands for the generation;
    `architectures` are those of its hosts (empty: any).
    """

    name: str
    ranges: tuple[tuple[int, int], ...]
    modules: Modules
    last_branch: int | None = None
    first_branch: int = 0
    last_cuda: str = ""
    example: int = 0
    names: Mapping[int, str] = field(default_factory=dict)
    architectures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flavour:
    """A Kubernetes distribution's layout on the host. `engine` is `self` where it configures its containerd by itself.

    `containerd` is its own binary of that name, empty where it is the host's; `drop_in` is where a file of ours is read, empty where that
    lies beside the main file; `managed_mark` are words in the main file that say it is written anew at every start; `placeholders` is what
    the words of a template stand for; `default_runtime` is a file of ours by which the flavour is told its default runtime;
    `static_pods` is the kubelet's folder for manifests, empty where it reads none.
    """

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
    containerd: str = ""
    drop_in: str = ""
    managed_mark: str = ""
    placeholders: Mapping[str, str] = field(default_factory=dict)
    default_runtime: str = ""
    static_pods: str = ""


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
    cuda_runfile: CudaRunfile
    toolkit: Toolkit
    flavours: dict[str, Flavour]
    managers: dict[str, DriverManager]
    notes: tuple[Note, ...]
    build: Build
    unattended: dict[str, tuple[str, ...]]

    @property
    def recommended(self) -> Branch:
        """The branch for a host about which nothing speaks for another."""
        return next(branch for branch in self.branches.values() if branch.recommended)

    def packages(self, source: str, distribution: Distribution, release: str, branch: str) -> DriverPackages | None:
        """What a source is made of on a distribution; None where it has nothing for its package manager."""
        known = self.driver_packages.get((source, distribution.manager))
        return known.at(distribution.name, release, branch) if known else None

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
        generation = self.generation(device)
        name = self.gpu_names.get(device) or (generation.names.get(device) if generation else None)
        if name:
            return name
        return f"NVIDIA {generation.name if generation else 'GPU'} (device {device:04x})"

    def cuda_minimum(self, version: str) -> str:
        """The oldest driver for a CUDA toolkit version; empty when not known."""
        return self.cuda_minimums.get(version.partition(".")[0], "")
