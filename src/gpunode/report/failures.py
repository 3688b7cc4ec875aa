"""Errors as a person sees them: one line that says what is wrong, what was seen, what to do. Never a traceback."""

from __future__ import annotations

from collections.abc import Sequence

from gpunode.errors import GpunodeError, RefusedError
from gpunode.report.page import Page


def error(page: Page, found: GpunodeError) -> None:
    """The error, its evidence and its hint; a refusal with every reason."""
    if isinstance(found, RefusedError):
        refusal(page, found.reasons, found.hint)
    else:
        failure(page, found.message, found.details, found.hint)


def failure(page: Page, message: str, details: Sequence[str], hint: str) -> None:
    """The line, the evidence beneath it, the hint last."""
    page.line((f"gpunode: {' '.join(message.split())}", "bold red"))
    for detail in details:
        for line in detail.splitlines():
            page.line((line, "dim"), indent=2)
    _hint(page, hint)


def refusal(page: Page, reasons: Sequence[str], hint: str = "") -> None:
    """Every reason not to begin, at once."""
    if len(reasons) == 1:
        failure(page, reasons[0], (), hint)
        return
    page.line((f"gpunode: {len(reasons)} reasons not to begin; nothing was changed", "bold red"))
    for reason in reasons:
        page.prose(reason, indent=2, lead=("- ", "red"))
    _hint(page, hint)


def _hint(page: Page, hint: str) -> None:
    if hint:
        page.prose(hint, indent=2, lead=(f"{page.symbols.arrow} ", "cyan"))
