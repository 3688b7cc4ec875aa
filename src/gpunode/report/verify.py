"""What was tried on the host to see that it works, and what that proves."""

from __future__ import annotations

from gpunode.engine.results import ProbeResult, ProbeState, Report
from gpunode.report import steps
from gpunode.report.page import Cell, Page
from gpunode.report.words import count, duration

_STYLES: dict[ProbeState, str] = {"passed": "green", "failed": "bold red", "skipped": "dim"}


def verify(page: Page, report: Report) -> None:
    """The table of smoke tests, what failed with its evidence, and the verdict."""
    steps.opening(page, report)
    for step in report.steps:
        steps.findings(page, step)
    probes = [probe for step in report.steps for probe in step.probes]
    table(page, probes)
    for step in report.steps:
        steps.notes(page, step)
    page.line()
    if not report.error:
        _verdict(page, report, probes)


def table(page: Page, probes: list[ProbeResult]) -> None:
    """The smoke tests, one a row, and beneath them why any of them failed or was skipped."""
    page.grid([_row(page, probe) for probe in probes], head=("tried", "proves", "result", "time") if probes else ())
    for probe in probes:
        if probe.state == "failed":
            _failure(page, probe)
    skipped = [probe for probe in probes if probe.state == "skipped" and probe.detail]
    if skipped:
        page.line()
    for probe in skipped:
        page.prose(probe.detail, "dim", lead=(f"{page.symbols.skipped} {probe.name} skipped: ", "dim"))


def _row(page: Page, probe: ProbeResult) -> list[Cell]:
    symbol = {"passed": page.symbols.passed, "failed": page.symbols.failed, "skipped": page.symbols.skipped}[
        probe.state
    ]
    time = "" if probe.state == "skipped" else duration(probe.seconds)
    result = (f"{symbol} {probe.state}", _STYLES[probe.state])
    return [(probe.tried, "dim" if probe.state == "skipped" else ""), (probe.proves, "dim"), result, time]


def _failure(page: Page, probe: ProbeResult) -> None:
    page.line()
    page.line((f"{page.symbols.failed} {probe.name} failed", "bold red"), (f" (layer: {probe.layer})", "dim"))
    for line in probe.detail.splitlines():
        page.line(line, indent=2)


def _verdict(page: Page, report: Report, probes: list[ProbeResult]) -> None:
    if report.result == "not-verified":
        words, style = f"Not verified: {tally(probes)}.", "bold red"
    elif not any(probe.state == "passed" for probe in probes):
        words, style = "Nothing was verified: no test ran.", "bold yellow"
    else:
        words, style = f"Verified: {tally(probes)}.", "bold green"
    steps.verdict(page, words, style, report.seconds)


def tally(probes: list[ProbeResult]) -> str:
    """`5 of 6 tests passed, 1 failed`."""
    numbers = {state: sum(probe.state == state for probe in probes) for state in _STYLES}
    parts = [f"{numbers['passed']} of {count(len(probes), 'test')} passed"]
    parts += [f"{numbers[state]} {state}" for state in ("failed", "skipped") if numbers[state]]
    return ", ".join(parts)
