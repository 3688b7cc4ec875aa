"""Edits of a TOML text that leave every other byte alone.

Headers and keys are inserted, replaced and taken out at known places; tomlkit writes values and takes elements out of
arrays that span lines. Every result is parsed again and must hold exactly the data that was meant, and
every line that is none of the edit's business must still be there, in order.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from difflib import unified_diff
from typing import Any

from gpunode.formats import toml_arrays as arrays
from gpunode.formats import toml_inline as inline
from gpunode.formats import toml_places as places
from gpunode.formats import toml_style as style
from gpunode.formats.text_merge import Conflict, lines_of, merge3
from gpunode.formats.toml_data import (
    BOM,
    MISSING,
    Path,
    TomlError,
    Value,
    dotted,
    leaves,
    lookup,
    nest,
    parse,
    same,
    tables,
)
from gpunode.formats.toml_outline import Outline, Place, read, starts_with

__all__ = ["EditError", "RevertConflict", "TomlError", "Value", "get", "parse", "remove_keys", "revert", "set_keys"]


class EditError(ValueError):
    """The file is TOML, but a key cannot be set or removed without touching what is not ours."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{dotted(path)}: {why}")
        self.path, self.why = path, why


class RevertConflict(Exception):  # noqa: N818 - a conflict is what merging calls it
    """A change cannot be taken back; diff shows what became of the file since it was written."""

    def __init__(self, why: str, diff: str) -> None:
        super().__init__(why)
        self.why, self.diff = why, diff


def get(text: str, path: Path, default: Any = None) -> Any:
    """The value or table at path, or default. Raises TomlError."""
    found = lookup(parse(text), path)
    return default if found is MISSING else found


def set_keys(text: str, wanted: Mapping[Path, Value]) -> str:
    """The text with each path set to its value; a value that is there already is not rewritten.

    Raises TomlError when the text is not TOML and EditError when a key cannot be set faithfully.
    """
    before = parse(text)
    expected = copy.deepcopy(before)
    mark, text = _without_bom(text)
    result = text
    changed = [path for path, value in wanted.items() if not same(lookup(before, path), value)]
    for path in changed:
        _refuse_obstacle(expected, path)
        _assign(expected, path, wanted[path])
        result = _set(result, path, wanted[path])
    _check(text, result, changed, expected)
    return mark + result


def remove_keys(text: str, paths: Iterable[Path], keep: Collection[Path] = ()) -> str:
    """The text without these keys (or whole tables), and without headers that this leaves empty.

    Tables in keep stay although they are empty. Comments in lines of their own stay. A path that is not there is
    passed over. Raises TomlError and EditError.
    """
    before = parse(text)
    gone = [path for path in paths if lookup(before, path) is not MISSING]
    mark, text = _without_bom(text)
    result = text
    emptied: set[Path] = set()
    for path in gone:
        emptied |= _sections(result, path)
        result = _remove(result, path, frozenset(keep))
    for section in sorted(emptied - set(keep), key=len, reverse=True):
        result = _without_empty_header(result, section)
    kept = (leaf for leaf in leaves(before) if leaf[1] != {} and not any(starts_with(leaf[0], each) for each in gone))
    expected = dict(kept)
    after = parse(result)
    missing_tables = {path for path in keep if lookup(before, path) is not MISSING and lookup(after, path) is MISSING}
    if gone and (missing_tables or not same(_without_empty_tables(after), nest(expected))):
        raise EditError(gone[0], "cannot be removed without changing other keys")
    _check_lines(text, result, gone, own_headers=gone)
    return mark + result


def revert(before: str | None, written: str, now: str, *, anchors: Collection[Path] = ()) -> str | None:
    """The file as it is now without what was changed from before to written; edits made since stay.

    before is None when the file did not exist; None comes back when the file should go away again. A key that was
    changed and that somebody has changed since stays as it is now. Keys in anchors were added and stay for as long as
    any other key does: what was added since depends on them. Raises RevertConflict when it cannot be done.
    """
    if now == written:
        return before
    try:
        target = _target(before, written, now, anchors)
        result = _revert_text(before, written, now, target)
    except (TomlError, EditError, ValueError) as error:
        diff = unified_diff(lines_of(written), lines_of(now), "as written", "as it is now")
        raise RevertConflict(f"the file was changed since and cannot be taken back: {error}", "".join(diff)) from None
    return None if before is None and _nothing_foreign(written, result) else result


