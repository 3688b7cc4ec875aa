"""The other container engines of a host: Docker, CRI-O, Podman, each where it is installed."""

from __future__ import annotations

from gpunode.formats.engine_config import Request
from gpunode.host.engines import CRI, ENGINES
from gpunode.resources.base import Resource
from gpunode.resources.container_engine import ContainerEngineConfig
from gpunode.steps.base import Context, Step

OTHERS = tuple(name for name in ENGINES if name not in CRI)


def resources(context: Context) -> list[Resource]:
    """The configuration of each that is here and that the profile does not leave alone."""
    timeout = context.profile.containerd.restart_timeout
    return [
        ContainerEngineConfig(context.facts.engines[name], request_of(context, name), timeout)
        for name in chosen(context)
    ]


def request_of(context: Context, name: str) -> Request:
    """What is wished of an engine: the same runtime as containerd's; the kubelet's own engine has no say in the place."""
    wanted = context.profile.containerd
    return Request(
        version=context.facts.engines[name].version,
        runtime_name=wanted.runtime_name,
        binary=context.catalog.toolkit.runtime,
        set_default=wanted.default_runtime,
        cdi=wanted.cdi,
        kubernetes=context.profile.kubernetes.flavour != "none",
        leave=frozenset(wanted.leave),
    )


def chosen(context: Context) -> list[str]:
    """Those that are here and that the profile does not leave alone."""
    choice = context.profile.engines
    return [name for name in OTHERS if name in context.facts.engines and getattr(choice, name) == "auto"]


def skipped(context: Context) -> str:
    """None of them is here, or the profile leaves them alone."""
    if chosen(context):
        return ""
    here = [ENGINES[name].title for name in OTHERS if name in context.facts.engines]
    if here:
        return f"the profile leaves {' and '.join(here)} alone"
    return "this host has neither Docker nor CRI-O nor Podman"


STEP = Step("engines", "Other container engines", resources, after=("container_toolkit",), skipped=skipped)
