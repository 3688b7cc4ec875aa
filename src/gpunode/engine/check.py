"""Plan and check: the same look at the host, told as what would change or as what has drifted."""

from __future__ import annotations

import time
from dataclasses import replace

from gpunode.engine.deadline import in_time
from gpunode.engine.recovery import interruption
from gpunode.engine.results import FindingResult, Report
from gpunode.engine.situation import Situation, refusals
from gpunode.engine.survey import Survey, survey
from gpunode.errors import RefusedError
from gpunode.findings import recognise
from gpunode.findings.gather import units
from gpunode.findings.reading import known
from gpunode.host import systemd
from gpunode.host.journal import Journal
from gpunode.host.reader import Reader
from gpunode.host.systemd import Unit
from gpunode.steps import ORDER
from gpunode.steps.base import Context


@in_time
def plan(situation: Situation) -> Report:
    """What apply would change. Changes nothing. Raises RefusedError with every reason when it would not begin."""
    return _looked(situation, "plan")[0]


@in_time
def check(situation: Situation) -> Report:
    """How the host differs from the profile, and which known failures explain it. Changes nothing.

    Raises RefusedError when host and profile do not fit each other at all.
    """
    report, context, host = _looked(situation, "check")
    differing = {difference.resource for step in report.steps for difference in step.differences}
    found = _recognised(host, context, in_sync=report.result == "in-sync")
    for step in report.steps:
        step.findings = [_explaining(each, differing) for name, each in found if name == step.name]
    if report.result == "in-sync" and any(step.findings for step in report.steps):
        report.result = "drift"
    report.warnings += not_known(report, host)
    return report


def not_known(report: Report, host: Reader) -> list[str]:
    """What could not be learned and is told nowhere yet. For one who is not root that is a warning of its own."""
    told = {report.error, *(step.why for step in report.steps)}
    return [words for words in host.unknown if words not in told] if host.is_root() else []


def _recognised(host: Reader, context: Context, *, in_sync: bool) -> list[tuple[str, FindingResult]]:
    """The failures of a host. GPUs are always asked how they are: a host in sync may have one that fails.

    The services' logs and the cluster are asked only where something is wrong.
    """
    wrong = not in_sync or recognise(host, context, depth="hardware")
    return recognise(host, context) if wrong else []


def _explaining(finding: FindingResult, differing: set[str]) -> FindingResult:
    """Of the resources that a finding explains, those that do differ."""
    return replace(finding, explains=tuple(name for name in finding.explains if ":" not in name or name in differing))


def survey_all(situation: Situation, context: Context, host: Reader) -> list[Survey]:
    """Every chosen step as found. A resource that two steps share is told of by the first."""
    seen: set[str] = set()
    surveys = []
    for step in situation.steps:
        found = survey(step, context, host)
        found.leave_out(seen)
        seen |= {pending.resource.id for pending in found.pending}
        surveys.append(found)
    return surveys


def summarise(report: Report, surveys: list[Survey], *, differing: str) -> None:
    """Fill in the result: an observation that failed first, then differences."""
    report.steps = [each.result for each in surveys]
    error = next((each.error for each in surveys if each.error), None)
    if error:
        report.result, report.error, report.hint, report.details = "failed", error.message, error.hint, error.details
    elif any(each.pending for each in surveys):
        report.result = "drift" if differing == "drift" else "pending"


def missing_dependencies(situation: Situation, context: Context, host: Reader) -> list[str]:
    """Steps left out by --step or --skip that the chosen ones stand on and that are not in sync, in words."""
    chosen = {step.name for step in situation.steps}
    needed = _stood_on(chosen) - chosen
    return [
        f"{step.name}, which the chosen steps stand on, is not in sync: add --step {step.name}"
        for step in ORDER
        if step.name in needed and survey(step, context, host).result.state not in ("in-sync", "skipped")
    ]


def _stood_on(names: set[str]) -> set[str]:
    """All steps that these stand on, directly or by way of others."""
    found = {name for step in ORDER if step.name in names for name in step.after}
    return found if found <= names else found | _stood_on(names | found)


def _looked(situation: Situation, command: str) -> tuple[Report, Context, Reader]:
    began = time.monotonic()
    host = Reader(situation.machine, situation.network)
    context = situation.context(host)
    reasons = refusals(situation, context)
    if reasons:
        raise RefusedError(tuple(reasons))
    report = Report(command)
    if host.is_root():
        report.interrupted = interruption(Journal(situation.machine))
    else:
        report.warnings.append("not run as root: the journal, and files that only root may read, were not looked at")
    known(
        dict[str, Unit](), systemd.show, host, units(host, context)
    )  # one question for all that will be asked of units
    summarise(report, survey_all(situation, context, host), differing="drift" if command == "check" else "pending")
    report.warnings += missing_dependencies(situation, context, host)
    report.seconds = time.monotonic() - began
    return report, context, host
