"""What the catalogue knows about containerd's releases, config versions and section names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from gpunode.formats.toml_data import Path, parse


class ConfigError(ValueError):
    """A containerd config file, or a containerd, that cannot be worked with as it is."""


@dataclass(frozen=True)
class Release:
    """Releases from `since` on: what they write and read, and where they differ in the CRI section."""

    since: tuple[int, int]
    writes: int
    reads: tuple[int, ...]
    replaces_runtimes: bool
    reads_bom: bool
    cdi: str
    version_1_layout: int


@dataclass(frozen=True)
class Layout:
    """Section names of one config version."""

    version: int
    cri: Path
    linux_shim: Path

    @property
    def runtimes(self) -> Path:
        """The table of the CRI runtimes."""
        return (*self.cri, "containerd", "runtimes")


@dataclass(frozen=True)
class Knowledge:
    """The catalogue's containerd.toml."""

    releases: tuple[Release, ...]
    layouts: Mapping[int, Layout]
    removed_shims: Mapping[str, str]  # runtime type → the release that no longer has it
    runc_type: str
    cri_plugins: frozenset[str]
    implied: Mapping[str, Any]

    def release(self, version: str) -> Release:
        """The release that a version such as `1.7.24~ds1` belongs to. Raises ConfigError."""
        number = _major_minor(version)
        known = [release for release in self.releases if release.since <= number]
        if not known:
            oldest = ".".join(map(str, self.releases[0].since))
            raise ConfigError(f"containerd {version} is too old for a GPU node: {oldest} is the oldest that works")
        return known[-1]


def load(data: Mapping[str, Any]) -> Knowledge:
    """The typed form of the parsed catalogue file."""
    releases = [
        Release(
            since=_major_minor(entry["since"]),
            writes=entry["writes"],
            reads=tuple(entry["reads"]),
            replaces_runtimes=entry["replaces_runtimes"],
            reads_bom=entry["reads_bom"],
            cdi=entry["cdi"],
            version_1_layout=entry["version_1_layout"],
        )
        for entry in data["release"]
    ]
    layouts = [Layout(each["version"], tuple(each["cri"]), tuple(each["linux_shim"])) for each in data["layout"]]
    return Knowledge(
        releases=tuple(sorted(releases, key=lambda release: release.since)),
        layouts={layout.version: layout for layout in layouts},
        removed_shims={shim["runtime_type"]: shim["removed_in"] for shim in data["removed_shim"]},
        runc_type=data["runc"]["runtime_type"],
        cri_plugins=frozenset(data["cri"]["plugins"]),
        implied={each["key"]: each["value"] for each in data["implied"]},
    )


@cache
def knowledge() -> Knowledge:
    """The catalogue that comes with gpunode."""
    return load(parse(files("gpunode").joinpath("catalog", "containerd.toml").read_text("utf-8")))


def _major_minor(version: str) -> tuple[int, int]:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if not found:
        raise ConfigError(f"{version!r} is no containerd version")
    return int(found[1]), int(found[2])
