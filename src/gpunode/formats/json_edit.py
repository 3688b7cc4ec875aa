"""Edits of a JSON text that leave every other byte alone: indentation, order, line ends, a missing final newline.

A key is inserted, replaced or taken out at its place. Every result is read again and must hold exactly the data that was meant,
with all that is none of the edit's business written as before, in the order of before.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterable, Mapping
from difflib import unified_diff
from typing import Any

from gpunode.formats.json_data import JsonError, Node, parse, raw_leaves, read
from gpunode.formats.json_style import Style
from gpunode.formats.text_merge import Conflict, lines_of, merge3
from gpunode.formats.toml_data import BOM, MISSING, Path, Value, dotted, leaves, lookup, nest, same, tables
from gpunode.formats.toml_edit import EditError, RevertConflict

__all__ = ["EditError", "JsonError", "RevertConflict", "parse", "remove_keys", "revert", "set_keys"]


def set_keys(text: str, wanted: Mapping[Path, Value]) -> str:
    """The text with each path set to its value; a value that is there already is not rewritten. null counts as absent.

    Raises JsonError when the text is not JSON and EditError when something that is no object stands in the way.
    """
    expected = parse(text)
    changed = [path for path, value in wanted.items() if not same(lookup(expected, path), value)]
    result = text
    for path in changed:
        _refuse_obstacle(expected, path)
        _assign(expected, path, wanted[path])
        result = _set(result, path, wanted[path])
    _check(text, result, changed, expected)
    return result


def remove_keys(text: str, paths: Iterable[Path], keep: Collection[Path] = ()) -> str:
    """The text without these keys, and without the objects that this leaves empty; those in keep stay.

    A path that is not there is passed over. Raises JsonError, and EditError when the rest would not stay as it was.
    """
    expected = parse(text)
    gone = [path for path in paths if lookup(expected, path) is not MISSING]
    result = text
    for path in gone:
        if lookup(expected, path) is MISSING:  # it went with what it was in
            continue
        cut = path
        _unset(expected, path)
        while len(cut) > 1 and cut[:-1] not in keep and lookup(expected, cut[:-1]) == {}:
            cut = cut[:-1]
            _unset(expected, cut)
        result = _removed(result, cut)
    _check(text, result, gone, expected)
    return result


def revert(before: str | None, written: str, now: str) -> str | None:
    """The file as it is now without what was changed from before to written; edits made since stay.

    before is None when the file did not exist; None comes back when the file should go away again. A key that was changed and
    that somebody has changed since stays as it is now. Raises RevertConflict when it cannot be done.
    """
    if now == written:
        return before
    try:
        target = _target(before, written, now)
        result = _revert_text(before, written, now, target)
    except (JsonError, EditError, ValueError) as error:
        diff = unified_diff(lines_of(written), lines_of(now), "as written", "as it is now")
        raise RevertConflict(f"the file was changed since and cannot be taken back: {error}", "".join(diff)) from None
    return None if before is None and not target else result


# --- setting -------------------------------------------------------------------------------------------------------


def _refuse_obstacle(data: dict[str, Any], path: Path) -> None:
    for length in range(1, len(path)):
        found = lookup(data, path[:length])
        if found is not MISSING and found is not None and not isinstance(found, dict):
            kind = "an array" if isinstance(found, list) else "a value"
            raise EditError(path, f"cannot be set, {dotted(path[:length])} is {kind} in this file and not an object")
    if isinstance(lookup(data, path), dict):
        raise EditError(path, "cannot be set, it is an object in this file and not a value")


def _assign(data: dict[str, Any], path: Path, value: Value) -> None:
    for part in path[:-1]:
        if data.get(part) is None:
            data[part] = {}
        data = data[part]
    data[path[-1]] = copy.deepcopy(value)


def _set(text: str, path: Path, value: Value) -> str:
    if not text.removeprefix(BOM).strip():
        return f"{text}{Style.of('', None).written(nest({path: value}), '')}\n"
    root = read(text)
    style = Style.of(text, root)
    depth = next(length for length in range(len(path), -1, -1) if root.at(path[:length]))
    node, indent = style.locate(root, path[:depth])
    below = path[depth:]
    if node.kind == "object":
        member = f"{json.dumps(below[0], ensure_ascii=False)}{style.colon}"
        return _inserted(style, node, indent, member, nest({below[1:]: value}) if below[1:] else value)
    if node.kind == "array" and node.items and isinstance(value, list) and value:
        length = min(len(value), len(node.items))
        if same(value[:length], node.data()[:length]):
            return _resized(style, node, value)
    new = style.written(nest({below: value}) if below else value, indent)
    return text[: node.start] + new + text[node.end :]


def _inserted(style: Style, node: Node, indent: str, member: str, value: Any) -> str:
    """The text with one more member behind the last of an object; `indent` is that of the line on which the object begins."""
    text = style.text
    if node.items:
        at, gap = node.items[-1].end, style.gap(node)
        breaks = "\n" in gap
        inner = gap.rpartition("\n")[2] if breaks else indent
        return f"{text[:at]},{gap}{member}{style.written(value, inner, breaks=breaks)}{text[at:]}"
    start, end = node.start + 1, node.end - 1
    if not style.breaks:
        return f"{text[:start]}{member}{style.written(value, indent)}{text[end:]}"
    inner = indent + style.unit
    closing = text[start:end] if "\n" in text[start:end] else style.newline + indent
    return f"{text[:start]}{style.newline}{inner}{member}{style.written(value, inner)}{closing}{text[end:]}"


def _resized(style: Style, node: Node, values: list[Value]) -> str:
    """The text with an array's last elements taken out, or more behind them; the first ones stay as they are written."""
    kept, gap = node.items[: len(values)], style.gap(node)
    more = "".join(f",{gap}{style.written(value, '')}" for value in values[len(kept) :])
    return style.text[: kept[-1].end] + more + style.text[node.items[-1].end :]


