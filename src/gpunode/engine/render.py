"""Render: what apply would write, from texts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpunode.catalog import load
from gpunode.errors import UsageError
from gpunode.formats import containerd_config as editing
from gpunode.formats.manifests import documents
from gpunode.formats.toml_data import TomlError
from gpunode.formats.toml_edit import EditError
from gpunode.resources.files import unified
from gpunode.steps.containerd import request_of
from gpunode.steps.device_plugin import objects

if TYPE_CHECKING:
    from gpunode.profile.model import HostProfile


def containerd_config(
    text: str | None, version: str, profile: HostProfile | None, *, name: str, diff: bool = False
) -> str:
    """The config with the nvidia runtime in it, or the unified diff to it. Raises UsageError naming line and column."""
    try:
        patched = editing.patch(text, request_of(profile or _defaults(), load(), version))
    except (TomlError, editing.ConfigError, EditError) as error:
        raise UsageError(f"{name}: {error}") from None
    return unified(name, text or "", patched.text) if diff else patched.text


def device_plugin_objects(profile: HostProfile | None) -> str:
    """The objects as YAML documents."""
    wanted, catalog = profile or _defaults(), load()
    flavour = catalog.flavours.get(wanted.kubernetes.flavour, catalog.flavours["plain"])
    return documents(objects(wanted, flavour.device_plugins))


def _defaults() -> HostProfile:
    from gpunode.profile.model import HostProfile

    return HostProfile()
