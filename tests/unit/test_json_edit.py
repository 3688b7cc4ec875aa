"""Edits of JSON that leave the rest of the file alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunode.formats import json_edit
from gpunode.formats.json_data import raw_leaves, read
from gpunode.formats.json_edit import EditError, JsonError, RevertConflict, parse, remove_keys, revert, set_keys
from gpunode.formats.toml_data import Path, Value, leaves, lookup, same

BINARY = "/usr/bin/nvidia-container-runtime"
PATH = ("runtimes", "nvidia", "path")


@pytest.mark.parametrize(
    ("text", "path", "value", "result"),
    [
        ("", ("a",), 1, '{\n  "a": 1\n}\n'),
        ("  \n", ("a", "b"), "x", '  \n{\n  "a": {\n    "b": "x"\n  }\n}\n'),
        ("{}", ("a",), True, '{\n  "a": true\n}'),
        ("{\n}\n", ("a",), 1, '{\n  "a": 1\n}\n'),
        ('{"a":1}', ("b",), 2, '{"a":1,"b":2}'),
        ('{"a": 1}', ("b", "c"), 2, '{"a": 1, "b": {"c": 2}}'),
        ('{ "a": 1, "b": 2 }\n', ("c",), ["x", "y"], '{ "a": 1, "b": 2, "c": ["x", "y"] }\n'),
        ('{\n    "a" : 1\n}', ("b",), 2, '{\n    "a" : 1,\n    "b" : 2\n}'),
        ('{\n\t"a": 1\n}\n\n', ("b", "c"), 2, '{\n\t"a": 1,\n\t"b": {\n\t\t"c": 2\n\t}\n}\n\n'),
        ('{\r\n  "a": 1\r\n}\r\n', ("b", "c"), 2, '{\r\n  "a": 1,\r\n  "b": {\r\n    "c": 2\r\n  }\r\n}\r\n'),
        ('\ufeff{"a":1}', ("a",), 2, '\ufeff{"a":2}'),
        ('{"a"  :\t1 , "b":2}', ("a",), "x", '{"a"  :\t"x" , "b":2}'),
        ('{\n  "a": {}\n}', ("a", "b"), 1, '{\n  "a": {\n    "b": 1\n  }\n}'),
        ('{\n  "a": null,\n  "z": 1\n}', ("a", "b"), 1, '{\n  "a": {\n    "b": 1\n  },\n  "z": 1\n}'),
        ('{\n  "a": {"b": 1}\n}', ("a", "c", "d"), 2, '{\n  "a": {"b": 1, "c": {"d": 2}}\n}'),
        ('{\n  "a": ["x"]\n}', ("a",), ["x", "y"], '{\n  "a": ["x", "y"]\n}'),
        ('{\n  "a": [\n    "x"\n  ]\n}', ("a",), ["x", "y"], '{\n  "a": [\n    "x",\n    "y"\n  ]\n}'),
        ('{"a": ["x", "z"]}', ("a",), ["z"], '{"a": ["z"]}'),
        ('{"a": [ "x",\n  "y", "z" ]}', ("a",), ["x", "y"], '{"a": [ "x",\n  "y" ]}'),
        ('{"a": ["x"]}', ("a",), [], '{"a": []}'),
        ('{"a": []}', ("a",), ["x"], '{"a": ["x"]}'),
        ('{"a": 1, "ü\\n": "}"}', ("ü\n",), "ö", '{"a": 1, "ü\\n": "ö"}'),
        ('{\n  "a": 1,\n\n  "b": 2\n}', ("c",), 3, '{\n  "a": 1,\n\n  "b": 2,\n  "c": 3\n}'),
        ('{"a": 1.0}', ("a",), 1, '{"a": 1}'),
        ('{"a": "\\u0041"}', ("a",), "A", '{"a": "\\u0041"}'),
    ],
)
def test_set_changes_one_thing(text: str, path: Path, value: Value, result: str) -> None:
    assert set_keys(text, {path: value}) == result
    assert set_keys(result, {path: value}) == result


@pytest.mark.parametrize(
    ("text", "paths", "result"),
    [
        ('{"a":1,"b":2}', [("b",)], '{"a":1}'),
        ('{"a":1,"b":2}', [("a",)], '{"b":2}'),
        ('{\n  "a": 1,\n  "b": 2,\n  "c": 3\n}\n', [("b",)], '{\n  "a": 1,\n  "c": 3\n}\n'),
        ('{\n  "a": 1,\n  "b": {\n    "c": {\n      "d": 1\n    }\n  }\n}\n', [("b", "c", "d")], '{\n  "a": 1\n}\n'),
        ('{\n  "a": 1\n}\n', [("a",)], "{}\n"),
        ('{"a":1}', [("z", "y")], '{"a":1}'),
        ('{"a":{"b":1,"c":2}}', [("a", "b"), ("a", "c")], "{}"),
        ('{"a":{"b":1},"z":0}', [("a",), ("a", "b")], '{"z":0}'),
    ],
)
def test_remove_takes_one_thing_out(text: str, paths: list[Path], result: str) -> None:
    assert remove_keys(text, paths) == result


def test_an_object_that_is_kept_stays_although_it_is_empty() -> None:
    assert remove_keys('{"a":{"b":1}}', [("a", "b")], keep=[("a",)]) == '{"a":{}}'


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("{", 1, 2, "a key in double quotes is missing"),
        ('{"a": 1,}', 1, 9, "a key in double quotes is missing"),
        ('{\n  "a": 1\n  "b": 2\n}', 3, 3, "a comma or } is missing"),
        ('{\n  "a" 1\n}', 2, 7, "a colon is missing"),
        ('{"a": }', 1, 7, "a value is missing"),
        ('{"a":', 1, 6, "the file ends too early"),
        ('{"a": [1 2]}', 1, 10, "a comma or ] is missing"),
        ('{"a": 1} x', 1, 10, "something follows"),
        ("[]", 1, 1, "the file is not an object"),
        ("null", 1, 1, "the file is not an object"),
        ("// c\n{}", 1, 1, "a value is missing"),
        ('{"a": 1, "b": 2,\n "a": 3}', 2, 2, 'the key "a" is there twice'),
        ('{"a": "x\n"}', 1, 9, "in a string: Invalid control character"),
        ('{"a": "\\x"}', 1, 8, "in a string: Invalid"),
        ('{"a": 01}', 1, 8, "a comma or } is missing"),
        ('{"a": NaN}', 1, 7, "a value is missing"),
        ('{"a": ' + "9" * 5000 + "}", 1, 7, "too many digits"),
        ('{"a": ' + "[" * 200, 1, 107, "more than 100"),
    ],
)
def test_errors_say_where(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(JsonError) as error:
        parse(text)
    assert (error.value.line, error.value.column) == (line, column)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "path", "why"),
    [
        ('{"a": 1}', ("a", "b"), "a.b: cannot be set, a is a value"),
        ('{"a": []}', ("a", "b"), "a.b: cannot be set, a is an array"),
        ('{"a": {}}', ("a",), "a: cannot be set, it is an object"),
    ],
)
def test_what_stands_in_the_way_is_named(text: str, path: Path, why: str) -> None:
    with pytest.raises(EditError, match=why):
        set_keys(text, {path: 1})


def test_an_unfaithful_edit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_edit, "_set", lambda text, path, value: '{"a": 2}')  # noqa: ARG005 - stands in for a bug
    with pytest.raises(EditError, match="without changing other keys"):
        set_keys('{"a": 1, "b": 1}', {("a",): 2})
    monkeypatch.setattr(json_edit, "_set", lambda text, path, value: '{"a":2,"b":1.50}')  # noqa: ARG005 - likewise
    with pytest.raises(EditError, match="without changing other keys"):
        set_keys('{"a":1,"b":1.5}', {("a",): 2})


BEFORE = '{\n  "hosts": ["fd://"],\n  "runtimes": {\n    "kata": {"path": "/k"}\n  },\n  "debug": false\n}\n'
WRITTEN = set_keys(BEFORE, {PATH: BINARY, ("debug",): True, ("features", "cdi"): True})


def test_revert_without_edits_since_is_the_file_before() -> None:
    assert revert(BEFORE, WRITTEN, WRITTEN) == BEFORE
    assert revert(None, WRITTEN, WRITTEN) is None


def test_revert_keeps_what_was_added_since() -> None:
    now = set_keys(WRITTEN, {("log-level",): "warn", ("runtimes", "runsc", "path"): "/r", ("features", "x"): True})
    reverted = revert(BEFORE, WRITTEN, now)
    assert reverted is not None
    assert parse(reverted) == {
        "hosts": ["fd://"],
        "runtimes": {"kata": {"path": "/k"}, "runsc": {"path": "/r"}},
        "debug": False,
        "features": {"x": True},
        "log-level": "warn",
    }
    assert '    "kata": {"path": "/k"},\n' in reverted


def test_revert_leaves_a_key_that_somebody_has_changed_since() -> None:
    reverted = revert(BEFORE, WRITTEN, WRITTEN.replace(BINARY, "/mine"))
    assert reverted is not None
    assert parse(reverted) == {**parse(BEFORE), "runtimes": {"kata": {"path": "/k"}, "nvidia": {"path": "/mine"}}}


def test_revert_after_the_file_was_written_anew() -> None:
    now = json.dumps({**parse(WRITTEN), "mine": 1}, separators=(",", ":"), sort_keys=True)
    reverted = revert(BEFORE, WRITTEN, now)
    assert reverted is not None
    assert parse(reverted) == {**parse(BEFORE), "mine": 1}
    assert "\n" not in reverted


def test_a_created_file_goes_only_when_nothing_else_is_left_in_it() -> None:
    written = set_keys("", {PATH: BINARY})
    assert revert(None, written, written.replace("  ", "\t")) is None
    assert revert(None, written, set_keys(written, {("mine",): 1})) == '{\n  "mine": 1\n}\n'
    assert revert(None, written, "") is None


@pytest.mark.parametrize(("empty", "expected"), [("null", None), ("{}", {})])
def test_what_was_empty_is_empty_again(empty: str, expected: object) -> None:
    before = f'{{"runtimes": {empty}, "a": 1}}'
    written = set_keys(before, {PATH: BINARY})
    assert revert(before, written, set_keys(written, {("b",): 2})) in (
        f'{{"runtimes": {empty}, "a": 1, "b": 2}}',
        f'{{"a": 1, "b": 2, "runtimes": {empty}}}',
    )
    reverted = revert(before, written, set_keys(written, {("runtimes", "mine", "path"): "/m"}))
    assert reverted is not None
    assert parse(reverted) == {"a": 1, "runtimes": {"mine": {"path": "/m"}}}
    assert revert(before, written, '{"a": 1}') == '{"a": 1}'
    assert parse(before)["runtimes"] == expected


def test_revert_conflicts_show_what_happened() -> None:
    with pytest.raises(RevertConflict, match="line 1, column") as conflict:
        revert(BEFORE, WRITTEN, "x\n")
    assert conflict.value.diff.startswith("--- as written\n+++ as it is now\n")
    assert "+x\n" in conflict.value.diff


# --- properties ------------------------------------------------------------------------------------------------------

SPACE = st.sampled_from(["", "", " ", "\n", "\n  ", "\r\n\t", "\n\n    "])
NAMES = st.sampled_from(["runtimes", "nvidia", "path", "features", "cdi", "a b", "ü", 'q"', "hosts"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 9),
    st.floats(-2, 2, width=16),
    st.sampled_from(["", "x", "}", ',"', "\\"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
OURS: st.SearchStrategy[Value] = st.one_of(st.booleans(), st.just(BINARY), st.just(["/etc/cdi", "/var/run/cdi"]))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """An object with white space wherever JSON allows it."""

    def written(value: object) -> str:
        if isinstance(value, dict):
            items = [
                f"{draw(SPACE)}{json.dumps(key)}{draw(SPACE)}:{draw(SPACE)}{written(each)}"
                for key, each in value.items()
            ]
            return f"{{{','.join(f'{each}{draw(SPACE)}' for each in items) or draw(SPACE)}}}"
        if isinstance(value, list):
            return f"[{','.join(f'{draw(SPACE)}{written(each)}{draw(SPACE)}' for each in value)}]"
        return json.dumps(value, ensure_ascii=draw(st.booleans()))

    document = draw(st.dictionaries(NAMES, VALUES, max_size=5))
    return draw(SPACE) + written(document) + draw(SPACE)


def _edited(text: str, wanted: dict[Path, Value]) -> str | None:
    try:
        return set_keys(text, wanted)
    except EditError as error:
        assert "and not a" in str(error), f"{text!r}: {error}"  # something of theirs stands in the way: the only reason
        return None


def _apart(one: Path, other: Path) -> bool:
    return one[: len(other)] != other and other[: len(one)] != one


@given(texts())
def test_what_is_read_is_what_json_reads(text: str) -> None:
    assert same(parse(text), json.loads(text))


@given(texts(), st.dictionaries(PATHS, OURS, min_size=1, max_size=3))
def test_everything_else_stays_byte_for_byte(text: str, wanted: dict[Path, Value]) -> None:
    after = _edited(text, wanted)
    if after is None:
        return
    assert set_keys(after, wanted) == after
    assert all(same(lookup(json.loads(after), path), value) for path, value in wanted.items())
    foreign = [leaf for leaf in raw_leaves(text, read(text)) if all(_apart(leaf[0], path) for path in wanted)]
    assert foreign == [leaf for leaf in raw_leaves(after, read(after)) if all(_apart(leaf[0], path) for path in wanted)]
    assert (after[: after.index("{")], after[after.rindex("}") :]) == (
        text[: text.index("{")],
        text[text.rindex("}") :],
    )
    assert revert(text, after, after) == text


@given(texts(), st.dictionaries(PATHS, OURS, min_size=1, max_size=3), PATHS, OURS)
def test_an_edit_made_since_survives_the_revert(text: str, wanted: dict[Path, Value], path: Path, value: Value) -> None:
    after = _edited(text, wanted)
    theirs = ("theirs", *path)
    now = None if after is None else _edited(after, {theirs: value})
    if after is None or now is None:
        return
    reverted = revert(text, after, now)
    assert reverted is not None
    # What nobody had is gone, what somebody had is back, and theirs is there.
    assert _flat(reverted) == {**_flat(text), theirs: value}


def _flat(text: str) -> dict[Path, Any]:
    return {path: value for path, value in leaves(json.loads(text)) if path[0] != "theirs" or value != {}}
