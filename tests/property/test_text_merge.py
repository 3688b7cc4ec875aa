"""Laws of the three-way merge."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpunode.formats.text_merge import Conflict, lines_of, merge3

TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c\r\n", "\n", "d\u2028e\n"]), max_size=12).map("".join)


@given(TEXTS, TEXTS)
def test_a_side_that_changed_nothing_takes_the_other(base: str, side: str) -> None:
    assert merge3(base, side, base) == side
    assert merge3(base, base, side) == side
    assert merge3(base, side, side) == side


@given(TEXTS, TEXTS, TEXTS)
def test_the_sides_are_equals(base: str, ours: str, theirs: str) -> None:
    one, other = merge3(base, ours, theirs), merge3(base, theirs, ours)
    assert isinstance(one, Conflict) == isinstance(other, Conflict)
    if isinstance(one, str):
        assert one == other


@given(TEXTS, TEXTS, TEXTS)
def test_a_clean_merge_invents_no_line(base: str, ours: str, theirs: str) -> None:
    merged = merge3(base, ours, theirs)
    if isinstance(merged, str):
        assert set(lines_of(merged)) <= set(lines_of(ours)) | set(lines_of(theirs))


@given(TEXTS, TEXTS, TEXTS)
def test_changes_far_apart_are_both_made(head: str, tail: str, other_tail: str) -> None:
    between = "".join(f"between {number}\n" for number in range(3))
    base = head + between + tail
    ours, theirs = "new first\n" + base, head + between + other_tail
    assert merge3(base, ours, theirs) == "new first\n" + theirs
