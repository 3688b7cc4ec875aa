"""Small words: counts, durations, sizes, and the symbols that a stream can show."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NOTHING = frozenset(
    {"", "absent", "none", "missing", "nothing", "not installed", "not loaded", "not held", "not there", "not present"}
)
_SAID_BY_SIGN = frozenset({"present", "as shown", "other content", "applied", "held", "loaded", "fetched"})
_KINDS = {
    "toml": "file {}",
    "absent": "files {}",
    "key": "signing key {}",
    "hold": "hold on {}",
    "packages": "packages for {}",
    "module": "kernel module {}",
    "runfile": "driver installer {}",
    "cuda-runfile": "CUDA installer {}",
    "rollout": "rollout of {}",
    "object": "{}",
}
"""Kinds of resources that a person calls otherwise than the code does."""


@dataclass(frozen=True)
class Symbols:
    """The marks beside a line. Each is one column wide in both sets, but for the arrow and the ellipsis."""

    passed: str = "✓"
    failed: str = "✗"
    skipped: str = "–"
    waiting: str = "·"
    step: str = "▸"
    restart: str = "↻"
    arrow: str = "→"
    dot: str = "·"
    ellipsis: str = "…"
    bar: str = "━"


ASCII = Symbols("v", "x", ".", ".", ">", "@", "->", "-", "...", "#")


def symbols_for(encoding: str | None) -> Symbols:
    """The symbols that text in this encoding can carry; None, as of a stream held in memory, carries all."""
    every = Symbols()
    try:
        "".join(vars(every).values()).encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return every


def clean(text: str) -> str:
    r"""Text without what would steer the terminal: control characters are shown as `\x1b`, tabs are kept."""
    if text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    steers = unicodedata.category(character) == "Cc" or character in _BIDI_CONTROLS
    return character.encode("unicode_escape").decode() if steers and character != "\t" else character


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return len(text) + sum(unicodedata.east_asian_width(character) in "WF" for character in text)


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 change`, `3 changes`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def listing(names: Collection[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `2 min 14 s`, `1 h 03 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def megabytes(size: float) -> str:
    """`0.3 MB`, `345 MB`, in millions of bytes."""
    return f"{size / 1e6:.1f} MB" if size < 9.95e6 else f"{size / 1e6:.0f} MB"


def human_name(resource: str) -> str:
    """A resource's id as a person says it: `key:/usr/…` → `signing key /usr/…`."""
    kind, colon, name = resource.partition(":")
    return _KINDS.get(kind, f"{kind.replace('-', ' ')} {{}}").format(name) if colon else resource


def is_nothing(value: str) -> bool:
    """True for the words by which a difference says that there is nothing there."""
    return value.strip().lower() in _NOTHING


def is_said_by_sign(value: str) -> bool:
    """True for words that add nothing to a plus or a minus sign, or to the difference shown beneath."""
    return value in _SAID_BY_SIGN
