"""The NVIDIA Container Toolkit: repository, key, four packages at one version."""

from __future__ import annotations

from gpunode.host.packages.base import Spec
from gpunode.resources.base import Resource
from gpunode.resources.packages import Hold, Packages, Program
from gpunode.steps import decisions
from gpunode.steps.base import Context, Step
from gpunode.steps.repositories import repository


def resources(context: Context) -> list[Resource]:
    """Repository, packages, holds."""
    toolkit, distribution = context.profile.container_toolkit, context.facts.distribution
    if distribution is None:
        return []
    names = context.catalog.toolkit.packages
    specs = tuple(Spec(name, toolkit.version) for name in names)
    found = [
        *repository(context, "container-toolkit", why="the toolkit is in no distribution's archive"),
        Packages(
            "container toolkit", distribution.manager, specs, "the four packages work only at one and the same version"
        ),
    ]
    why = "containerd calls it to start every container that gets a GPU"
    found.append(
        Program(context.catalog.toolkit.runtime, distribution.manager, context.catalog.toolkit.runtime_package, why)
    )
    if toolkit.hold:
        found.append(
            Hold("container toolkit", distribution.manager, (), names, "the four packages must not drift apart")
        )
    return found


def refusals(context: Context) -> list[str]:
    """A version with a known hole, unless the profile accepts it."""
    toolkit, known = context.profile.container_toolkit, context.catalog.toolkit
    if toolkit.allow_vulnerable or decisions.version_tuple(toolkit.version) >= decisions.version_tuple(known.floor):
        return []
    holes = f"container toolkit {toolkit.version} has known holes ({known.floor_reason})"
    return [f'{holes}: container_toolkit.version = "{known.floor}" or newer, or allow_vulnerable = true']


STEP = Step("container_toolkit", "NVIDIA Container Toolkit", resources, after=("driver",), refusals=refusals)
