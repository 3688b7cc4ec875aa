"""The moving lines at the foot of a terminal: a spinner with the resource at hand, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.live import Live as RichLive
from rich.text import Text

from gpunode.report.live import Download, Work, progress
from gpunode.report.page import Page
from gpunode.report.words import clean, duration, human_name, megabytes

_SPINNER, _ASCII_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\"
_FRAMES_A_SECOND = 8
_BAR_COLUMNS = 30
_MARGIN = "      "


class Animation:
    """Draws the work at hand beneath the finished lines, never wider than the terminal, and takes itself away at the end.

    The cursor is not hidden: so there is nothing to restore after a SIGKILL.
    """

    def __init__(self, page: Page, work: Callable[[], Work | None]) -> None:
        self._page = page
        self._work = work
        self._live = _WithCursor(
            console=page.console,
            get_renderable=self._frame,
            transient=True,
            auto_refresh=True,
            refresh_per_second=_FRAMES_A_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self) -> None:
        """Begin to draw, from a thread of rich's."""
        self._live.start()

    def stop(self) -> None:
        """Take the moving lines away."""
        self._live.stop()

    def _frame(self) -> RenderableType:
        # Read once, without a lock: this is called with rich's own lock held, and a whole new Work replaces the old.
        work = self._work()
        if work is None:
            return Text("", end="")
        now = time.monotonic()
        lines = [self._head(work, now)]
        if work.download:
            lines.append(self._bar(work.download, now))
        elif work.last:
            lines.append(self._cropped(Text(_MARGIN + progress(work, now), "dim")))
        return Group(*lines)

    def _head(self, work: Work, now: float) -> Text:
        frames = _SPINNER if self._page.symbols.ellipsis == "…" else _ASCII_SPINNER
        spinner = frames[int(now * _FRAMES_A_SECOND) % len(frames)]
        elapsed = f"  {_elapsed(now - work.since)}"
        text = Text.assemble(
            ("  " + spinner + " ", "cyan"), clean(human_name(work.resource)), (f"  {clean(work.summary)}", "dim")
        )
        head = self._cropped(text, reserved=len(elapsed))
        return head.append(elapsed, "cyan")

    def _cropped(self, text: Text, reserved: int = 0) -> Text:
        """One line that fits: a line folded by the terminal could not be drawn over."""
        text.expand_tabs(8)
        text.truncate(max(1, self._page.console.width - 1 - reserved), overflow="crop")
        text.no_wrap, text.overflow = True, "crop"
        return text

    def _bar(self, download: Download, now: float) -> Text:
        told = f"{megabytes(download.received)}  {megabytes(download.rate(now))}/s"
        if not download.total:
            return self._cropped(Text(_MARGIN + told, "dim"))
        told = f"{megabytes(download.received)} of {megabytes(download.total)}  {megabytes(download.rate(now))}/s"
        room = self._page.console.width - len(_MARGIN) - len(told) - 3
        size = min(_BAR_COLUMNS, room)
        if size < 8:
            return self._cropped(Text(_MARGIN + told, "dim"))
        done = min(size, size * download.received // download.total)
        bar = self._page.symbols.bar
        rest = bar if self._page.colored else "-"
        return Text.assemble(_MARGIN, (bar * done, "cyan"), (rest * (size - done), "bright_black"), "  ", (told, "dim"))


def _elapsed(seconds: float) -> str:
    """Whole seconds: tenths would flicker."""
    return f"{int(seconds)} s" if seconds < 60 else duration(int(seconds))


class _WithCursor(RichLive):
    """Rich's live region, with the cursor left to be seen."""

    def start(self, refresh: bool = False) -> None:
        super().start(refresh)
        self.console.show_cursor(True)
