"""The failure catalogue on a terminal: all of it as a table, or one failure explained."""

from __future__ import annotations

from collections.abc import Sequence

from gpunode.engine.failures import Failure
from gpunode.report.page import Page
from gpunode.report.steps import SEVERITY_STYLES

_LABEL = 14


def listed(page: Page, entries: Sequence[Failure]) -> None:
    """A line each: id, severity, step, what is wrong."""
    rows = [(each.id, (each.severity, SEVERITY_STYLES[each.severity]), each.step, each.title) for each in entries]
    page.grid(rows, head=("id", "severity", "step", "what is wrong"))
    page.line()
    page.line(("To have one explained: gpunode findings ID", "dim"))


def explained(page: Page, entry: Failure) -> None:
    """Everything that is known of one."""
    page.prose(entry.title, "bold", lead=(f"{entry.severity}: ", SEVERITY_STYLES[entry.severity]))
    page.line((f"{entry.step} {page.symbols.dot} {entry.id}", "dim"), indent=2)
    for label, text in (("people see", entry.sees), ("proved by", entry.proof), ("cause", entry.cause)):
        page.prose(text, indent=2, lead=(label.ljust(_LABEL), "dim"))
    _lines(page, "mend", entry.mend, "cyan")
    _lines(page, "explains", entry.explains)
    _lines(page, "explained by", entry.explained_by)
    _lines(page, "see", entry.references, "dim")


def _lines(page: Page, label: str, lines: Sequence[str], style: str = "") -> None:
    for number, line in enumerate(lines):
        page.line((("" if number else label).ljust(_LABEL), "dim"), (line, style), indent=2)
