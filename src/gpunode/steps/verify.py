"""Verification as the last step: it owns nothing on the host. What it tries is in probes/, and `gpunode verify` runs it alone."""

from __future__ import annotations

from gpunode.resources.base import Resource
from gpunode.steps.base import Context, Step


def resources(_context: Context) -> list[Resource]:
    """None: verification tries, it makes nothing."""
    return []


def skipped(_context: Context) -> str:
    """There is nothing to compare."""
    return "tried by `gpunode verify`, and at the end of an apply that changed something"


STEP = Step("verify", "Verification", resources, after=("driver",), skipped=skipped)
