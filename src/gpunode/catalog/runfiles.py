"""NVIDIA's self-extracting installers (`.run`), as the catalogue has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Runfile:
    """NVIDIA's self-extracting driver installer. `sha256` maps versions to checksums, for each architecture.

    `takes_off` are the arguments by which it takes off an installation that has no uninstaller yet, `prerequisites` packages that it
    needs besides compiler and headers.
    """

    base: str
    path: str
    arguments: tuple[str, ...]
    open: tuple[str, ...]
    proprietary: tuple[str, ...]
    uninstaller: tuple[str, ...]
    takes_off: tuple[str, ...]
    prerequisites: tuple[str, ...]
    record: str
    log: str
    source: str
    sha256: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class CudaRelease:
    """The newest release of a toolkit's version that has an installer with a known checksum, and the driver that is in it."""

    release: str
    driver: str
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class CudaRunfile:
    """NVIDIA's self-extracting installer of a CUDA toolkit. What each field means is told in cuda.toml.

    Templates have {version} (`13.0`), {major}, {minor}, {folder}; `path` has {release}, {driver} and {system}, its word for the
    architecture. `releases` are by version.
    """

    base: str
    path: str
    systems: Mapping[str, str]
    folder: str
    arguments: tuple[str, ...]
    uninstaller: tuple[str, ...]
    proof: str
    log: str
    link: str
    prerequisites: Mapping[str, tuple[str, ...]]
    packaged: tuple[str, ...]
    source: str
    releases: Mapping[str, CudaRelease]
