"""Elements added to an array in a TOML text, its lines, spacing and comments kept."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpunode.formats.toml_outline import line_end, value_end
from gpunode.formats.toml_style import newline

_BARE = re.compile(r"[^\s,\]#\"'\[{]+")  # a number, a truth value or a date without a space in it
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")


def append(fragment: str, written: Sequence[str]) -> str:
    """The array's text with already written elements behind its own: each in a line where its own are, else in the last one's."""
    for item in written:
        fragment = _append(fragment, item)
    return fragment


def _append(fragment: str, item: str) -> str:
    spans = _elements(fragment)
    if not spans:
        return _first(fragment, item)
    start, end = spans[-1]
    closing = _behind_gap(fragment, end)
    has_comma = fragment[closing] == ","
    line_start = fragment.rfind("\n", 0, start) + 1
    if not line_start or line_end(fragment, end) == len(fragment):
        return f"{fragment[:end]}, {item}{fragment[end:]}"
    indent = fragment[line_start : line_start + len(fragment[line_start:]) - len(fragment[line_start:].lstrip(" \t"))]
    head = fragment if has_comma else f"{fragment[:end]},{fragment[end:]}"
    at = line_end(head, closing + 1 if has_comma else end)
    return f"{head[:at]}{indent}{item}{',' if has_comma else ''}{newline(fragment)}{head[at:]}"


def _first(fragment: str, item: str) -> str:
    """The first element of an empty array, in a line of its own where the brackets stand in two."""
    if "\n" not in fragment:
        return f"[{item}]"
    at = line_end(fragment, 0) if "#" not in fragment else fragment.rfind("\n") + 1
    return f"{fragment[:at]}  {item},{newline(fragment)}{fragment[at:]}"


def _elements(fragment: str) -> list[tuple[int, int]]:
    """Where each element's value begins and ends."""
    spans = []
    at = _behind_gap(fragment, 1)
    while fragment[at] != "]":
        bare = _BARE.match(fragment, at)
        end = bare.end() if bare else value_end(fragment, at, inside=True)
        spans.append((at, end))
        at = _behind_gap(fragment, end)
        at = _behind_gap(fragment, at + (fragment[at] == ","))
    return spans


def _behind_gap(fragment: str, at: int) -> int:
    found = _GAP.match(fragment, at)
    return found.end() if found else at
