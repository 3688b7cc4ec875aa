"""Where each key of a TOML text stands.

The parsers give data or positions of syntax errors, not positions of keys. This scanner finds them. It is only ever
given a text that a TOML parser has accepted, so it looks for the ends of things and does not judge them.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass

from gpunode.profile.toml import parse

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\n,]|#[^\n]*)*")
_SPACES = re.compile(r"[ \t]*")
_KEY_PART = re.compile(r"""[ \t]*("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)[ \t]*""")
# The quotes that end a multi-line string may have up to two of its own in front of them.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


@dataclass(frozen=True)
class Position:
    """A place in the text; both numbers count from 1, columns in characters."""

    line: int
    column: int


class Positions:
    """The places of the keys, headers and list items of one text."""

    def __init__(self, text: str) -> None:
        """Scan ``text``, which must be valid TOML with ``\\n`` line ends."""
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._offsets = _Scanner(text).scan()

    def exact(self, path: Path) -> Position | None:
        """The place where ``path`` is written, or None where the file does not name it."""
        offset = self._offsets.get(path)
        return None if offset is None else self._position(offset)

    def nearest(self, path: Path) -> Position:
        """The place of ``path``, or of the innermost table around it that the file names, or the file's start."""
        for length in range(len(path), 0, -1):
            if (position := self.exact(path[:length])) is not None:
                return position
        return Position(1, 1)

    def _position(self, offset: int) -> Position:
        line = bisect_right(self._starts, offset)
        return Position(line, offset - self._starts[line - 1] + 1)


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.offsets: dict[Path, int] = {}
        self.array_lengths: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self.offsets

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if match := pattern.match(self.text, self.at):
            self.at = match.end()

    def _header(self) -> Path:
        start = self.at
        is_array = self.text.startswith("[[", start)
        self.at += 2 if is_array else 1
        path: Path = ()
        for part, _ in self._key():
            path = self._current((*path, part))
            self._note(path, start)
        self.at += 2 if is_array else 1
        if is_array:
            path = self._next_item(path)
            self._note(path, start)
        return path

    def _current(self, path: Path) -> Path:
        """``path``, or its latest item where it is an array of tables."""
        count = self.array_lengths.get(path)
        return path if count is None else (*path, count - 1)

    def _next_item(self, path: Path) -> Path:
        name = path[:-1] if path and isinstance(path[-1], int) else path
        count = self.array_lengths.get(name, 0)
        self.array_lengths[name] = count + 1
        return (*name, count)

    def _key(self) -> list[tuple[str, int]]:
        """Read a dotted key: its parts, unquoted, each with its offset."""
        parts = []
        while match := _KEY_PART.match(self.text, self.at):
            raw = match[1]
            parts.append((parse(f"x={raw}")["x"] if raw[0] in "\"'" else raw, match.start(1)))
            self.at = match.end()
            if not self.text.startswith(".", self.at):
                break
            self.at += 1
        return parts

    def _pair(self, table: Path) -> None:
        path = table
        for part, offset in self._key():
            path = (*path, part)
            self._note(path, offset)
        self.at += 1  # the equals sign
        self._skip(_SPACES)
        self._value(path)

    def _value(self, path: Path) -> None:
        char = self.text[self.at]
        if char == "[":
            self._array(path)
        elif char == "{":
            self._inline_table(path)
        elif char in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _array(self, path: Path) -> None:
        self.at += 1
        index = 0
        self._skip(_BLANK)
        while self.text[self.at] != "]":
            self._note((*path, index), self.at)
            self._value((*path, index))
            index += 1
            self._skip(_BLANK)
        self.at += 1

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        self._skip(_BLANK)
        while self.text[self.at] != "}":
            self._pair(path)
            self._skip(_BLANK)
        self.at += 1

    def _note(self, path: Path, offset: int) -> None:
        """Remember the first place of ``path``: where a table is spread over the file, its beginning."""
        self.offsets.setdefault(path, offset)
