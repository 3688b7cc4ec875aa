"""Three-way merges of lines."""

from __future__ import annotations

import pytest

from gpunode.formats.text_merge import Clash, Conflict, merge3

BASE = "a\nb\nc\nd\ne\n"


@pytest.mark.parametrize(
    ("ours", "theirs", "merged"),
    [
        (BASE, BASE, BASE),
        ("b\nc\nd\ne\n", BASE, "b\nc\nd\ne\n"),
        (BASE, "a\nb\nc\nd\n", "a\nb\nc\nd\n"),
        ("A\nb\nc\nd\ne\n", "a\nb\nc\nd\ne\nf\n", "A\nb\nc\nd\ne\nf\n"),
        ("a\nc\nd\ne\n", "a\nb\nc\nD\ne\n", "a\nc\nD\ne\n"),
        ("a\nX\nc\nd\ne\n", "a\nX\nc\nd\ne\n", "a\nX\nc\nd\ne\n"),
    ],
    ids=["nothing", "ours only", "theirs only", "both ends", "apart", "the same change"],
)
def test_changes_of_both_sides_are_made(ours: str, theirs: str, merged: str) -> None:
    assert merge3(BASE, ours, theirs) == merged


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("a\nX\nc\nd\ne\n", "a\nY\nc\nd\ne\n"),
        ("a\nc\nd\ne\n", "a\nb\nC\nd\ne\n"),
        ("", "a\nb\nc\nd\ne\nf\n"),
        ("a\nb\nX\nc\nd\ne\n", "a\nb\nY\nc\nd\ne\n"),
    ],
    ids=["the same line", "adjacent lines", "added behind what goes", "both insert"],
)
def test_what_cannot_be_decided_is_a_conflict(ours: str, theirs: str) -> None:
    assert isinstance(merge3(BASE, ours, theirs), Conflict)


def test_a_conflict_shows_both_sides() -> None:
    conflict = merge3(BASE, "a\nX\nc\nd\ne\n", "a\nY\nc\nd\ne\n")
    assert conflict == Conflict((Clash(2, ("b\n",), ("X\n",), ("Y\n",)),))
    assert str(conflict) == "both sides changed line 2"


def test_every_conflict_is_reported() -> None:
    conflict = merge3(BASE, "X\nb\nc\nd\nX\n", "Y\nb\nc\nd\nY\n")
    assert isinstance(conflict, Conflict)
    assert [clash.line for clash in conflict.clashes] == [1, 5]


def test_line_breaks_and_a_missing_last_one_are_kept() -> None:
    assert merge3("a\r\nb\r\nc", "a\r\nc", "A\r\nb\r\nc") == Conflict(
        (Clash(1, ("a\r\n", "b\r\n"), ("a\r\n",), ("A\r\n", "b\r\n")),)
    )
    assert merge3("a\r\nx\r\nb\r\nc", "a\r\nx\r\nc", "A\r\nx\r\nb\r\nc") == "A\r\nx\r\nc"