def _without_bom(text: str) -> tuple[str, str]:
    """The byte order mark, if there is one, and the rest."""
    body = text.removeprefix(BOM)
    return text[: len(text) - len(body)], body


# --- setting -----------------------------------------------------------------------------------------------------


def _refuse_obstacle(data: dict[str, Any], path: Path) -> None:
    for length in range(1, len(path)):
        found = lookup(data, path[:length])
        if found is not MISSING and not isinstance(found, dict):
            kind = "an array" if isinstance(found, list) else "a value"
            raise EditError(path, f"cannot be set, {dotted(path[:length])} is {kind} in this file and not a table")
    if isinstance(lookup(data, path), dict):
        raise EditError(path, "cannot be set, it is a table in this file and not a value")


def _assign(data: dict[str, Any], path: Path, value: Value) -> None:
    for part in path[:-1]:
        data = data.setdefault(part, {})
    data[path[-1]] = copy.deepcopy(value)


def _set(text: str, path: Path, value: Value) -> str:
    outline = read(text)
    mark = style.quote(outline)
    written = style.written_value(value, mark)
    entry = outline.holding(path)
    if entry:
        fragment = outline.value_text(entry)
        inside = path[len(entry.path) :]
        new = (
            inline.set_inside(fragment, inside, written, mark) if inside else _replaced(fragment, value, written, mark)
        )
        return text[: entry.value_start] + new + text[entry.value_end :]
    if any(starts_with(header.path, path) for header in outline.headers):
        raise EditError(path, "cannot be set, it is an array of tables in this file and not a value")
    if home := places.dotted_home(outline, path):
        return places.insert_beside(outline, home, path, written)
    key = style.written_key(path[-1], mark)
    if len(path) == 1:
        return places.insert_at_root(outline, f"{key} = {written}")
    section = outline.header(path[:-1])
    if section is None:
        return places.insert_section(outline, path[:-1], f"{key} = {written}")
    entries = outline.section_entries(section)
    at = entries[-1].end if entries else outline.headers[section].end
    return places.insert_lines(text, at, [style.entry_indent(outline, section) + f"{key} = {written}"])


def _replaced(fragment: str, value: Value, written: str, mark: str) -> str:
    """The new value; of an array only the elements change, so that its lines and the comments between them stay."""
    if not (isinstance(value, list) and fragment.startswith("[")):
        return written
    items = parse(f"x = {fragment}")["x"]
    kept = [item for item in items if _among(item, value)]
    if not same(kept, value[: len(kept)]) or (len(kept) < len(items) and "\n" not in fragment):
        return written
    fragment = _without_elements(fragment, [index for index, item in enumerate(items) if not _among(item, value)])
    result = arrays.append(fragment, [style.written_value(item, mark) for item in value[len(kept) :]])
    return result if same(parse(f"x = {result}")["x"], value) else written


def _without_elements(fragment: str, gone: list[int]) -> str:
    import tomlkit  # heavy: loaded only when a file is really changed

    if not gone:
        return fragment
    array = tomlkit.item(tomlkit.parse(f"x = {fragment}")["x"])
    for index in reversed(gone):
        del array[index]
    return str(tomlkit.item(array).as_string())


# --- removing ----------------------------------------------------------------------------------------------------


def _remove(text: str, path: Path, keep: frozenset[Path]) -> str:
    outline = read(text)
    entry = outline.holding(path)
    if entry and entry.path != path:
        new = inline.remove_inside(outline.value_text(entry), path, len(entry.path), keep)
        return text[: entry.value_start] + new + text[entry.value_end :]
    spans = [(each.start, each.end, False) for each in outline.entries if starts_with(each.path, path)]
    spans += [(each.start, each.end, True) for each in outline.headers if starts_with(each.path, path)]
    for start, end, is_header in sorted(spans, reverse=True):
        text = places.cut(text, start, end, with_blank=is_header)
    return text


def _sections(text: str, path: Path) -> set[Path]:
    """The tables with a header of their own whose keys go when path goes."""
    outline = read(text)
    indexes = {entry.section for entry in outline.entries if starts_with(entry.path, path)} - {-1}
    return {tuple(map(str, outline.headers[index].path)) for index in indexes}


