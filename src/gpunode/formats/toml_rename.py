"""A table given another name in a TOML text, every byte but that name left alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from gpunode.formats import toml_style as style
from gpunode.formats.toml_data import BOM, MISSING, Path, TomlError, dotted, lookup, parse, same
from gpunode.formats.toml_edit import EditError
from gpunode.formats.toml_outline import Outline, key_at, read, starts_with


def rename_table(text: str, path: Path, name: str) -> str:
    """The text in which the table at `path` has another last name, in every header and dotted key that spells it.

    Raises EditError where something has that name already, or where the name stands inside an inline table.
    """
    before = parse(text)
    new = (*path[:-1], name)
    if lookup(before, new) is not MISSING:
        raise EditError(path, f"cannot become {dotted(new)}, which is there already")
    expected = copy.deepcopy(before)
    parent = lookup(expected, path[:-1])
    parent[name] = parent.pop(path[-1])
    body = text.removeprefix(BOM)
    outline = read(body)
    result = body
    for at in sorted(_keys(outline, path), reverse=True):
        result = _renamed(result, at, path, style.written_key(name, style.quote(outline)))
    if not _says(result, expected):
        raise EditError(path, f"cannot become {dotted(new)}, for it is not spelled in a header or a dotted key")
    return text[: len(text) - len(body)] + result


def _keys(outline: Outline, path: Path) -> Iterator[tuple[int, int]]:
    """The offset of every key that spells the table's last name, and which of the key's parts that is."""
    for header in outline.headers:
        if starts_with(header.path, path):
            brackets = 2 if header.is_array else 1
            start = header.start + len(header.indent) + brackets
            yield start + len(outline.text[start:]) - len(outline.text[start:].lstrip(" \t")), len(path) - 1
    for entry in outline.entries:
        above = len(entry.path) - len(entry.spelling)
        if starts_with(entry.path, path) and above < len(path):
            yield entry.start + len(entry.indent), len(path) - 1 - above


def _renamed(text: str, at: tuple[int, int], path: Path, written: str) -> str:
    start, part = at
    parts, end = key_at(text, start)
    if part >= len(parts):
        raise EditError(path, "cannot be renamed, it is an array of tables in this file")
    return text[:start] + ".".join((*parts[:part], written, *parts[part + 1 :])) + text[end:]


def _says(text: str, expected: dict[str, Any]) -> bool:
    try:
        return same(parse(text), expected)
    except TomlError:
        return False
