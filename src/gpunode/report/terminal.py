"""The terminal as a whole: reports on standard output, errors on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

from gpunode.engine.results import Report
from gpunode.engine.timer import Status
from gpunode.errors import GpunodeError
from gpunode.host.journal import Entry, RunRecord
from gpunode.host.verbs.describe import describe
from gpunode.report import bundle, check, doctor, failures, history, outcome, plan, timer, verify
from gpunode.report.page import Cell, Color, Page

if TYPE_CHECKING:
    from gpunode.engine.bundle import Made


class StepLike(Protocol):
    """What `gpunode steps` tells of a step."""

    @property
    def name(self) -> str:
        """The name that a person types."""

    @property
    def title(self) -> str:
        """What it brings."""

    @property
    def after(self) -> tuple[str, ...]:
        """The steps that come before it."""


class Terminal:
    """Where a person reads. Piped, the text is plain and no line is broken; `color` `auto` respects NO_COLOR.

    `verbose` asks the live view for what commands print and for resources that were in sync.
    """

    def __init__(
        self,
        color: Color = "auto",
        verbose: bool = False,
        *,
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        self.verbose = verbose
        self.out = Page(out or sys.stdout, color)
        self.err = Page(err or sys.stderr, color)

    def plan(self, report: Report) -> None:
        """What apply would do."""
        plan.plan(self.out, report)
        self._failure_of(report)

    def check(self, report: Report) -> None:
        """How the host stands against the profile, causes first."""
        check.check(self.out, report)
        self._failure_of(report)

    def doctor(self, report: Report, verdict: str) -> None:
        """What is wrong, the verdict first."""
        doctor.doctor(self.out, report, verdict)
        self._failure_of(report)

    def verify(self, report: Report) -> None:
        """The smoke tests."""
        verify.verify(self.out, report)
        self._failure_of(report)

    def summary(self, report: Report) -> None:
        """What apply did."""
        outcome.summary(self.out, report)
        self._failure_of(report)

    def rollback(self, report: Report) -> None:
        """What a rollback left, and how it ended."""
        outcome.rollback(self.out, report)
        self._failure_of(report)

    def timer(self, report: Report) -> None:
        """What was done about the timer."""
        timer.done(self.out, report)
        self._failure_of(report)

    def timer_status(self, found: Status) -> None:
        """How the timer stands."""
        timer.status(self.out, found)

    def history(self, runs: Sequence[RunRecord]) -> None:
        """All runs."""
        history.history(self.out, runs)

    def history_run(self, run: RunRecord) -> None:
        """What one run did."""
        history.history_run(self.out, run)

    def steps(self, steps: Iterable[StepLike]) -> None:
        """The steps in their order."""
        rows: list[list[Cell]] = [[(step.name, "bold"), step.title, (", ".join(step.after), "dim")] for step in steps]
        self.out.grid(rows, head=("step", "brings", "after"))

    def profile_show(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """The profile in force: each key, its value, and where it comes from."""
        cells: list[list[Cell]] = [[(key, "bold"), value, (origin, "dim")] for key, value, origin in rows]
        self.out.grid(cells, head=("key", "value", "from"))

    def bundle(self, made: Made) -> None:
        """A bundle that was made or looked at."""
        bundle.bundle(self.out, made)

    def warning(self, text: str) -> None:
        """Something to know that stops nothing, on standard error."""
        self.err.prose(text, "yellow", lead=("! ", "yellow"))

    def declined(self) -> None:
        """The answer was no."""
        self.out.line("Nothing was changed.")

    def rollback_plan(self, entries: Sequence[Entry]) -> None:
        """What a rollback would take back, newest first, and what it restarts."""
        for entry in entries:
            self.out.line(("- ", "red"), (f"{entry.step}  ", "dim"), describe(entry))
        units = dict.fromkeys(entry.intent["unit"] for entry in entries if entry.verb == "restart-service")
        restarts = f"; restarts {', '.join(units)}" if units else ""
        number = f"{len(entries)} change{'' if len(entries) == 1 else 's'}"
        self.out.line((f"To be taken back: {number}{restarts}.", "bold"))

    def wrote_profile(self, path: str, found: Sequence[str]) -> None:
        """What was found on the host, and where the profile is."""
        self.out.line(f"Found: {', '.join(found)}.")
        self.out.line(f"Wrote {path}, with a comment on each choice. Next: gpunode plan")

    def refusal(self, reasons: Sequence[str]) -> None:
        """Every reason not to begin, on standard error."""
        failures.refusal(self.err, reasons)

    def error(self, error: GpunodeError) -> None:
        """One line on standard error, the evidence beneath it, then what to do."""
        failures.error(self.err, error)

    def _failure_of(self, report: Report) -> None:
        if report.error:
            failures.failure(self.err, report.error, report.details, report.hint)
