"""The failure catalogue: one small look each, evidence → finding or nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from graphlib import TopologicalSorter

from gpunode.engine.results import FindingResult
from gpunode.findings import (
    ahead,
    binaries,
    cdi,
    containerd,
    cuda,
    docker,
    driver,
    driver_build,
    driver_start,
    engine_state,
    fabric,
    gpu_health,
    hardware,
    holds,
    images,
    kubernetes,
    packages,
    plugin,
    repairs,
    repositories,
    toolkit,
)
from gpunode.findings.evidence import Evidence
from gpunode.findings.gather import Depth, gather
from gpunode.findings.model import Known
from gpunode.host.reader import Reader
from gpunode.steps.base import Context

__all__ = ["CATALOGUE", "Known", "causes_first", "gather", "known", "recognise", "recognise_in", "related"]

# From the hardware up to the cluster.
LAYERS = (
    *(hardware, gpu_health, fabric, ahead, repositories, holds, packages, driver_build, driver, driver_start, cuda),
    *(toolkit, docker, images, binaries, repairs, engine_state, containerd, cdi, kubernetes, plugin),
)


def causes_first(entries: Iterable[Known]) -> tuple[Known, ...]:
    """In the order of the layers, but each behind all that explain it. Raises CycleError where two explain each other."""
    by_id = {each.id: each for each in entries}
    graph: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(by_id, ()))
    for each in by_id.values():
        for name in each.explains:
            if name in by_id:
                graph.add(name, each.id)
    places = {name: place for place, name in enumerate(by_id)}
    graph.prepare()
    ordered: list[str] = []
    ready = list(graph.get_ready())
    while ready:
        name = min(ready, key=places.__getitem__)
        ready.remove(name)
        ordered.append(name)
        graph.done(name)
        ready += graph.get_ready()
    return tuple(by_id[name] for name in ordered)


CATALOGUE: tuple[Known, ...] = causes_first(each for layer in LAYERS for each in layer.FINDINGS)


def known() -> tuple[Known, ...]:
    """Every failure that can be recognised, causes first."""
    return CATALOGUE


def recognise(host: Reader, context: Context, *, depth: Depth = "all") -> list[tuple[str, FindingResult]]:
    """The failures that this host has, causes first, each with the step it belongs to. Never raises for what the host holds.

    What lies deeper takes a child process each: see `Depth`.
    """
    return recognise_in(gather(host, context, depth=depth))


def recognise_in(evidence: Evidence) -> list[tuple[str, FindingResult]]:
    """As `recognise`, of evidence that is gathered already."""
    return related([(each, finding) for each in CATALOGUE if (finding := each.recognise(evidence))])


def related(found: list[tuple[Known, FindingResult]]) -> list[tuple[str, FindingResult]]:
    """Findings of one host, each with the step it belongs to, and explaining only what this host has."""
    here = {each.id for each, _ in found}
    return [(each.step, replace(finding, explains=_present(finding.explains, here))) for each, finding in found]


def _present(explains: tuple[str, ...], here: set[str]) -> tuple[str, ...]:
    """Findings only where this host has them; resources as they are."""
    return tuple(name for name in explains if ":" in name or name in here)
