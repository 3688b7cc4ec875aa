"""Which CUDA toolkits are on a host, and who brought them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpunode.catalog import Catalog
from gpunode.catalog.model import Distribution
from gpunode.host.driver_facts import installed_packages
from gpunode.host.reader import Reader


@dataclass(frozen=True)
class ToolkitFacts:
    """Versions (`13.0`): those with an installer's own uninstaller, and those of packages, each with a package's name."""

    by_runfile: tuple[str, ...] = ()
    by_packages: Mapping[str, str] = field(default_factory=dict)


def gather_toolkits(reader: Reader, catalog: Catalog, distribution: Distribution | None) -> ToolkitFacts:
    """Read the host. Raises HostError."""
    return ToolkitFacts(_by_runfile(reader, catalog), _by_packages(reader, catalog, distribution))


def _by_runfile(reader: Reader, catalog: Catalog) -> tuple[str, ...]:
    known = catalog.cuda_runfile
    parent, _, name = known.folder.rpartition("/")
    start = name.format(version="")
    folders = reader.glob(parent, f"{start}*")
    return tuple(
        folder.removeprefix(f"{parent}/{start}")
        for folder in folders
        if reader.exists(known.uninstaller[0].format(folder=folder))
    )


def _by_packages(reader: Reader, catalog: Catalog, distribution: Distribution | None) -> Mapping[str, str]:
    patterns = [name.format(major=r"(\d+)", minor=r"(\d+)") for name in catalog.cuda_runfile.packaged]
    found: dict[str, str] = {}
    for name in sorted(installed_packages(reader, distribution)):
        for pattern in patterns:
            if match := re.fullmatch(pattern, name):
                found.setdefault(f"{match[1]}.{match[2]}", name)
    return found
