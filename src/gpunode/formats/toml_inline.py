"""Edits inside an inline table, `{ a = 1, b = { c = 2 } }`, that keep its spacing and its quotes."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from gpunode.formats.toml_data import Path
from gpunode.formats.toml_outline import key_at, starts_with, unquoted, value_end
from gpunode.formats.toml_style import written_key

_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")


@dataclass(frozen=True)
class _Item:
    """One `key = value` of the table, with its offsets in the table's text."""

    path: Path
    spelling: Path
    start: int
    value_start: int
    end: int


def set_inside(fragment: str, path: Path, written: str, mark: str) -> str:
    """The table's text with the key at path, counted from this table, set to an already written value.

    mark is the quotation mark for keys that need one. Where path leads through something that is no table the result
    is not what was meant: the caller checks it as data.
    """
    items = _items(fragment)
    for item in items:
        if item.path == path:
            return fragment[: item.value_start] + written + fragment[item.end :]
        if starts_with(path, item.path):
            inner = set_inside(fragment[item.value_start : item.end], path[len(item.path) :], written, mark)
            return fragment[: item.value_start] + inner + fragment[item.end :]
    space = " " if not items or fragment[1] == " " else ""
    if not items:
        return "{" + space + _new_item(path, written, mark, space) + space + "}"
    home = max(items, key=lambda item: (_shared(item, path), item.start))
    shared = _shared(home, path)
    if shared:
        rest = (written_key(part, mark) for part in path[shared:])
        new = ".".join((*home.spelling[:shared], *rest)) + f" = {written}"
    else:
        new = _new_item(path, written, mark, space)
    return f"{fragment[: home.end]}, {new}{fragment[home.end :]}"


def remove_inside(fragment: str, path: Path, depth: int, keep: Collection[Path]) -> str:
    """The table's text without the key at path, and without tables in it that this empties and keep does not name.

    path is the whole path from the root, the first depth parts of which lead to this table.
    """
    items = _items(fragment)
    for index, item in enumerate(items):
        whole = (*path[:depth], *item.path)
        if starts_with(whole, path):
            return remove_inside(_without(fragment, items, index), path, depth, keep)
        if starts_with(path, whole):
            inner = remove_inside(fragment[item.value_start : item.end], path, len(whole), keep)
            if not _items(inner) and whole not in keep:
                return _without(fragment, items, index)
            return fragment[: item.value_start] + inner + fragment[item.end :]
    return fragment


def _items(fragment: str) -> list[_Item]:
    items: list[_Item] = []
    at = 1
    while fragment[at := _behind_gap(fragment, at)] != "}":
        spelling, after = key_at(fragment, at)
        value_start = _behind_gap(fragment, fragment.index("=", after) + 1)
        end = value_end(fragment, value_start, inside=True)
        items.append(_Item(tuple(map(unquoted, spelling)), spelling, at, value_start, end))
        at = _behind_gap(fragment, end)
        at += fragment[at] == ","
    return items


def _behind_gap(fragment: str, at: int) -> int:
    found = _GAP.match(fragment, at)
    return found.end() if found else at


def _new_item(path: Path, written: str, mark: str, space: str) -> str:
    """`key = value`, or `key = { key = value }` for a longer path."""
    for part in reversed(path[1:]):
        written = "{" + space + f"{written_key(part, mark)} = {written}" + space + "}"
    return f"{written_key(path[0], mark)} = {written}"


def _shared(item: _Item, path: Path) -> int:
    """How many parts of a dotted key lead to a table that path is in, too."""
    shared = 0
    while shared < len(item.path) - 1 and starts_with(path, item.path[: shared + 1]):
        shared += 1
    return shared


def _without(fragment: str, items: list[_Item], index: int) -> str:
    """The table's text without one item and one comma."""
    if len(items) == 1:
        return "{}"
    if index + 1 < len(items):
        return fragment[: items[index].start] + fragment[items[index + 1].start :]
    return fragment[: items[index - 1].end] + fragment[items[index].end :]
