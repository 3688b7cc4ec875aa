"""Rules by which containerd's CRI plugin refuses to load, and of which `config dump` says nothing.

They are in its own packages pkg/cri/config (1.x) and internal/cri/config (2.x).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpunode.formats.containerd_files import table
from gpunode.formats.containerd_releases import knowledge


def broken_rules(effective: Mapping[str, Any]) -> list[str]:
    """What would keep CRI from loading with this effective configuration, one sentence each."""
    return [rule for layout in knowledge().layouts.values() for rule in _of_section(table(effective, layout.cri))]


def _of_section(section: Mapping[str, Any]) -> Iterator[str]:
    known = knowledge()
    containerd = table(section, ("containerd",))
    runtimes = table(containerd, ("runtimes",))
    for name, entry in runtimes.items():
        kind = entry.get("runtime_type") if isinstance(entry, dict) else None
        for key in known.linux_shim_settings:
            if kind != known.linux_shim_type and isinstance(entry, dict) and entry.get(key):
                yield f"the runtime {name} has a {key}, which only works for {known.linux_shim_type}"
    default = containerd.get("default_runtime_name")
    if default and runtimes and default not in runtimes:
        yield f"the default runtime {default} is not listed"
    registry = table(section, ("registry",))
    if registry.get("config_path") and registry.get("mirrors"):
        yield "registry.mirrors cannot be set beside registry.config_path"
