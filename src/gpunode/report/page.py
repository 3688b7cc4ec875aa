"""A stream as a page to write on: styled lines, prose, columns. Piped, a line is never wrapped, cropped or coloured."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal, TextIO

from gpunode.report.words import clean, columns, symbols_for

if TYPE_CHECKING:
    from rich.console import Console

Color = Literal["auto", "always", "never"]
Span = tuple[str, str]
"""Text and its style, in rich's words (`bold red`); an empty style is plain."""

Cell = str | Span
PROSE_WIDTH = 100
NARROWEST_COLUMN = 12
GAP = 2


class Page:
    """Writes to one stream. `terminal` is true where lines may be animated, `symbols` are those the stream can show."""

    def __init__(self, stream: TextIO, color: Color = "auto") -> None:
        self.stream = stream
        self.terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self.colored = color == "always" or (color == "auto" and self.terminal and not os.environ.get("NO_COLOR"))
        self.symbols = symbols_for(stream.encoding)
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")  # a file name need not be text, and a locale may lack an arrow

    @cached_property
    def console(self) -> Console:
        """The rich console that draws where there is a terminal or colour is asked for."""
        from rich.console import Console

        return Console(
            file=self.stream,
            force_terminal=True,
            color_system="auto" if self.colored else None,
            no_color=False,  # decided above: an explicit `always` outranks NO_COLOR
            markup=False,
            highlight=False,
            emoji=False,
        )

    @property
    def width(self) -> int | None:
        """The terminal's columns; None where lines are as long as they are."""
        return self.console.width if self.terminal else None

    def fits(self, *cells: Cell, indent: int = 0) -> bool:
        """True when a line stays one line; piped, always."""
        return self.width is None or indent + sum(columns(clean(_span(cell)[0])) for cell in cells) <= self.width

    def line(self, *cells: Cell, indent: int = 0) -> None:
        """Write one line, whole: a terminal may fold it, nothing is cut."""
        spans = [(clean(text), style) for text, style in map(_span, cells) if text]
        if not (self.terminal or self.colored):
            self.stream.write(" " * indent * bool(spans) + "".join(text for text, _ in spans) + "\n")
            self.stream.flush()
            return
        from rich.segment import Segment, Segments

        segments = [Segment(text, self.console.get_style(style) if style else None) for text, style in spans]
        margin = [Segment(" " * indent)] if indent and spans else []
        self.console.print(Segments([*margin, *segments, Segment.line()]), soft_wrap=True, crop=False)

    def prose(self, text: str, style: str = "", *, indent: int = 0, lead: Cell = "") -> None:
        """Write a sentence, folded between words on a terminal, its further lines under the first. `lead` stands before it."""
        before = _span(lead)
        hanging = indent + columns(before[0])
        first, *rest = self._fold(clean(" ".join(text.split())), self._room(hanging, PROSE_WIDTH))
        self.line(before, (first, style), indent=indent)
        for further in rest:
            self.line((further, style), indent=hanging)

    def grid(self, rows: Iterable[Sequence[Cell]], *, indent: int = 0, head: Sequence[str] = ()) -> None:
        """Write rows in columns. On a terminal too narrow for them the widest columns are folded."""
        table = [[_span(cell) for cell in row] for row in rows]
        if head:
            table.insert(0, [(title, "dim") for title in head])
        if not table:
            return
        widths = [max(columns(text) for text, _ in column) for column in zip(*table, strict=True)]
        room = self._room(indent)
        if room is not None:
            _narrow(widths, [_longest_word(column) for column in zip(*table, strict=True)], room)
        for row in table:
            self._row(row, widths, indent, folded=room is not None)

    def _row(self, row: list[Span], widths: list[int], indent: int, *, folded: bool) -> None:
        folds = [self._fold(text, width if folded else None) for (text, _), width in zip(row, widths, strict=True)]
        for texts in zip_longest(*folds, fillvalue=""):
            last = max((at for at, text in enumerate(texts) if text), default=0)
            cells: list[Span] = []
            for at, text in enumerate(texts[: last + 1]):
                padding = "" if at == last else " " * (widths[at] + GAP - columns(text))
                cells += [(text, row[at][1]), (padding, "")]
            self.line(*cells, indent=indent)

    def _room(self, indent: int, most: int | None = None) -> int | None:
        if self.width is None:
            return None
        room = max(NARROWEST_COLUMN, self.width - indent)
        return min(room, most) if most else room

    @staticmethod
    def _fold(text: str, width: int | None) -> list[str]:
        if width is None or columns(text) <= width:
            return [text]
        return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _span(cell: Cell) -> Span:
    return (cell, "") if isinstance(cell, str) else cell


def _longest_word(column: Iterable[Span]) -> int:
    return max((columns(word) for text, _ in column for word in text.split(" ")), default=0)


def _narrow(widths: list[int], least: list[int], room: int) -> None:
    """Take columns off the widest until all fit, or none has more than its longest word needs."""
    while sum(widths) + GAP * (len(widths) - 1) > room:
        spare = [width if width > word else 0 for width, word in zip(widths, least, strict=True)]
        if not any(spare):
            return
        widths[spare.index(max(spare))] -= 1
