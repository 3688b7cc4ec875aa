"""The failure catalogue: one small function each, evidence → finding or nothing."""

from __future__ import annotations

from gpunode.engine.results import FindingResult
from gpunode.host.reader import Reader
from gpunode.steps.base import Context


def recognise(_host: Reader, _context: Context) -> list[tuple[str, FindingResult]]:
    """The failures that this host has, each with the step it belongs to."""
    return []
