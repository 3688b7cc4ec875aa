"""How the host stands against the profile: causes first, then what differs."""

from __future__ import annotations

from gpunode.engine.results import Report
from gpunode.engine.since import when
from gpunode.report import steps
from gpunode.report.page import Page
from gpunode.report.words import count

_ORDER = ("error", "warning", "info")


def check(page: Page, report: Report) -> None:
    """All findings, gravest first; every step's state and differences; the verdict."""
    steps.opening(page, report)
    found = [(finding, step.name) for step in report.steps for finding in step.findings]
    for finding, step_name in sorted(found, key=lambda pair: _ORDER.index(pair[0].severity)):
        steps.finding(page, finding, step_name)
    for step in report.steps:
        steps.headline(page, step, "difference")
        steps.differences(page, step)
        steps.notes(page, step)
        if step.differences or step.notes:
            page.line()
    if report.steps and not (report.steps[-1].differences or report.steps[-1].notes):
        page.line()
    if report.since:
        _changes(page, report)
    _verdict(page, report)


def _changes(page: Page, report: Report) -> None:
    """Who changed what since a run, oldest first."""
    if not report.changes:
        page.line((f"Since run {report.since} nothing of gpunode's was changed, as far as the records tell.", "dim"))
    else:
        page.line((f"Since run {report.since}, as far as the records tell:", "bold"))
    page.grid([[(when(each), "dim"), each.what, each.who, (each.source, "dim")] for each in report.changes])
    page.line()


def _verdict(page: Page, report: Report) -> None:
    differing = [step for step in report.steps if step.differences]
    counts = [
        count(sum(steps.changes(step) for step in differing), "difference") + f" in {count(len(differing), 'step')}"
        if differing
        else "",
        count(number, "finding") if (number := sum(len(step.findings) for step in report.steps)) else "",
    ]
    told = "; ".join(part for part in counts if part)
    if report.error:
        return
    if report.result == "in-sync":
        said = f" ({told})" if told else ""
        page.prose(f"Check: the host is as the profile says.{said}", "bold green")
    else:
        page.prose(f"Check: {told or 'the host is not as the profile says'}.", "bold yellow")
        if differing:
            page.line(("To see what would be done: gpunode plan", "dim"))
