"""Laws of TOML editing, on generated files of mixed style."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gpunode.formats.text_merge import lines_of
from gpunode.formats.toml_data import MISSING, Path, Value, dotted, leaves, lookup, parse
from gpunode.formats.toml_edit import EditError, remove_keys, revert, set_keys

pytestmark = pytest.mark.slow

NAMES = ["a", "b", "io.x.v1", "runc", "opt ions"]
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.booleans(), st.integers(-5, 5), st.sampled_from(["x", "it's", 'q"', "#", "[t]", ""]), st.just(["x", "y"])
)
WRITTEN_VALUES = st.sampled_from(
    [
        "1",
        "true",
        "'x'",
        '"x"',
        '"#]"',
        "[1, 2]",
        "[\n  'x', # why\n]",
        '"""\nlong\n"""',
        "{ a = 1, b = { c = 'x' } }",
        "{}",
    ]
)
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(tuple)
WANTED = st.dictionaries(PATHS, VALUES, min_size=1, max_size=4)
NOISE = st.sampled_from(["", "", "", "# a comment\n", "\n", "  # indented\n", "#x = 1\n"])


@st.composite
def keys(draw: st.DrawFn) -> str:
    """`a`, `"a"`, `'a' . b`: a key in one of its spellings."""
    parts = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2))
    marks = [draw(st.sampled_from(["", '"', "'"] if part.isalnum() else ['"', "'"])) for part in parts]
    return draw(st.sampled_from([".", " . "])).join(m + part + m for part, m in zip(parts, marks, strict=True))


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A valid TOML text: lines that would make it invalid are left out as it grows."""
    text = ""
    indent = ""
    for _ in range(draw(st.integers(0, 12))):
        text += draw(NOISE)
        if draw(st.booleans()):
            indent = draw(st.sampled_from(["", "  ", "\t"]))
            opening, closing = draw(st.sampled_from([("[", "]"), ("[", "]"), ("[", "]"), ("[[", "]]")]))
            line = f"{indent}{opening}{draw(keys())}{closing}{draw(st.sampled_from(['', ' # t']))}\n"
        else:
            comment = draw(st.sampled_from(["", "  # why"]))
            line = f"{indent}{draw(keys())}{draw(st.sampled_from(['=', ' = ']))}{draw(WRITTEN_VALUES)}{comment}\n"
        text = text + line if _valid(text + line) else text
    if draw(st.booleans()):
        text = text.removesuffix("\n")
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return draw(st.sampled_from(["", "\ufeff"])) + text


def _valid(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _set(text: str, wanted: dict[Path, Value]) -> str:
    """The edited text; what contradicts itself or the file is no example."""
    try:
        return set_keys(text, wanted)
    except EditError as error:
        assume("cannot be set, " not in str(error))  # any other refusal is a failure of the editor
        raise


def _possible(wanted: dict[Path, Value]) -> dict[Path, Value]:
    """No path lies within another."""
    return {
        path: value
        for path, value in wanted.items()
        if not any(path != other and path[: len(other)] == other for other in wanted)
    }


@given(documents(), WANTED)
def test_set_gives_exactly_the_data_and_keeps_every_foreign_line(text: str, wanted: dict[Path, Value]) -> None:
    wanted = _possible(wanted)
    result = _set(text, wanted)
    after = parse(result)
    for path, value in wanted.items():
        assert lookup(after, path) == value, dotted(path)
    old, new = dict(leaves(parse(text))), dict(leaves(after))
    assert {path: new.get(path, MISSING) for path in old if path not in wanted and old[path] != {}} == {
        path: value for path, value in old.items() if path not in wanted and value != {}
    }
    _comments_survive(text, result)
    assert result.count("\r\n") == result.count("\n") or "\r\n" not in text
    assert result.startswith("\ufeff") == text.startswith("\ufeff")


def _comments_survive(text: str, result: str) -> None:
    remaining = iter(line.rstrip("\r\n") for line in lines_of(result.removeprefix("\ufeff")))
    for line in lines_of(text.removeprefix("\ufeff")):
        if line.strip().startswith(("#", "[")):
            assert any(line.rstrip("\r\n") == each for each in remaining), line


@given(documents(), WANTED)
def test_set_twice_is_set_once(text: str, wanted: dict[Path, Value]) -> None:
    wanted = _possible(wanted)
    once = _set(text, wanted)
    assert set_keys(once, wanted) == once


@given(documents())
def test_setting_what_is_there_changes_no_byte(text: str) -> None:
    there: dict[Path, Any] = {path: value for path, value in leaves(parse(text)) if value != {}}
    assert set_keys(text, there) == text


@given(documents(), WANTED)
def test_removing_what_was_new_restores_the_data(text: str, wanted: dict[Path, Value]) -> None:
    before = parse(text)
    new = {path: value for path, value in _possible(wanted).items() if lookup(before, path) is MISSING}
    result = remove_keys(_set(text, new), new)
    assert {p: v for p, v in leaves(parse(result)) if v != {}} == {p: v for p, v in leaves(before) if v != {}}


@given(documents(), WANTED)
def test_revert_undoes_set(text: str, wanted: dict[Path, Value]) -> None:
    written = _set(text, _possible(wanted))
    assert revert(text, written, written) == text


@given(documents(), WANTED, st.data())
def test_revert_keeps_a_foreign_comment_anywhere(text: str, wanted: dict[Path, Value], data: st.DataObject) -> None:
    written = _set(text, _possible(wanted))
    lines = lines_of(written)
    at = data.draw(st.integers(0, len(lines)))
    now = "".join([*lines[:at], "# added since\n", *lines[at:]])
    assume(at == 0 or lines[at - 1].endswith("\n"))
    assume(not (at == 0 and now.find("\ufeff") > 0))
    assume(_valid(now) and parse(now) == parse(written))
    reverted = revert(text, written, now)
    assert reverted is not None
    assert parse(reverted) == parse(text)
    assert "# added since" in [line.strip() for line in lines_of(reverted.removeprefix("\ufeff"))]


@given(documents(), WANTED)
def test_revert_keeps_a_foreign_table(text: str, wanted: dict[Path, Value]) -> None:
    written = _set(text, _possible(wanted))
    now = written + ("" if written.endswith("\n") else "\n") + "[added_since]\nkey = 1 # mine\n"
    reverted = revert(text, written, now)
    assert reverted is not None
    assert parse(reverted) == {**parse(text), "added_since": {"key": 1}}
    assert reverted.endswith("[added_since]\nkey = 1 # mine\n")
