"""The host profile: what the operator wants a host to be, as a TOML file, a checked model and a JSON Schema.

The names below are loaded on first use, so that importing this package costs nothing before a profile is read.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpunode.profile.errors import Problem, ProfileError
    from gpunode.profile.json_schema import schema
    from gpunode.profile.loader import LoadedProfile, Origin, load, show
    from gpunode.profile.model import HostProfile
    from gpunode.profile.template import Choice, Choices, write_profile

__all__ = [
    "Choice",
    "Choices",
    "HostProfile",
    "LoadedProfile",
    "Origin",
    "Problem",
    "ProfileError",
    "load",
    "schema",
    "show",
    "write_profile",
]

_HOME = {
    "Choice": "template",
    "Choices": "template",
    "HostProfile": "model",
    "LoadedProfile": "loader",
    "Origin": "loader",
    "Problem": "errors",
    "ProfileError": "errors",
    "load": "loader",
    "schema": "json_schema",
    "show": "loader",
    "write_profile": "template",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"gpunode.profile.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
