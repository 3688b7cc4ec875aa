"""The NVIDIA Container Toolkit: repository, key, four packages at one version."""

from __future__ import annotations

from gpunode.host.cdi import MODE, TOOLKIT_CONFIG
from gpunode.host.packages.base import Spec
from gpunode.resources.base import Resource
from gpunode.resources.cdi import UNITS_SINCE, CdiSpec, refusal
from gpunode.resources.keys import TomlKeys
from gpunode.resources.packages import Packages, Program
from gpunode.steps import decisions, decisions_host, local_bundle
from gpunode.steps.base import Context, Step
from gpunode.steps.holds import hold
from gpunode.steps.repositories import repository


def resources(context: Context) -> list[Resource]:
    """Repository, packages, holds."""
    toolkit, distribution = context.profile.container_toolkit, context.facts.distribution
    if distribution is None:
        return []
    names = context.catalog.toolkit.packages
    specs = tuple(Spec(name, toolkit.version) for name in names)
    found: list[Resource] = [
        *repository(context, "container-toolkit", why="the toolkit is in no distribution's archive"),
        Packages(
            "container toolkit",
            distribution.manager,
            specs,
            "the four packages work only at one and the same version",
            bundle=local_bundle.path(context),
        ),
    ]
    why = "containerd calls it to start every container that gets a GPU"
    known, only = context.catalog.toolkit, local_bundle.path(context)
    found.append(Program(known.runtime, distribution.manager, known.runtime_package, why, only))
    if toolkit.hold:
        found += hold(context, "container toolkit", names, "the four packages must not drift apart")
    if toolkit.mode is not None:
        why = "the profile says how the runtime gives containers their GPUs"
        found.append(TomlKeys(TOOLKIT_CONFIG, ((MODE, toolkit.mode),), why))
    if wanted := decisions.cdi_wanted(context):
        found.append(CdiSpec(wanted))
    return found


def refusals(context: Context) -> list[str]:
    """No packages here; a version with a known hole that the profile does not accept; one without the CDI specification that is wanted."""
    return [*decisions_host.package_refusals(context), *_vulnerable(context), *_without_cdi(context)]


def _without_cdi(context: Context) -> list[str]:
    version = context.profile.container_toolkit.version
    too_old = decisions.version_tuple(version) < decisions.version_tuple(UNITS_SINCE)
    return [refusal(version)] if too_old and decisions.cdi_wanted(context) else []


def _vulnerable(context: Context) -> list[str]:
    toolkit, known = context.profile.container_toolkit, context.catalog.toolkit
    if toolkit.allow_vulnerable or decisions.version_tuple(toolkit.version) >= decisions.version_tuple(known.floor):
        return []
    holes = f"container toolkit {toolkit.version} has known holes ({known.floor_reason})"
    return [f'{holes}: container_toolkit.version = "{known.floor}" or newer, or allow_vulnerable = true']


STEP = Step("container_toolkit", "NVIDIA Container Toolkit", resources, after=("driver",), refusals=refusals)
