"""Where things stand in a TOML text: its table headers and key lines with their offsets.

The text must already have been accepted by a TOML parser, and have no byte order mark:
this reader only finds places, it does not validate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from gpunode.formats.toml_data import Path, parse

# A path in which an integer stands for an element of an array of tables.
Place = tuple[str | int, ...]

_BLANKS = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'""")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_STRING = re.compile(
    r'"""(?:\\[\s\S]|[^\\])*?"""(?:"{0,2})'
    r"|'''[\s\S]*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
)
_COMMENT = re.compile(r"#[^\n]*")
_SCALAR = re.compile(r"[^#\r\n]*")
_SCALAR_INSIDE = re.compile(r"[^#\r\n,}]*")


@dataclass(frozen=True)
class Header:
    """A `[table]` or `[[array]]` line; start and end are offsets of the whole line, its line break included."""

    path: Place
    spelling: Path  # the parts as written, quotes included
    indent: str
    start: int
    end: int
    is_array: bool


@dataclass(frozen=True)
class Entry:
    """A `key = value` with its lines (several when the value spans them); path is the whole path from the root."""

    path: Place
    spelling: Path  # the parts of the key as written, without the table's
    indent: str
    start: int
    end: int
    value_start: int
    value_end: int
    section: int  # index into Outline.headers, -1 for keys above the first header


@dataclass
class Outline:
    """All headers and entries of a text in the order in which they stand there."""

    text: str
    headers: list[Header] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    def holding(self, path: Path) -> Entry | None:
        """The entry that is path, or whose value (an inline table, say) path lies in."""
        return next((entry for entry in self.entries if starts_with(path, entry.path)), None)

    def header(self, path: Path) -> int | None:
        """The index of the header of that very table."""
        return next((i for i, header in enumerate(self.headers) if header.path == path), None)

    def section_entries(self, section: int) -> list[Entry]:
        """The keys that stand directly under a header, or above the first one for -1."""
        return [entry for entry in self.entries if entry.section == section]

    def value_text(self, entry: Entry) -> str:
        """The value as written."""
        return self.text[entry.value_start : entry.value_end]

    def line_before(self, offset: int) -> str | None:
        """The line that ends at offset, without its line break; None at the top of the file."""
        if offset == 0:
            return None
        head = self.text[:offset].removesuffix("\n").removesuffix("\r")
        return head[head.rfind("\n") + 1 :]


def starts_with(path: Place, prefix: Place) -> bool:
    """Whether path is prefix or lies below it."""
    return path[: len(prefix)] == prefix


def read(text: str) -> Outline:
    """The outline of a valid TOML text."""
    outline = Outline(text)
    array_lengths: dict[Place, int] = {}
    for start in _statement_starts(outline):
        at = _after(_BLANKS, text, start)
        indent = text[start:at]
        if text[at] == "[":
            outline.headers.append(_header(text, start, at, indent, array_lengths))
        else:
            outline.entries.append(_entry(outline, start, at, indent))
    return outline


def _statement_starts(outline: Outline) -> Iterator[int]:
    """The offset of each line that begins a header or an entry; the caller has recorded one before the next is sought."""
    text = outline.text
    at = 0
    while at < len(text):
        first = _after(_BLANKS, text, at)
        if first == len(text) or text[first] in "#\r\n":
            at = line_end(text, first)
            continue
        yield at
        ends = [part[-1].end for part in (outline.headers, outline.entries) if part]
        at = max(ends)


def _header(text: str, start: int, at: int, indent: str, array_lengths: dict[Place, int]) -> Header:
    is_array = text.startswith("[[", at)
    spelling, after = key_at(text, _after(_BLANKS, text, at + 1 + is_array))
    *parents, last = (unquoted(part) for part in spelling)
    path = (*_within_arrays(parents, array_lengths), last)
    if is_array:
        array_lengths[path] = array_lengths.get(path, -1) + 1
        path = (*path, array_lengths[path])
    return Header(path, spelling, indent, start, line_end(text, after), is_array)


def _within_arrays(parts: list[str], array_lengths: dict[Place, int]) -> Place:
    """A header below an array of tables speaks of the array's last element."""
    path: Place = ()
    for part in parts:
        path = (*path, part)
        if path in array_lengths:
            path = (*path, array_lengths[path])
    return path


def _entry(outline: Outline, start: int, at: int, indent: str) -> Entry:
    text = outline.text
    spelling, after = key_at(text, at)
    value_start = _after(_BLANKS, text, text.index("=", after) + 1)
    end = value_end(text, value_start)
    section = len(outline.headers) - 1
    table = outline.headers[section].path if outline.headers else ()
    path = (*table, *(unquoted(part) for part in spelling))
    return Entry(path, spelling, indent, start, line_end(text, end), value_start, end, section)


def key_at(text: str, at: int) -> tuple[Path, int]:
    """The parts, as written, of the key that begins at offset at, and the offset behind it."""
    parts: list[str] = []
    while found := _KEY.match(text, at):
        parts.append(found[0])
        dot = _DOT.match(text, found.end())
        if not dot:
            return tuple(parts), found.end()
        at = dot.end()
    raise ValueError(f"no key at offset {at}")


def unquoted(part: str) -> str:
    """The name that one part of a key spells."""
    return str(parse(f"name = {part}")["name"]) if part[0] in "\"'" else part


def value_end(text: str, at: int, *, inside: bool = False) -> int:
    """The offset behind the value that begins at offset at; inside: in an inline table, where a comma ends it too."""
    if string := _STRING.match(text, at):
        return string.end()
    if text[at] not in "[{":
        scalar = _SCALAR_INSIDE if inside else _SCALAR
        return at + len(text[at : _after(scalar, text, at)].rstrip())
    depth = 0
    while True:
        skipped = _STRING.match(text, at) or _COMMENT.match(text, at)
        if skipped:
            at = skipped.end()
            continue
        depth += (text[at] in "[{") - (text[at] in "]}")
        at += 1
        if depth == 0:
            return at


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def line_end(text: str, at: int) -> int:
    """The offset behind the line break that ends the line of offset at, or the end of the text."""
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1
