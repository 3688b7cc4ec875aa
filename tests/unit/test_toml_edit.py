"""Edits of TOML that leave the rest of the file alone."""

from __future__ import annotations

import pytest

from gpunode.formats import toml_edit
from gpunode.formats.toml_data import Path, Value, leaves, nest, same
from gpunode.formats.toml_edit import EditError, RevertConflict, TomlError, get, parse, remove_keys, revert, set_keys


@pytest.mark.parametrize(
    ("text", "path", "value", "result"),
    [
        ("", ("a",), 1, "a = 1\n"),
        ("", ("a", "b", "c"), "x", '[a.b]\nc = "x"\n'),
        ("a = 1 # one\n", ("a",), 2, "a = 2 # one\n"),
        ("a  =  'x'\n", ("a",), "x", "a  =  'x'\n"),
        ("a = 'x'\n", ("a",), "y", "a = 'y'\n"),
        ("a = 'x'\n", ("a",), "it's", 'a = "it\'s"\n'),
        ('a = """\nx\n""" # long\nb = 1\n', ("a",), "y", 'a = "y" # long\nb = 1\n'),
        ("a = 1\r\n[t]\r\nb = 2\r\n", ("t", "c"), 3, "a = 1\r\n[t]\r\nb = 2\r\nc = 3\r\n"),
        ("\ufeffa = 1\n", ("a",), 2, "\ufeffa = 2\n"),
        ("\ufeff[t]\nx = 1\n", ("a",), 2, "\ufeffa = 2\n\n[t]\nx = 1\n"),
        ("[t]\na = 1", ("t", "b"), 2, "[t]\na = 1\nb = 2"),
        ("[t]\n  a = 1\n# last\n\n[u]\n", ("t", "b"), 2, "[t]\n  a = 1\n  b = 2\n# last\n\n[u]\n"),
        ("# top\n\n[t]\n", ("a",), True, "# top\n\na = true\n\n[t]\n"),
        ("# of t\n[t]\n", ("a",), True, "a = true\n\n# of t\n[t]\n"),
        ("[t]\na.b = 1\n", ("t", "a", "c"), 2, "[t]\na.b = 1\na.c = 2\n"),
        ("a.b.c = 1\n[t]\n", ("a", "b", "d", "e"), 2, "a.b.c = 1\na.b.d.e = 2\n[t]\n"),
        ("b.a = 1\n[b.b]\nx = 1\n", ("b", "b", "y"), 2, "b.a = 1\n[b.b]\nx = 1\ny = 2\n"),
        ("a = {b = 1} # c\n", ("a", "b"), 2, "a = {b = 2} # c\n"),
        ("a = { b = { c = 1 } }\n", ("a", "b", "d"), 2, "a = { b = { c = 1, d = 2 } }\n"),
        ('a = """x""""" # c\n', ("a",), 1, "a = 1 # c\n"),
        ("a = [ # ] {\n  1 ] # c\n[t]\n", ("t", "b"), 2, "a = [ # ] {\n  1 ] # c\n[t]\nb = 2\n"),
        ("a = {}\n", ("a", "b", "c"), 2, "a = { b = { c = 2 } }\n"),
        ("a = {b.c = 1,'d' = 'x, }'}\n", ("a", "b", "e"), 2, "a = {b.c = 1, b.e = 2,'d' = 'x, }'}\n"),
        ("a = [\n  1, # one\n  2, # two\n]\n", ("a",), [1], "a = [\n  1, # one\n]\n"),
        ("a = [1, 2]\n", ("a",), ["x", "y"], 'a = ["x", "y"]\n'),
        ("['a b'.c]\nx = 1\n", ("a b", "d", "y"), 1, "['a b'.c]\nx = 1\n\n['a b'.d]\ny = 1\n"),
        ("[[l]]\nx = 1\n[[l]]\nx = 2\n[t]\n", ("t", "x"), 3, "[[l]]\nx = 1\n[[l]]\nx = 2\n[t]\nx = 3\n"),
        ("[a.b.c]\nx = 1\n", ("a", "b", "y"), 2, "[a.b]\ny = 2\n\n[a.b.c]\nx = 1\n"),
        ("a = 1979-05-27 07:32:00 # date\n", ("b",), 1, "a = 1979-05-27 07:32:00 # date\nb = 1\n"),
        ("a = ['[x]', \"]\", {b = '}'}] # ]\n", ("b",), 1, "a = ['[x]', \"]\", {b = '}'}] # ]\nb = 1\n"),
        ("a = '''\n[t]\nb = 1'''''\n[t]\n", ("t", "c"), 1, "a = '''\n[t]\nb = 1'''''\n[t]\nc = 1\n"),
    ],
)
def test_set_changes_one_thing(text: str, path: Path, value: Value, result: str) -> None:
    assert set_keys(text, {path: value}) == result
    assert set_keys(result, {path: value}) == result


