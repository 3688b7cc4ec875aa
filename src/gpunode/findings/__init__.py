"""The failure catalogue: one small look each, evidence → finding or nothing."""

from __future__ import annotations

from dataclasses import replace

from gpunode.engine.results import FindingResult
from gpunode.findings import containerd, cuda, driver, kubernetes, packages, repositories
from gpunode.findings.gather import gather
from gpunode.findings.model import Known
from gpunode.host.reader import Reader
from gpunode.steps.base import Context

__all__ = ["CATALOGUE", "Known", "known", "recognise"]

# Causes before what they explain.
CATALOGUE: tuple[Known, ...] = (
    *repositories.FINDINGS,
    *packages.FINDINGS,
    *driver.FINDINGS,
    *cuda.FINDINGS,
    *containerd.FINDINGS,
    *kubernetes.FINDINGS,
)


def known() -> tuple[Known, ...]:
    """Every failure that can be recognised, causes first."""
    return CATALOGUE


def recognise(host: Reader, context: Context) -> list[tuple[str, FindingResult]]:
    """The failures that this host has, causes first, each with the step it belongs to. Never raises for what the host holds."""
    evidence = gather(host, context)
    found = [(each, finding) for each in CATALOGUE if (finding := each.recognise(evidence))]
    here = {each.id for each, _ in found}
    return [(each.step, replace(finding, explains=_present(finding.explains, here))) for each, finding in found]


def _present(explains: tuple[str, ...], here: set[str]) -> tuple[str, ...]:
    """Findings only where this host has them; resources as they are."""
    return tuple(name for name in explains if ":" in name or name in here)
