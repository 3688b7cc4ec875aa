"""containerd: the nvidia runtime in its configuration, and the daemon running with it."""

from __future__ import annotations

from gpunode.formats.containerd_config import Request
from gpunode.resources.base import Resource
from gpunode.resources.containerd import ContainerdConfig
from gpunode.resources.selfconfigured import SelfConfigured
from gpunode.steps.base import Context, Step


def resources(context: Context) -> list[Resource]:
    """The config of the engine that this host's flavour runs."""
    facts, wanted = context.facts, context.profile.containerd
    if facts.flavour.engine == "self":
        return [SelfConfigured(facts.flavour.config, facts.engine_unit, wanted.runtime_name, wanted.restart_timeout)]
    request = Request(
        containerd_version=facts.containerd,
        runtime_name=wanted.runtime_name,
        binary=context.catalog.toolkit.runtime,
        set_default=wanted.default_runtime,
        kubernetes=context.profile.kubernetes.flavour != "none",
    )
    return [ContainerdConfig(wanted.config or facts.flavour.config, facts.engine_unit, request, wanted.restart_timeout)]


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
