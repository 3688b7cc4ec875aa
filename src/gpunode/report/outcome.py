"""What a run did: the end of apply, and of rollback."""

from __future__ import annotations

from gpunode.engine.results import Report, StepResult
from gpunode.report import steps
from gpunode.report.page import Cell, Page
from gpunode.report.verify import table, tally
from gpunode.report.words import count, duration


def summary(page: Page, report: Report) -> None:
    """What was done, step by step, what is left to a person, and how to take it back."""
    if report.result == "in-sync" and not any(step.findings for step in report.steps):
        steps.opening(page, report)
        _nothing_to_do(page, report)
        return
    page.line()
    steps.opening(page, report)
    for step in report.steps:
        steps.findings(page, step)
    page.grid([_row(page, step) for step in report.steps])
    _remarks(page, report)
    for step in report.steps:
        if any(probe.state == "failed" for probe in step.probes):
            page.line()
            table(page, step.probes)
    _left(page, report, "Left to do:")
    page.line()
    _verdict(page, report)


def _nothing_to_do(page: Page, report: Report) -> None:
    for step in report.steps:
        steps.notes(page, step)
    steps.verdict(page, *_verdict_words(report), report.seconds)


def _row(page: Page, step: StepResult) -> list[Cell]:
    sign, style = steps.mark(page, step.state)
    time = duration(step.seconds) if step.state in ("changed", "failed") else ""
    return [(f"{sign} {step.name}", style), step.title, (steps.state_words(step, "change"), style), (time, "dim")]


def _remarks(page: Page, report: Report) -> None:
    """Why a step is as it is, and what a person should know besides, under the step's name."""
    remarks = [
        (f"{step.name} {steps.state_words(step, 'change')}: ", step.why) for step in report.steps if step.why
    ] + [(f"{step.name}: ", note) for step in report.steps for note in step.notes]
    if remarks:
        page.line()
    for lead, text in remarks:
        page.prose(text, "dim", lead=(lead, "dim"))


def _left(page: Page, report: Report, title: str) -> None:
    if not report.left:
        return
    page.line()
    page.line((title, "bold yellow"))
    for what in report.left:
        page.prose(what, indent=2, lead="- ")


def _verdict(page: Page, report: Report) -> None:
    steps.verdict(page, *_verdict_words(report), report.seconds)
    if not report.run:
        return
    if report.result == "failed":
        page.line((f"Run {report.run}. To go on from here: gpunode apply. To take it back: gpunode rollback", "dim"))
    else:
        page.line((f"Run {report.run}. To take it back: gpunode rollback", "dim"))


def _verdict_words(report: Report) -> tuple[str, str]:
    changed = [step for step in report.steps if step.state == "changed"]
    number = sum(steps.changes(step) for step in changed)
    done = f"{count(number, 'change')} in {count(len(changed), 'step')}"
    probes = [probe for step in report.steps for probe in step.probes]
    tested = f"; {tally(probes)}" if probes else ""
    return {
        "in-sync": ("Nothing to do: the host is as the profile says.", "bold green"),
        "changed": (f"Done: {done}{tested}.", "bold green"),
        "verified": (f"Done: {done}{tested}.", "bold green"),
        "not-verified": (f"Done, but it does not work: {done}{tested}.", "bold red"),
        "reboot-required": (f"A reboot is needed to finish: {done} so far.", "bold yellow"),
        "failed": (f"Failed: {done} before it.", "bold red"),
        "refused": ("Refused: nothing was changed.", "bold red"),
        "drift": ("The host is not as the profile says.", "bold yellow"),
        "pending": ("Changes are pending.", "bold yellow"),
        "undone": ("Taken back.", "bold green"),
    }[report.result]


def rollback(page: Page, report: Report) -> None:
    """What could not be taken back, by name, and how the rollback ended. What was taken back was told as it happened."""
    steps.opening(page, report)
    for step in report.steps:
        steps.notes(page, step)
    _left(page, report, "Left as it is:")
    if report.left:
        page.line()
    steps.verdict(page, *_rollback_words(report), report.seconds)


def _rollback_words(report: Report) -> tuple[str, str]:
    if report.result == "failed":
        return "The rollback did not come to its end. To go on with it: gpunode rollback", "bold red"
    if report.result == "refused":
        return "Refused: nothing was taken back.", "bold red"
    if report.result == "in-sync":
        return "Nothing to take back.", "bold green"
    if report.left:
        return f"Taken back, but for {count(len(report.left), 'thing')}.", "bold yellow"
    if report.part:
        return f"Taken back: {report.part}.", "bold green"
    return "Taken back: the host is as it was before.", "bold green"
