"""What apply would do, as a difference that a person would write."""

from __future__ import annotations

from gpunode.engine.results import Report
from gpunode.report import steps
from gpunode.report.page import Page
from gpunode.report.words import count, listing


def plan(page: Page, report: Report) -> None:
    """Every step with its changes and their consequences, and a line that sums up."""
    steps.opening(page, report)
    for step in report.steps:
        steps.findings(page, step)
    for step in report.steps:
        steps.headline(page, step)
        steps.differences(page, step)
        steps.consequences(page, step)
        if steps.body_follows(step):
            page.line()
    if report.steps and not steps.body_follows(report.steps[-1]):
        page.line()
    _verdict(page, report)


def _verdict(page: Page, report: Report) -> None:
    differing = [step for step in report.steps if step.differences]
    if report.error:
        return
    if not differing:
        page.line(("Plan: nothing to change, the host is as the profile says.", "bold green"))
        return
    number = sum(steps.changes(step) for step in differing)
    parts = [f"Plan: {count(number, 'change')} in {count(len(differing), 'step')}"]
    units = dict.fromkeys(unit for step in report.steps for unit in step.restarts)
    if units:
        parts.append(f"restarts {listing(units)}")
    lasting = sum(len(step.irreversible) for step in report.steps)
    if lasting:
        parts.append(f"{count(lasting, 'thing')} cannot be undone")
    page.prose("; ".join(parts) + ".", "bold")
    if report.command == "plan":
        page.line(("Nothing was changed. To make it so: gpunode apply", "dim"))
