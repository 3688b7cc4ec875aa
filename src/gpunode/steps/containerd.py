"""containerd: the nvidia runtime in its configuration, and the daemon running with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpunode.catalog.model import Catalog
from gpunode.formats.containerd_config import Request
from gpunode.resources.base import Resource
from gpunode.resources.containerd import ContainerdConfig
from gpunode.resources.selfconfigured import SelfConfigured
from gpunode.steps.base import Context, Step

if TYPE_CHECKING:
    from gpunode.profile.model import HostProfile


def resources(context: Context) -> list[Resource]:
    """The config of the engine that this host's flavour runs."""
    facts, wanted = context.facts, context.profile.containerd
    if facts.flavour.engine == "self":
        return [SelfConfigured(facts.flavour.config, facts.engine_unit, wanted.runtime_name, wanted.restart_timeout)]
    request = request_of(context.profile, context.catalog, facts.containerd)
    return [ContainerdConfig(wanted.config or facts.flavour.config, facts.engine_unit, request, wanted.restart_timeout)]


def request_of(profile: HostProfile, catalog: Catalog, containerd_version: str) -> Request:
    """What the config of a containerd release should bring about."""
    return Request(
        containerd_version=containerd_version,
        runtime_name=profile.containerd.runtime_name,
        binary=catalog.toolkit.runtime,
        set_default=profile.containerd.default_runtime,
        kubernetes=profile.kubernetes.flavour != "none",
    )


def refusals(context: Context) -> list[str]:
    """No containerd to configure."""
    if context.facts.flavour.engine == "file" and not context.facts.containerd:
        return [
            "there is no containerd on this host: install it first (apt-get install containerd), or leave the step out (--skip containerd)"
        ]
    return []


def notes(context: Context) -> list[str]:
    """Who configures containerd where we do not."""
    flavour = context.facts.flavour
    if flavour.engine == "self":
        return [
            f"{flavour.name} adds the runtime to its generated config by itself when it starts: gpunode only restarts it"
        ]
    return []


STEP = Step("containerd", "containerd", resources, after=("container_toolkit",), refusals=refusals, notes=notes)
