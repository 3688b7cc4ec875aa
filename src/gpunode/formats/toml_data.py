"""TOML as data: parsing with positions in errors, strict comparison, and documents as flat maps of leaves."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Union

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Path = tuple[str, ...]
# What can be written behind a key. Tables are written by setting the keys in them.
Value = Union[str, int, float, bool, list["Value"]]  # noqa: UP007 - the recursive name must be resolvable on 3.10

BOM = "\ufeff"
MISSING = object()
DEEPEST = 100
"""Tables and arrays in one another. A configuration has some ten: beyond this it is an attempt to exhaust whoever walks it."""


class TomlError(ValueError):
    """The text is not TOML; line and column (both from 1) point at what the parser could not read."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message, self.line, self.column = message, line, column


def parse(text: str) -> dict[str, Any]:
    """The document as data. A leading byte order mark is passed over. Raises TomlError, beyond DEEPEST as well."""
    body = text.removeprefix(BOM)
    try:
        data = _shallow(body)
    except tomllib.TOMLDecodeError as error:
        raise _located(str(error), body) from None
    if data is None:
        raise TomlError(f"too deeply nested: more than {DEEPEST} tables and arrays in one another", _deep_line(body), 1)
    return data


def _shallow(body: str) -> dict[str, Any] | None:
    """The data; None where it is too deep for the parser, or for who would walk it. Raises TOMLDecodeError."""
    try:
        data = tomllib.loads(body)
    except RecursionError:
        return None
    level: list[Any] = [data]
    for _ in range(DEEPEST + 1):
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return data
    return None


def _deep_line(body: str) -> int:
    """The line up to which a document must be read to find it too deep. Its first lines are tried, halving what is left."""
    lines = body.split("\n")
    low, high = 1, len(lines)
    while low < high:
        middle = (low + high) // 2
        if _is_deep("\n".join(lines[:middle])):
            high = middle
        else:
            low = middle + 1
    return low


def _is_deep(body: str) -> bool:
    try:
        return _shallow(body) is None
    except tomllib.TOMLDecodeError:
        return False  # cut off within a value


def _located(message: str, body: str) -> TomlError:
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if found:
        return TomlError(found[1], int(found[2]), int(found[3]))
    lines = body.splitlines() or [""]
    return TomlError(message.removesuffix(" (at end of document)"), len(lines), len(lines[-1]) + 1)


def lookup(data: Mapping[str, Any], path: Path) -> Any:
    """The value or table at path, or MISSING."""
    found: Any = data
    for part in path:
        if not isinstance(found, Mapping) or part not in found:
            return MISSING
        found = found[part]
    return found


def same(one: Any, other: Any) -> bool:
    """Equal as TOML: 1, 1.0 and true are three different values, nan equals nan, the order of keys does not count."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def leaves(data: Mapping[str, Any], prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value with its path, in document order; an empty table is a leaf with the value {}."""
    for key, value in data.items():
        path = (*prefix, key)
        if isinstance(value, Mapping) and value:
            yield from leaves(value, path)
        else:
            yield path, value


def tables(data: Mapping[str, Any], prefix: Path = ()) -> Iterator[Path]:
    """The path of every table in the document, except the root."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            path = (*prefix, key)
            yield path
            yield from tables(value, path)


def nest(flat: Mapping[Path, Any]) -> dict[str, Any]:
    """The inverse of leaves(). Raises ValueError where one path is both a value and a table."""
    root: dict[str, Any] = {}
    for path, value in flat.items():
        table: Any = root
        for part in path[:-1]:
            table = table.setdefault(part, {}) if isinstance(table, dict) else None
        existing = table.get(path[-1], {}) if isinstance(table, dict) else None
        if not isinstance(existing, dict) or (existing and value != {}):
            raise ValueError(f"{dotted(path)} is a value and a table")
        table[path[-1]] = existing if value == {} else value
    return root


def dotted(path: tuple[str | int, ...]) -> str:
    """The path as a reader of TOML writes it: plugins."io.containerd.grpc.v1.cri".containerd."""
    return ".".join(str(part) if re.fullmatch(r"[A-Za-z0-9_-]+", str(part)) else f'"{part}"' for part in path)
