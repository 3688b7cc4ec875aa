"""What the catalogue knows about containerd's releases, config versions and section names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from gpunode.formats.engine_config import ConfigError
from gpunode.formats.toml_data import Path, parse

__all__ = ["ConfigError", "Knowledge", "Layout", "Release", "knowledge", "load"]


@dataclass(frozen=True)
class Release:
    """Releases from `since` on: what they write and read, and where they differ (catalog/containerd.toml says what each means)."""

    since: tuple[int, int]
    writes: int
    reads: tuple[int, ...]
    replaces_runtimes: bool
    imports_replace: bool
    reads_bom: bool
    cdi: str
    version_1_layout: int
    relative_imports: bool
    needs_imports: bool
    typeless_runc: bool
    dumps_options: bool


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
    linux_shim_type: str
    linux_shim_settings: Mapping[
        str, str
    ]  # what stood beside that type → the option of runc's type that took its place
    runc_type: str
    cri_plugins: frozenset[str]
    implied: Mapping[str, Any]
    short_names: Mapping[str, str]  # a plugin's name in config version 1 → its name from version 2 on

    def release(self, version: str) -> Release:
        """The release that a version such as `1.7.24~ds1` belongs to. Raises ConfigError."""
        number = _major_minor(version)
        known = [release for release in self.releases if release.since <= number]
        if not known:
            oldest = ".".join(map(str, self.releases[0].since))
            raise ConfigError(f"containerd {version} is too old for a GPU node: {oldest} is the oldest that works")
        if number[0] > known[-1].since[0]:
            newest = ".".join(map(str, known[-1].since))
            raise ConfigError(
                f"containerd {version} is not known: {newest} is the newest release whose configuration is"
            )
        return known[-1]

    def managed_version(self, version: str) -> int:
        """The config version of a Kubernetes distribution's own file for that release: 2, and 3 from containerd 2.0 on, even 2.3 [k0s]."""
        return min(self.release(version).writes, 3)


def load(data: Mapping[str, Any]) -> Knowledge:
    """The typed form of the parsed catalogue file."""
    releases = [
        Release(
            since=_major_minor(entry["since"]),
            writes=entry["writes"],
            reads=tuple(entry["reads"]),
            replaces_runtimes=entry["replaces_runtimes"],
            imports_replace=entry["imports"] == "replace",
            reads_bom=entry["reads_bom"],
            cdi=entry["cdi"],
            version_1_layout=entry["version_1_layout"],
            relative_imports=entry["relative_imports"],
            needs_imports=entry["needs_imports"],
            typeless_runc=entry["typeless_runc"],
            dumps_options=entry["dumps_options"],
        )
        for entry in data["release"]
    ]
    layouts = [Layout(each["version"], tuple(each["cri"]), tuple(each["linux_shim"])) for each in data["layout"]]
    return Knowledge(
        releases=tuple(sorted(releases, key=lambda release: release.since)),
        layouts={layout.version: layout for layout in layouts},
        removed_shims={shim["runtime_type"]: shim["removed_in"] for shim in data["removed_shim"]},
        linux_shim_type=data["linux_shim"]["runtime_type"],
        linux_shim_settings=data["linux_shim"]["settings"],
        runc_type=data["runc"]["runtime_type"],
        cri_plugins=frozenset(data["cri"]["plugins"]),
        implied={each["key"]: each["value"] for each in data["implied"]},
        short_names={each["name"]: each["plugin"] for each in data["short_name"]},
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
