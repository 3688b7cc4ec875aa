"""The timer: what was done about it, and how it stands."""

from __future__ import annotations

from datetime import datetime

from gpunode.engine.results import Report
from gpunode.engine.timer import Status
from gpunode.report.page import Page

_DONE = {
    "changed": "The timer runs: its first check begins now. See `gpunode timer status`.",
    "undone": "The timer is gone.",
    "in-sync": "There is no timer of gpunode's.",
}


def done(page: Page, report: Report) -> None:
    """How it ended, and what is left."""
    for line in report.left:
        page.prose(line, lead=("left: ", "yellow"))
    if report.result in _DONE:
        page.prose(_DONE[report.result], "bold green")


def status(page: Page, found: Status) -> None:
    """A line for each thing to know."""
    page.line(
        ("timer    ", "bold"),
        f"{'enabled' if found.enabled else 'not enabled'}, {'active' if found.active else 'not active'}",
    )
    page.line(("checked  ", "bold"), f"{_when(found.last)} ({found.result})" if found.last else "never")
    page.line(("metrics  ", "bold"), f"{found.metrics}, written {_when(found.written)}" if found.metrics else "none")


def _when(at: float | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
