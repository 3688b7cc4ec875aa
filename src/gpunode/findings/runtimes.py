"""containerd's runtimes as a config file or a config dump lists them, under whichever section names are read from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpunode.formats.containerd_releases import ConfigError, Layout, Release, knowledge
from gpunode.formats.toml_data import lookup
from gpunode.steps.base import Context

Runtimes = dict[str, Mapping[str, Any]]


def in_file(data: Mapping[str, Any], context: Context) -> Runtimes:
    """The runtimes that this host's containerd reads from the file, by name."""
    return _tables(lookup(data, _layout(data, context).runtimes))


def in_dump(data: Mapping[str, Any]) -> Runtimes:
    """The runtimes of `containerd config dump`, which writes in its own newest version."""
    found: Runtimes = {}
    for layout in knowledge().layouts.values():
        found |= _tables(lookup(data, layout.runtimes))
    return found


def lists(data: Mapping[str, Any], context: Context, name: str) -> bool:
    """True when the file itself lists the runtime."""
    return name in in_file(data, context)


def place(data: Mapping[str, Any], context: Context) -> tuple[str, ...]:
    """The path of the table of runtimes in the file."""
    return _layout(data, context).runtimes


def systemd_cgroup(runtime: Mapping[str, Any]) -> bool | None:
    """A runtime's SystemdCgroup; None where it says nothing of it."""
    options = runtime.get("options")
    value = options.get("SystemdCgroup") if isinstance(options, Mapping) else None
    return value if isinstance(value, bool) else None


def written_version(context: Context) -> int:
    """The config version that this host's containerd would write."""
    release = _release(context)
    return release.writes if release else 2


def _release(context: Context) -> Release | None:
    try:
        return knowledge().release(context.facts.containerd)
    except ConfigError:
        return None


def _layout(data: Mapping[str, Any], context: Context) -> Layout:
    known, release, version = knowledge(), _release(context), data.get("version", 1)
    if version == 1 and release:
        return known.layouts[release.version_1_layout]
    return known.layouts.get(version if isinstance(version, int) else 2, known.layouts[2])


def _tables(found: Any) -> Runtimes:
    entries = found.items() if isinstance(found, Mapping) else ()
    return {name: entry for name, entry in entries if isinstance(entry, Mapping)}