def test_a_new_table_stands_behind_its_sibling_and_looks_like_it() -> None:
    text = "[p]\n  [p.'r.s']\n    [p.'r.s'.runc]\n      x = 'y'\n    # after runc\n\n  [p.z]\n    k = 1\n"
    result = set_keys(text, {("p", "r.s", "nvidia", "x"): "z", ("p", "r.s", "nvidia", "options", "B"): "b"})
    added = "\n    [p.'r.s'.nvidia]\n      x = 'z'\n\n      [p.'r.s'.nvidia.options]\n        B = 'b'\n"
    assert result == text.replace("    # after runc\n", "    # after runc\n" + added)


def test_numbers_and_booleans_are_different_values() -> None:
    assert set_keys("a = 1\n", {("a",): True}) == "a = true\n"
    assert set_keys("a = 1\n", {("a",): 1.0}) == "a = 1.0\n"
    assert same(float("nan"), float("nan"))


@pytest.mark.parametrize(
    ("text", "path", "why"),
    [
        ("a = 1\n", ("a", "b"), "a.b: cannot be set, a is a value"),
        ("a = []\n", ("a", "b"), "a.b: cannot be set, a is an array"),
        ("[[a]]\nx = 1\n", ("a", "b"), "a.b: cannot be set, a is an array"),
        ("[[a]]\nx = 1\n", ("a",), "a: cannot be set, it is an array of tables"),
        ("[a.b]\n", ("a", "b"), "a.b: cannot be set, it is a table"),
    ],
)
def test_what_stands_in_the_way_is_named(text: str, path: Path, why: str) -> None:
    with pytest.raises(EditError, match=why):
        set_keys(text, {path: 1})


def test_an_unfaithful_edit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toml_edit, "_set", lambda text, path, value: "a = 2\n")  # noqa: ARG005 - stands in for a bug
    with pytest.raises(EditError, match="without changing other keys"):
        set_keys("a = 1\nb = 1\n", {("a",): 2})
    with pytest.raises(EditError, match="losing the line '# mine'"):
        set_keys("a = 1\n# mine\n", {("a",): 2})


@pytest.mark.parametrize(
    ("text", "line", "column"), [("a = 1\nb =\n", 2, 4), ("a = ", 1, 5), ("\ufeffa 1\n", 1, 3), ("[a]\n[a]\n", 2, 3)]
)
def test_errors_say_where(text: str, line: int, column: int) -> None:
    with pytest.raises(TomlError) as error:
        parse(text)
    assert (error.value.line, error.value.column) == (line, column)
    assert str(error.value).startswith(f"line {line}, column {column}: ")


def test_get() -> None:
    assert get("[a]\nb = 1\n", ("a", "b")) == 1
    assert get("[a]\nb = 1\n", ("a",)) == {"b": 1}
    assert get("[a]\n", ("a", "b"), "none") == "none"


@pytest.mark.parametrize(
    ("text", "paths", "result"),
    [
        ("a = 1\nb = 2 # mine\n", [("b",)], "a = 1\n"),
        ("a = 1\n\n[t]\nb = 2\n", [("t", "b")], "a = 1\n"),
        ("[t]\nb = 2\n# mine\n\n[u]\nc = 1\n", [("t", "b")], "# mine\n\n[u]\nc = 1\n"),
        ("[t]\nb = 1\n[t.u]\nc = 2\n", [("t", "b"), ("t", "u", "c")], ""),
        ("[t]\nb = 1\n[t.u]\nc = 2\n", [("t", "b")], "[t]\n[t.u]\nc = 2\n"),
        ("[t]\nb = 1\n[t.u]\nc = 2\n[v]\nw = 1\n", [("t",)], "[v]\nw = 1\n"),
        ("a = { b = 1, c = { d = 2 } }\n", [("a", "c", "d")], "a = { b = 1 }\n"),
        ("a = 1\nb = 2", [("b",)], "a = 1"),
        ("a = 1\n", [("x", "y")], "a = 1\n"),
    ],
)
def test_remove(text: str, paths: list[Path], result: str) -> None:
    assert remove_keys(text, paths) == result


