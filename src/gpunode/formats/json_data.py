"""JSON read with the place of every key and value in the text; errors say line and column, and a key given twice is one.

Strict as RFC 8259 is, with two allowances that the readers of such files make: a leading byte order mark is passed over, and a
blank text is an empty object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpunode.formats.toml_data import BOM, Path

DEEPEST = 100
"""Objects and arrays in one another. A configuration has some five: beyond this it is an attempt to exhaust the parser."""

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DECODER = json.JSONDecoder()
_WORDS = {"true": True, "false": False, "null": None}


class JsonError(ValueError):
    """The text is not JSON, or not an object; line and column (both from 1) point at what could not be read."""

    def __init__(self, message: str, text: str, at: int) -> None:
        self.line = text.count("\n", 0, at) + 1
        self.column = at - (text.rfind("\n", 0, at) + 1) + 1
        super().__init__(f"line {self.line}, column {self.column}: {message}")
        self.message = message


@dataclass(frozen=True)
class Item:
    """A member of an object or an element of an array. `start` is where it begins; `colon` is all between its key and its value."""

    key: str
    start: int
    colon: str
    value: Node

    @property
    def end(self) -> int:
        """The first character behind it, a comma not counted."""
        return self.value.end


@dataclass(frozen=True)
class Node:
    """A value at text[start:end]. `items` are those of an object or array; `scalar` is any other value."""

    kind: str  # object, array, scalar
    start: int
    end: int
    items: tuple[Item, ...] = ()
    scalar: Any = None

    def data(self) -> Any:
        """The value as Python has it."""
        if self.kind == "object":
            return {item.key: item.value.data() for item in self.items}
        return [item.value.data() for item in self.items] if self.kind == "array" else self.scalar

    def at(self, path: Path) -> Node | None:
        """The value at a path of keys; None where there is none."""
        found: Node | None = self
        for key in path:
            found = next((item.value for item in found.items if item.key == key), None) if found else None
        return found


def parse(text: str) -> dict[str, Any]:
    """The document as data; a blank one is empty. Raises JsonError."""
    if not text.removeprefix(BOM).strip(" \t\r\n"):
        return {}
    data: dict[str, Any] = read(text).data()
    return data


def read(text: str) -> Node:
    """The document, which is an object. Raises JsonError."""
    start = _skip(text, len(text) - len(text.removeprefix(BOM)))
    root = _value(text, start, 0)
    rest = _skip(text, root.end)
    if rest < len(text):
        raise JsonError("something follows the end of the object", text, rest)
    if root.kind != "object":
        raise JsonError("the file is not an object, { … }", text, start)
    return root


def raw_leaves(text: str, node: Node, prefix: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every value that is no object, or an empty one, by its path, as it stands in the text; in order."""
    for item in node.items:
        path = (*prefix, item.key)
        if item.value.kind == "object" and item.value.items:
            yield from raw_leaves(text, item.value, path)
        else:
            yield path, text[item.value.start : item.value.end] if item.value.kind != "object" else "{}"


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _value(text: str, at: int, depth: int) -> Node:
    if depth > DEEPEST:
        raise JsonError(f"more than {DEEPEST} objects and arrays in one another", text, at)
    first = text[at : at + 1]
    if first == "{":
        return _object(text, at, depth)
    if first == "[":
        return _array(text, at, depth)
    if first == '"':
        end, string = _string(text, at)
        return Node("scalar", at, end, scalar=string)
    for word, meaning in _WORDS.items():
        if text.startswith(word, at):
            return Node("scalar", at, at + len(word), scalar=meaning)
    return _number(text, at)


def _object(text: str, start: int, depth: int) -> Node:
    items: list[Item] = []
    seen: set[str] = set()
    at = _skip(text, start + 1)
    while text[at : at + 1] != "}":
        if items:
            at = _skip(text, _expect(text, at, ",", "a comma or }"))
        if text[at : at + 1] != '"':
            raise JsonError('a key in double quotes is missing here, such as "runtimes"', text, at)
        end, key = _string(text, at)
        if key in seen:
            raise JsonError(f'the key "{key}" is there twice', text, at)
        seen.add(key)
        value = _value(text, _skip(text, _expect(text, _skip(text, end), ":", "a colon")), depth + 1)
        items.append(Item(key, at, text[end : value.start], value))
        at = _skip(text, value.end)
    return Node("object", start, at + 1, tuple(items))


def _array(text: str, start: int, depth: int) -> Node:
    items: list[Item] = []
    at = _skip(text, start + 1)
    while text[at : at + 1] != "]":
        if items:
            at = _skip(text, _expect(text, at, ",", "a comma or ]"))
        value = _value(text, at, depth + 1)
        items.append(Item("", at, "", value))
        at = _skip(text, value.end)
    return Node("array", start, at + 1, tuple(items))


def _expect(text: str, at: int, sign: str, name: str) -> int:
    if text[at : at + 1] != sign:
        raise JsonError(f"{name} is missing here", text, at)
    return at + 1


def _string(text: str, at: int) -> tuple[int, str]:
    try:
        string, end = _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise JsonError(f"in a string: {error.msg}", text, error.pos) from None
    return end, string


def _number(text: str, at: int) -> Node:
    found = _NUMBER.match(text, at)
    if not found:
        raise JsonError("a value is missing here" if text[at:] else "the file ends too early", text, at)
    try:
        number = float(found[0]) if found[1] or found[2] else int(found[0])
    except ValueError:  # more digits than Python takes from a stranger
        raise JsonError("a number of too many digits", text, at) from None
    return Node("scalar", at, found.end(), scalar=number)
