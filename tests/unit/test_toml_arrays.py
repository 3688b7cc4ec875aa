"""Elements added to arrays: where their line, their comma and their spacing go."""

from __future__ import annotations

import pytest

from gpunode.formats.toml_data import parse
from gpunode.formats.toml_edit import set_keys


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ("[]", '["new"]'),
        ('[ "a" ]', '[ "a", "new" ]'),
        ('["a", ]', '["a", "new", ]'),
        ("[1, 2.5]", '[1, 2.5, "new"]'),
        ('[["]"], { a = "]" }]', '[["]"], { a = "]" }, "new"]'),
        ('[\n  "a"\n]', '[\n  "a",\n  "new"\n]'),
        ('[\n\t"a",\n]', '[\n\t"a",\n\t"new",\n]'),
        ('[\n  "a", # of a, b\n]', '[\n  "a", # of a, b\n  "new",\n]'),
        ('[\n  "a" # of a, b\n]', '[\n  "a", # of a, b\n  "new"\n]'),
        ('[\n  "a",\n  # the end\n]', '[\n  "a",\n  "new",\n  # the end\n]'),
        ('["a",\n "b"]', '["a",\n "b", "new"]'),
        ("[\n]", '[\n  "new",\n]'),
        ("[ # none\n]", '[ # none\n  "new",\n]'),
        ('[\r\n  "a"\r\n]', '[\r\n  "a",\r\n  "new"\r\n]'),
    ],
)
def test_an_element_more(array: str, expected: str) -> None:
    text = f'x = {array} # tail\ny = "z"\n'
    value = [*parse(text)["x"], "new"]
    assert set_keys(text, {("x",): value}) == f'x = {expected} # tail\ny = "z"\n'


def test_one_out_and_one_in() -> None:
    text = 'x = [\n  "a", # first\n  "b",\n]\n'
    assert set_keys(text, {("x",): ["a", "c", "d"]}) == 'x = [\n  "a", # first\n  "c",\n  "d",\n]\n'


def test_another_order_is_written_anew() -> None:
    assert set_keys('x = ["a", "b"]\n', {("x",): ["b", "a"]}) == 'x = ["b", "a"]\n'