def test_remove_keeps_tables_that_are_to_stay() -> None:
    assert remove_keys("[t]\nb = 2\n", [("t", "b")], keep=[("t",)]) == "[t]\n"


BEFORE = "# site\nversion = 2\n\n[a]\nx = 1\n\n[z]\nk = 'v'\n"
WRITTEN = set_keys(BEFORE, {("a", "x"): 2, ("a", "new", "y"): "w", ("a", "new", "on"): True})


def test_revert_of_an_untouched_file_is_the_file_before() -> None:
    assert revert(BEFORE, WRITTEN, WRITTEN) == BEFORE
    assert revert(None, WRITTEN, WRITTEN) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# site\n", "# site of ours\n"),
        ("k = 'v'\n", "k = 'v2'\nl = 1\n"),
        ("[z]\n", "# the last\n[z]\n"),
        ("version = 2\n", "version = 3\n"),
    ],
)
def test_revert_keeps_edits_made_since(old: str, new: str) -> None:
    assert revert(BEFORE, WRITTEN, WRITTEN.replace(old, new)) == BEFORE.replace(old, new)


def test_revert_keeps_what_was_added_inside_our_table() -> None:
    now = WRITTEN.replace("on = true\n", "on = true\ntheirs = 3 # mine\n")
    reverted = revert(BEFORE, WRITTEN, now)
    assert reverted is not None
    assert "theirs = 3 # mine\n" in reverted
    assert parse(reverted) == {**parse(BEFORE), "a": {"x": 1, "new": {"theirs": 3}}}


def test_revert_leaves_a_key_that_somebody_has_changed_since() -> None:
    reverted = revert(BEFORE, WRITTEN, WRITTEN.replace("x = 2", "x = 7"))
    assert reverted == BEFORE.replace("x = 1", "x = 7")


def test_revert_after_the_file_was_written_anew() -> None:
    now = 'version = 2\na = {x = 2, new = {y = "w", on = true}, mine = 1}\nz = {k = "v"}\n'
    reverted = revert(BEFORE, WRITTEN, now)
    assert reverted is not None
    assert parse(reverted) == {**parse(BEFORE), "a": {"x": 1, "mine": 1}}


def test_revert_of_a_created_file_keeps_anchors_while_anything_foreign_is_left() -> None:
    written = set_keys("", {("version",): 3, ("a", "b"): 1})
    now = written + "[mine]\nc = 1\n"
    assert revert(None, written, now, anchors=[("version",)]) == "version = 3\n\n[mine]\nc = 1\n"
    assert revert(None, written, written + "\n", anchors=[("version",)]) is None
    assert revert(None, written, written + "# mine\n", anchors=[("version",)]) == "# mine\n"


def test_an_anchor_that_was_there_before_is_no_anchor() -> None:
    written = set_keys(BEFORE, {("version",): 3})
    now = written.replace("version = 3\n", "")
    assert revert(BEFORE, written, now, anchors=[("version",)]) == now


def test_revert_conflicts_show_what_happened() -> None:
    with pytest.raises(RevertConflict, match="line 1, column") as conflict:
        revert(BEFORE, WRITTEN, "x\n")
    assert conflict.value.diff.startswith("--- as written\n+++ as it is now\n")
    assert "+x\n" in conflict.value.diff


def test_leaves_and_nest_are_inverse() -> None:
    data = {"a": {"b": {}, "c": [1]}, "d": 1}
    assert nest(dict(leaves(data))) == data
    with pytest.raises(ValueError, match=r"a\.b is a value and a table"):
        nest({("a",): 1, ("a", "b"): 2})
