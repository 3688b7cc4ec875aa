"""CDI on a host: the specification by which container engines hand out its GPUs, and whether that still fits the host."""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.errors import HostError
from gpunode.formats import cdi_spec
from gpunode.formats.cdi_spec import CdiSpecification
from gpunode.formats.toml_data import TomlError, lookup, parse
from gpunode.host.facts import loaded_driver
from gpunode.host.reader import Reader

KIND = "nvidia.com/gpu"
FOLDERS = ("/etc/cdi", "/var/run/cdi")
"""Where engines look; of two specifications for one device the one in the later folder counts."""
PATTERNS = ("*.json", "*.yaml")
TOOLKIT_CONFIG = "/etc/nvidia-container-runtime/config.toml"
MODE = ("nvidia-container-runtime", "mode")


@dataclass(frozen=True)
class FoundSpecification:
    """The specification that counts, the file it lies in, and in what respects the host is no longer as it says."""

    path: str
    specification: CdiSpecification
    faults: tuple[str, ...]


def specification(host: Reader) -> FoundSpecification | None:
    """The specification of this host's GPUs; None where there is none. Raises HostError for a file that cannot be read."""
    for folder in reversed(FOLDERS):
        here = [
            (path, found) for pattern in PATTERNS for path in host.glob(folder, pattern) if (found := _read(host, path))
        ]
        if here:
            path, found = here[0]
            return FoundSpecification(path, found, (*_conflicts(here), *_faults(host, found)))
    return None


def toolkit_mode(host: Reader) -> str:
    """How the toolkit's runtime works by its configuration: `auto`, `cdi`, `legacy` …; empty where that cannot be read."""
    try:
        mode = lookup(parse(host.read_text(TOOLKIT_CONFIG) or ""), MODE)
    except (HostError, TomlError):
        return ""
    return mode if isinstance(mode, str) else "auto"


def _read(host: Reader, path: str) -> CdiSpecification | None:
    found = cdi_spec.parse((host.read(path) or b"").decode("utf-8", "replace"))
    return found if found and found.kind == KIND else None


def _conflicts(here: list[tuple[str, CdiSpecification]]) -> list[str]:
    """Two files of one folder that describe the same device: engines then have neither."""
    (_, first), *others = here
    return [
        f"{other} describes {KIND}={name} too, and engines then take neither"
        for other, found in others
        for name in [each for each in found.devices if each in first.devices][:1]
    ]


def _faults(host: Reader, found: CdiSpecification) -> list[str]:
    driver = loaded_driver(host)
    faults = []
    if driver and found.driver and found.driver != driver.version:
        faults.append(f"it names the libraries of driver {found.driver}, and {driver.version} is loaded")
    return faults + [f"it names {path}, which is not there" for path in found.host_paths if not host.exists(path)]