# --- removing ------------------------------------------------------------------------------------------------------


def _unset(data: dict[str, Any], path: Path) -> None:
    for part in path[:-1]:
        data = data[part]
    del data[path[-1]]


def _removed(text: str, path: Path) -> str:
    """The text without one item; the white space of those that stay is theirs still."""
    parent = read(text).at(path[:-1])
    if parent is None:
        raise AssertionError(f"{dotted(path)} was there before")
    index = next(number for number, item in enumerate(parent.items) if item.key == path[-1])
    item = parent.items[index]
    if len(parent.items) == 1:
        return text[: parent.start] + "{}" + text[parent.end :]
    if index + 1 < len(parent.items):
        return text[: item.start] + text[parent.items[index + 1].start :]
    return text[: parent.items[index - 1].end] + text[item.end :]


# --- taking back ---------------------------------------------------------------------------------------------------


def _target(before: str | None, written: str, now: str) -> dict[Path, Any]:
    """The leaves the file should have: what was changed goes back unless somebody has changed it since."""
    there, here = parse(written), parse(now)
    old, ours, found = dict(leaves(parse(before or ""))), dict(leaves(there)), dict(leaves(here))
    target: dict[Path, Any] = {}
    for path in [*found, *(each for each in old if each not in found)]:
        value = found.get(path, MISSING)
        # Where a value or an empty object became an object of ours, and that is gone since, it stays gone.
        taken_out = lookup(here, path) is MISSING and lookup(there, path) is not MISSING
        if not taken_out:
            target[path] = old.get(path, MISSING) if same(value, ours.get(path, MISSING)) else value
    target = {path: value for path, value in target.items() if value is not MISSING}
    return {path: value for path, value in target.items() if value is not None or not _is_object(path, target)}


def _is_object(path: Path, target: Mapping[Path, Any]) -> bool:
    return any(len(each) > len(path) and each[: len(path)] == path for each in target)


def _revert_text(before: str | None, written: str, now: str, target: dict[Path, Any]) -> str:
    expected = nest(target)
    merged = merge3(written, before or "", now)
    if not isinstance(merged, Conflict) and _holds(merged, expected):
        return merged
    gone = [path for path in dict(leaves(parse(now))) if path not in target]
    # A value that stands where an object of ours was takes that object's place.
    gone += [path for path in target if isinstance(lookup(parse(now), path), dict) and target[path] != {}]
    result = remove_keys(now, gone, keep=set(tables(expected)))
    result = set_keys(result, {path: value for path, value in target.items() if value != {}})
    if not _holds(result, expected):
        raise ValueError("its objects no longer stand as they were written")
    return result


def _holds(text: str, expected: dict[str, Any]) -> bool:
    try:
        return same(parse(text), expected)
    except JsonError:
        return False


# --- checking ------------------------------------------------------------------------------------------------------


def _check(before: str, after: str, paths: list[Path], expected: dict[str, Any]) -> None:
    if paths and not (_holds(after, expected) and _foreign(before, paths) == _foreign(after, paths)):
        raise EditError(paths[0], "cannot be changed in this file without changing other keys")


def _foreign(text: str, paths: list[Path]) -> list[tuple[Path, str]]:
    """What is none of the edit's business, as it stands in the text, in order."""
    if not text.removeprefix(BOM).strip():
        return []
    return [leaf for leaf in raw_leaves(text, read(text)) if not any(_related(leaf[0], path) for path in paths)]


def _related(one: Path, other: Path) -> bool:
    return one[: len(other)] == other or other[: len(one)] == one
