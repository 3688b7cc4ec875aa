"""Results for programs, by the name of their format."""

from __future__ import annotations

from collections.abc import Callable

from gpunode.engine.results import Report
from gpunode.report import alerts
from gpunode.report.json_report import dump
from gpunode.report.junit import junit
from gpunode.report.prometheus import last_success_in, prometheus

DOCUMENTS: dict[str, Callable[[Report], str]] = {
    "json": dump,
    "junit": junit,
    "github": alerts.github,
    "npd": alerts.npd,
}


def document(report: Report, kind: str, *, now: float, earlier: str = "") -> str:
    """The report in a format. `now` is the moment of the report and `earlier` the document before, where one is replaced."""
    if kind == "prometheus":
        return prometheus(report, now, last_success_in(earlier)).rstrip("\n")
    return DOCUMENTS[kind](report)


def exit_code(report: Report, kind: str) -> int:
    """The exit status that goes with the report: node-problem-detector has a protocol of its own."""
    return alerts.npd_exit_code(report) if kind == "npd" else report.exit_code
