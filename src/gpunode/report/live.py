"""A run as it happens: what is being done, how far it is, how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event, RLock, Thread
from types import TracebackType
from typing import Protocol, cast

from gpunode.engine.results import StepResult, StepState
from gpunode.report.page import Cell
from gpunode.report.steps import headline
from gpunode.report.terminal import Terminal
from gpunode.report.words import clean, duration, human_name, megabytes

HEARTBEAT_SECONDS = 10.0


@dataclass(frozen=True)
class Download:
    """A download's state: bytes so far, of how many where that is known, and since when."""

    received: int
    total: int | None
    since: float

    def rate(self, now: float) -> float:
        """Bytes a second since it began."""
        return self.received / max(now - self.since, 0.1)


@dataclass(frozen=True)
class Work:
    """The resource at hand: `last` is the last line that a command printed, `since` a monotonic time."""

    step: str
    resource: str
    summary: str
    since: float
    last: str = ""
    download: Download | None = None


class Display(Protocol):
    """What shows the work at hand between two finished lines."""

    def start(self) -> None:
        """Begin to show."""

    def stop(self) -> None:
        """Leave the terminal as it was."""


class Live:
    """Shows a run as it goes on, as a Listener and a context manager: animated on a terminal, else a line a resource.

    Progress goes to standard output, or with `on_stderr` to standard error, where it leaves a JSON document alone.
    It may be called from any thread.
    """

    def __init__(
        self,
        terminal: Terminal,
        *,
        on_stderr: bool = False,
        table_follows: bool = False,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._table_follows = table_follows
        self._page = terminal.err if on_stderr else terminal.out
        self._verbose = terminal.verbose
        self._lock = RLock()
        self._work: Work | None = None
        self._header: tuple[str, str] | None = None
        self._display = self._choose_display(heartbeat_seconds)

    def _choose_display(self, seconds: float) -> Display:
        if not self._page.terminal:
            return Heartbeat(self._still, seconds)
        from gpunode.report.animation import Animation

        return Animation(self._page, lambda: self._work)

    def __enter__(self) -> Live:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._work = None
        self._display.stop()

    def step_began(self, name: str, title: str, resources: int) -> None:  # noqa: ARG002 - the protocol's signature
        """Keep the headline until there is something to say under it."""
        with self._lock:
            self._header = (name, title)

    def resource_began(self, step: str, resource: str, summary: str) -> None:
        """A resource is being converged."""
        with self._lock:
            self._head()
            self._work = Work(step, resource, summary, time.monotonic())

    def line(self, text: str) -> None:
        """A command printed a line; of one drawn over itself, as a progress meter is, the last state counts."""
        shown = clean(text.rstrip().rpartition("\r")[2].strip())
        if not shown:
            return
        with self._lock:
            if self._work:
                self._work = replace(self._work, last=shown, download=None)
            if self._verbose:
                self._page.line((shown, "dim"), indent=4)

    def received(self, count: int, total: int | None) -> None:
        """A download goes on. A count smaller than the last is another download."""
        with self._lock:
            if not self._work:
                return
            before = self._work.download
            since = before.since if before and before.received <= count else time.monotonic()
            self._work = replace(self._work, download=Download(count, total, since))

    def resource_ended(self, step: str, resource: str, seconds: float, error: str) -> None:  # noqa: ARG002 - the protocol's
        """A finished line, for a resource that was changed or failed; with `verbose` for all."""
        with self._lock:
            work, self._work = self._work, None
            if work or error or self._verbose:
                self._head()
                self._finished(human_name(resource), work.summary if work else "", seconds, error)

    def step_ended(self, name: str, state: str, seconds: float) -> None:
        """One line for a step that had nothing to change."""
        with self._lock:
            if self._header:
                title, self._header = self._header[1], None
                headline(self._page, StepResult(name, title, cast("StepState", state)))
            elif self._verbose:
                self._page.line((f"{name}: {state.replace('-', ' ')} ({duration(seconds)})", "dim"), indent=2)

    def probe_began(self, name: str, tried: str) -> None:
        """A smoke test is being run."""
        with self._lock:
            self._work = Work("verify", name, tried, time.monotonic())

    def probe_ended(self, name: str, state: str, detail: str, seconds: float) -> None:
        """A smoke test's result; not where a table of them all follows."""
        with self._lock:
            self._work = None
            if self._table_follows:
                return
            self._head()
            if state == "skipped":
                self._page.line((f"{self._page.symbols.skipped} {name}  skipped: {_first(detail)}", "dim"), indent=2)
            else:
                self._finished(name, "" if state == "failed" else detail, seconds, detail if state == "failed" else "")

    def undone(self, step: str, description: str, left: tuple[str, ...]) -> None:
        """A change was taken back, and what of it was not."""
        with self._lock:
            sign = ("! ", "yellow") if left else (f"{self._page.symbols.passed} ", "green")
            self._page.line(sign, (f"{step}  ", "dim"), f"took back: {description}")
            for what in left:
                self._page.prose(what, "yellow", indent=2, lead=("left: ", "yellow"))

    def _head(self) -> None:
        if self._header:
            (name, title), self._header = self._header, None
            step = (f"{self._page.symbols.step} ", "cyan")
            self._page.line(step, (name, "bold"), (f" {self._page.symbols.dot} ", "dim"), title)

    def _finished(self, name: str, summary: str, seconds: float, error: str) -> None:
        symbols = self._page.symbols
        mark: Cell = (f"{symbols.failed} ", "bold red") if error else (f"{symbols.passed} ", "green")
        took: Cell = (f"  ({duration(seconds)})", "dim")
        told, style = (_first(error), "red") if error else (_first(summary), "dim")
        whole: list[Cell] = [mark, name, (f"  {told}" if told else "", style), took]
        if self._page.fits(*whole, indent=2):
            self._page.line(*whole, indent=2)
        else:
            self._page.line(mark, name, took, indent=2)
            self._page.prose(told, style, indent=6)

    def _still(self) -> None:
        with self._lock:
            if self._work:
                symbols, now = self._page.symbols, time.monotonic()
                told = progress(self._work, now)
                since = f"{symbols.ellipsis} still at {human_name(self._work.resource)}"
                self._page.line(
                    f"{since} after {duration(now - self._work.since)}{f': {told}' if told else ''}", indent=2
                )


def progress(work: Work, now: float) -> str:
    """How far the work is, in words: a download's bytes and rate, or the last line printed."""
    if work.download is None:
        return work.last
    of = f" of {megabytes(work.download.total)}" if work.download.total else ""
    return f"{megabytes(work.download.received)}{of}, {megabytes(work.download.rate(now))}/s"


def _first(text: str) -> str:
    return text.strip().partition("\n")[0]


class Heartbeat:
    """Calls `beat` at every interval from a thread of its own, so that a log shows that a long command is still at it."""

    def __init__(self, beat: Callable[[], None], seconds: float) -> None:
        self._beat = beat
        self._seconds = seconds
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; returns once no beat is under way."""
        self._stopped.set()
        self._thread.join(timeout=self._seconds)

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self._beat()
