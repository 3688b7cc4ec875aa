"""A three-way merge of lines that reports what it cannot decide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher


@dataclass(frozen=True)
class Clash:
    """One place both sides changed: the line of base (from 1) and what each side has there."""

    line: int
    base: tuple[str, ...]
    ours: tuple[str, ...]
    theirs: tuple[str, ...]


@dataclass(frozen=True)
class Conflict:
    """A merge that did not succeed, with every place where it failed."""

    clashes: tuple[Clash, ...]

    def __str__(self) -> str:
        return f"both sides changed line {', '.join(str(clash.line) for clash in self.clashes)}"


@dataclass(frozen=True)
class _Change:
    start: int  # lines [start, end) of base become lines
    end: int
    lines: tuple[str, ...]


def merge3(base: str, ours: str, theirs: str) -> str | Conflict:
    """The text with the changes from base to ours and those from base to theirs both made.

    Changes to the same or to adjacent lines are a conflict unless they are identical: nothing is guessed.
    """
    base_lines = lines_of(base)
    merged: list[str] = []
    clashes: list[Clash] = []
    done = 0
    for our, their in _groups(_changes(base_lines, ours), _changes(base_lines, theirs)):
        start, end = min(change.start for change in our + their), max(change.end for change in our + their)
        merged += base_lines[done:start]
        done = end
        ours_here, theirs_here = (_applied(base_lines, start, end, side) for side in (our, their))
        if our and their and ours_here != theirs_here:
            clashes.append(Clash(start + 1, tuple(base_lines[start:end]), tuple(ours_here), tuple(theirs_here)))
        merged += ours_here if our else theirs_here
    return Conflict(tuple(clashes)) if clashes else "".join(merged + base_lines[done:])


def lines_of(text: str) -> list[str]:
    """The lines with their line breaks; only a line feed ends a line, unlike for str.splitlines."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _changes(base_lines: list[str], side: str) -> list[_Change]:
    lines = lines_of(side)
    matcher = SequenceMatcher(None, base_lines, lines, autojunk=False)
    return [
        _Change(base_start, base_end, tuple(lines[start:end]))
        for tag, base_start, base_end, start, end in matcher.get_opcodes()
        if tag != "equal"
    ]


def _groups(ours: list[_Change], theirs: list[_Change]) -> Iterator[tuple[list[_Change], list[_Change]]]:
    """Changes that overlap or touch, taken together, in the order of base."""
    pending = sorted([(c, 0) for c in ours] + [(c, 1) for c in theirs], key=lambda item: (item[0].start, item[0].end))
    group: tuple[list[_Change], list[_Change]] = ([], [])
    end = -1
    for change, side in pending:
        if change.start > end >= 0:
            yield group
            group = ([], [])
        group[side].append(change)
        end = max(end, change.end)
    if pending:
        yield group


def _applied(base_lines: list[str], start: int, end: int, changes: list[_Change]) -> list[str]:
    """Lines [start, end) of base with one side's changes made."""
    result: list[str] = []
    for change in changes:
        result += base_lines[start : change.start]
        result += change.lines
        start = change.end
    return result + base_lines[start:end]
