"""Packages held at their version, and what their package manager needs for that."""

from __future__ import annotations

from gpunode.host.packages.base import Spec
from gpunode.resources.base import Resource
from gpunode.resources.packages import Hold, Packages
from gpunode.steps import decisions
from gpunode.steps.base import Context

TOOLS_WHY = "without it this package manager holds nothing"


def hold(
    context: Context,
    name: str,
    expected: tuple[str, ...],
    why: str,
    *,
    family: tuple[str, ...] = (),
    not_family: tuple[str, ...] = (),
) -> list[Resource]:
    """The packages `expected` held, and those installed of a family; before them what the hold takes. By name, as in `hold:NAME`."""
    found = decisions.distribution(context)
    if found is None:
        return []
    tools = tuple(Spec(tool) for tool in found.hold_tools)
    needed = [Packages(f"hold of {name}", found.manager, tools, TOOLS_WHY)] if tools else []
    return [*needed, Hold(name, found.manager, family, expected, why, not_family)]
