"""Doctor: what is wrong with a host, whatever brought it there; or with what a pasted text tells of. Reads only."""

from __future__ import annotations

import time
from collections.abc import Collection
from itertools import groupby

from gpunode.engine.check import not_known
from gpunode.engine.deadline import in_time
from gpunode.engine.results import FindingResult, LayerResult, Report, StepResult
from gpunode.engine.situation import Situation
from gpunode.findings import CATALOGUE, gather, recognise_in
from gpunode.findings.chain import layers
from gpunode.findings.log import recognise_text
from gpunode.findings.unseen import COMMANDS, Sight
from gpunode.host.reader import Reader
from gpunode.steps import ORDER


@in_time
def doctor(situation: Situation) -> Report:
    """The failures of this host, causes first. Needs no profile of it: what a GPU node is by default is the measure."""
    began = time.monotonic()
    host = Reader(situation.machine, situation.network)
    evidence = gather(host, situation.context(host))
    report = _told(recognise_in(evidence), layers(evidence))
    if not host.is_root():
        report.warnings.append(
            "not run as root: the kernel's log, and files that only root may read, were not looked at"
        )
    report.warnings += not_known(report, host)
    report.seconds = time.monotonic() - began
    return report


@in_time
def doctor_of_tree(situation: Situation, unseen: Collection[str]) -> Report:
    """As `doctor`, of a host's files alone. `unseen` are the places of a running host that are not among them (`/proc`, …)."""
    began = time.monotonic()
    host = Reader(situation.machine, situation.network)
    sight = Sight(gather(host, situation.context(host), depth="files"), (COMMANDS, *unseen))
    found, unjudged = sight.findings()
    report = _told(found, sight.layers())
    report.unjudged = unjudged
    missing = ", ".join(["services, logs, the driver and the cluster, which are asked by commands", *unseen])
    report.warnings.append(
        f"files alone were looked at: {len(unjudged)} of {len(CATALOGUE)} failures cannot be judged, for want of {missing}"
    )
    report.warnings += not_known(report, host)
    report.seconds = time.monotonic() - began
    return report


def _told(found: list[tuple[str, FindingResult]], layers: list[LayerResult]) -> Report:
    """The report of findings and layers, step by step."""
    titles = {step.name: step.title for step in ORDER}
    places = {step.name: place for place, step in enumerate(ORDER)}
    report = Report("doctor", layers=layers)
    for name, group in groupby(sorted(found, key=lambda pair: places[pair[0]]), key=lambda pair: pair[0]):
        findings = [finding for _, finding in group]
        report.steps.append(StepResult(name, titles[name], "drift", findings=findings))
    wrong = any(finding.severity != "info" for _, finding in found)
    broken = any(layer.state == "broken" for layer in layers)
    report.result = "drift" if wrong or broken else "in-sync"
    return report


def doctor_of_text(text: str) -> Report:
    """The failures whose words are in a text."""
    findings = recognise_text(text)
    step = StepResult("log", "The text", "drift" if findings else "in-sync", findings=findings)
    return Report("doctor", "drift" if findings else "in-sync", steps=[step])


def verdict(report: Report) -> str:
    """One sentence: the gravest failure that no other explains, else the first layer that is broken; empty where there is neither."""
    found = [finding for step in report.steps for finding in step.findings]
    explained = {name for finding in found for name in finding.explains}
    causes = [finding for finding in found if finding.id not in explained] or found
    gravest = sorted(causes, key=_gravity)
    if gravest:
        return f"{gravest[0].title}: {gravest[0].cause}"
    broken = [layer for layer in report.layers if layer.state == "broken"]
    return (
        f"No known failure is recognised; the chain breaks at the layer {broken[0].name}: {broken[0].detail}."
        if broken
        else ""
    )


def _gravity(finding: FindingResult) -> int:
    return ("error", "warning", "info").index(finding.severity)