def _without_empty_header(text: str, section: Path) -> str:
    """The text without the header of a table, if nothing stands in or below it."""
    outline = read(text)
    index = outline.header(section)
    below = sum(starts_with(header.path, section) for header in outline.headers)
    if index is None or below > 1 or any(starts_with(entry.path, section) for entry in outline.entries):
        return text
    header = outline.headers[index]
    return places.cut(text, header.start, header.end, with_blank=True)


# --- taking back -------------------------------------------------------------------------------------------------


def _target(before: str | None, written: str, now: str, anchors: Collection[Path]) -> dict[Path, Any]:
    """The leaves the file should have: what was changed goes back unless somebody has changed it since."""
    old, ours, found = (dict(leaves(parse(text))) for text in (before or "", written, now))
    target: dict[Path, Any] = {}
    for path in [*found, *(each for each in old if each not in found)]:
        target[path] = _taken_back(*(each.get(path, MISSING) for each in (old, ours, found)))
    target = {path: value for path, value in target.items() if value is not MISSING}
    if target:
        target = {**{path: ours[path] for path in anchors if path in ours and path not in old}, **target}
    return target


def _taken_back(old: Any, ours: Any, found: Any) -> Any:
    """The value before ours, unless it was changed since: then the newer one; of an array our own elements still go."""
    if same(found, ours):
        return old
    before = [] if old is MISSING else old
    if not all(isinstance(each, list) for each in (before, ours, found)) or same(before, ours):
        return found
    kept = [item for item in found if _among(item, before) or not _among(item, ours)]
    missing = [item for item in before if not _among(item, ours) and not _among(item, found)]
    return [*missing, *kept] or old


def _among(item: Any, items: Iterable[Any]) -> bool:
    return any(same(item, each) for each in items)


def _revert_text(before: str | None, written: str, now: str, target: dict[Path, Any]) -> str:
    expected = nest(target)
    merged = merge3(written, before or "", now)
    if not isinstance(merged, Conflict) and _holds(merged, expected):
        return merged
    found = dict(leaves(parse(now)))
    gone = [path for path in found if path not in target]
    result = remove_keys(now, gone, keep=set(tables(expected)))
    result = set_keys(result, {path: value for path, value in target.items() if value != {}})
    if not _holds(result, expected):
        raise ValueError("its tables no longer stand as they were written")
    return result


def _holds(text: str, expected: dict[str, Any]) -> bool:
    try:
        return same(parse(text), expected)
    except TomlError:
        return False


def _nothing_foreign(written: str, result: str) -> bool:
    """Whether only blank lines and lines that were written with the file are left."""
    return set(filter(str.strip, lines_of(result))) <= set(lines_of(written))


# --- checking ----------------------------------------------------------------------------------------------------


def _check(before: str, after: str, paths: list[Path], expected: dict[str, Any]) -> None:
    try:
        correct = same(parse(after), expected)
    except TomlError:
        correct = False
    if paths and not correct:
        raise EditError(paths[0], "cannot be set in this file without changing other keys")
    _check_lines(before, after, paths)


def _without_empty_tables(data: dict[str, Any]) -> dict[str, Any]:
    return nest({path: value for path, value in leaves(data) if value != {}})


def _check_lines(before: str, after: str, paths: list[Path], own_headers: Collection[Path] = ()) -> None:
    """Every line that holds none of the paths must be there still, in order; headers of own_headers may go."""
    remaining = iter(line.rstrip("\r\n") for line in lines_of(after))
    for line in _foreign_lines(read(before), paths, own_headers):
        if not any(line == each for each in remaining):
            raise EditError(paths[0], f"cannot be changed without losing the line {line.strip()!r}")


def _foreign_lines(outline: Outline, paths: list[Path], own_headers: Collection[Path]) -> list[str]:
    own = [(entry.start, entry.end) for entry in outline.entries if _related(entry.path, paths)]
    own += [(header.start, header.end) for header in outline.headers if _related(header.path, own_headers)]
    lines, at = [], 0
    for line in lines_of(outline.text):
        if line.strip() and not any(start <= at < end for start, end in own):
            lines.append(line.rstrip("\r\n"))
        at += len(line)
    return lines


def _related(place: Place, paths: Collection[Path]) -> bool:
    """Whether one of the paths is this place, or lies in it, or holds it."""
    return any(starts_with(path, place) or starts_with(place, path) for path in paths)
