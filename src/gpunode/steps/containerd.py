"""containerd: the nvidia runtime in its configuration, and the daemon running with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpunode.catalog.model import Catalog
from gpunode.formats.containerd_releases import knowledge
from gpunode.formats.engine_config import ConfigError, Request
from gpunode.host.engines.base import FoundEngine
from gpunode.resources.base import Resource
from gpunode.resources.container_engine import ContainerEngineConfig
from gpunode.resources.files import File
from gpunode.resources.selfconfigured import SelfConfigured
from gpunode.steps import local_bundle
from gpunode.steps.base import Context, Step

if TYPE_CHECKING:
    from gpunode.profile.model import HostProfile


def resources(context: Context) -> list[Resource]:
    """The config of the containerd that this host's flavour runs, and in it the images of a bundle."""
    configured = _self_configured(context) if context.facts.flavour.engine == "self" else _configured(context)
    return [*configured, *local_bundle.images(context)] if configured else []


def _configured(context: Context) -> list[Resource]:
    """The config where gpunode is who writes it."""
    facts, wanted = context.facts, context.profile.containerd
    found = facts.cri
    if found is None:
        return []
    request = request_of(context.profile, context.catalog, found.version, cgroup_driver=facts.cgroup_driver)
    return [ContainerEngineConfig(placed(found, context.profile), request, wanted.restart_timeout)]


def _self_configured(context: Context) -> list[Resource]:
    """The engine's own default runtime, where the profile asks for one, and a restart by which it finds the nvidia runtime."""
    flavour, wanted = context.facts.flavour, context.profile.containerd
    found: list[Resource] = []
    if wanted.default_runtime:
        why = f"{flavour.name} is told its default runtime here, and by nothing in its generated config"
        found.append(File(flavour.default_runtime, f'default-runtime: "{wanted.runtime_name}"\n', why))
    generated = SelfConfigured(
        flavour.config, context.facts.engine_unit, wanted.runtime_name, wanted.default_runtime, wanted.restart_timeout
    )
    return [*found, generated]


def placed(found: FoundEngine, profile: HostProfile) -> FoundEngine:
    """The engine with the files that the profile names in place of those that were found."""
    wanted = profile.containerd
    if wanted.config:
        folder = wanted.config.rpartition("/")[0]
        found = replace(
            found,
            config=wanted.config,
            config_from="containerd.config in the profile",
            drop_in=f"{folder}/conf.d/99-gpunode.toml",
            generated=False,
        )
    return replace(found, drop_in=wanted.drop_in) if wanted.drop_in else found


def request_of(profile: HostProfile, catalog: Catalog, containerd_version: str, *, cgroup_driver: str = "") -> Request:
    """What the config of a containerd release should bring about. `cgroup_driver` is the kubelet's, where it says."""
    wanted = profile.containerd
    return Request(
        version=containerd_version,
        runtime_name=wanted.runtime_name,
        binary=catalog.toolkit.runtime,
        set_default=wanted.default_runtime,
        cdi=wanted.cdi,
        kubernetes=profile.kubernetes.flavour != "none",
        systemd_cgroup=cgroup_driver == "systemd" if cgroup_driver else None,
        place=wanted.place,
        leave=frozenset(wanted.leave),
    )


def refusals(context: Context) -> list[str]:
    """No containerd to configure, or one that does not say what it is."""
    facts = context.facts
    if facts.flavour.engine == "self" or _other_engine(context):
        return []
    found = facts.cri
    if found is None and facts.flavour.containerd:
        unit = facts.engine_unit
        return [
            f"{facts.flavour.name} has not brought its containerd yet: start {unit} once, or leave the step out (--skip containerd)"
        ]
    if found is None:
        return [
            "there is no containerd on this host: install it first (apt-get install containerd), or leave the step out (--skip containerd)"
        ]
    try:
        knowledge().release(found.version or "0.0")
    except ConfigError as error:
        known = f"{found.binary}: {error}"
        return (
            [known]
            if found.version
            else [
                f"`{found.binary} --version` names no release, and where the runtime goes depends on it: mend that containerd first"
            ]
        )
    return []


def skipped(context: Context) -> str:
    """Another engine takes containerd's place on this host."""
    other = _other_engine(context)
    return f"there is no containerd here: this host runs {other}, see the step engines" if other else ""


def _other_engine(context: Context) -> str:
    if context.facts.cri or context.facts.flavour.engine == "self":
        return ""
    return next((name for name in context.facts.engines if name != "podman"), "")


def notes(context: Context) -> list[str]:
    """Who configures containerd where we do not, and which file it is where that is not the usual one."""
    flavour, found, wanted = context.facts.flavour, context.facts.cri, context.profile.containerd.config
    if flavour.engine == "self":
        return [
            f"{flavour.name} adds the runtime to its generated config by itself when it starts: gpunode only restarts it"
        ]
    if wanted and found and found.config and wanted != found.config:
        reads = f"{found.unit} reads {found.config} ({found.config_from})"
        return [
            f"containerd.config in the profile is {wanted}, and {reads}: the daemon sees nothing of what is written there"
        ]
    if found and found.config and flavour.name == "plain" and found.config != flavour.config:
        return [f"the configuration is {found.config}: {found.config_from}"]
    return []


STEP = Step(
    "containerd",
    "containerd",
    resources,
    after=("container_toolkit",),
    refusals=refusals,
    notes=notes,
    skipped=skipped,
)
