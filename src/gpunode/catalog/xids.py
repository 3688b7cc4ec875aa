"""NVIDIA's catalogue of the driver's errors (Xid): what each number means, and what is to be done at once.

`xid.tsv` is NVIDIA's own, as of October 2025; `xid-actions.tsv` says how grave each of its actions is and what a person types.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, cast

Gravity = Literal["error", "warning", "info", "none"]
PROGRAMS_FAULT = frozenset((13, 31, 43, 45, 68, 109))
"""Errors that a program brings about: NVIDIA's device plugin holds a GPU healthy after them."""


@dataclass(frozen=True)
class Action:
    """What is to be done. `gravity` `none` says: nothing. `mend` has a placeholder {gpu}."""

    name: str
    gravity: Gravity
    words: str
    mend: str


@dataclass(frozen=True)
class Xid:
    """One number: its meaning, and the action to take at once."""

    number: int
    meaning: str
    action: Action


@cache
def xids() -> dict[int, Xid]:
    """The catalogue by number."""
    rows = ((int(row[0]), row[2], row[3]) for row in _rows("xid.tsv"))
    return {number: Xid(number, meaning.partition(" -- ")[0], action(name)) for number, meaning, name in rows}


@cache
def action(name: str) -> Action:
    """An action by its name in the catalogue; one that it leaves open is for a person to judge."""
    known = {row[0]: row for row in _rows("xid-actions.tsv")}
    if name in known:
        _, gravity, words, mend = known[name]
        return Action(name, cast("Gravity", gravity), words, mend)
    return Action(name, "warning", "the catalogue names no action", "nvidia-bug-report.sh  # for the vendor")


def _rows(name: str) -> Iterator[list[str]]:
    """A table's rows, without the head."""
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    yield from (line.split("\t") for line in text.splitlines()[1:])
