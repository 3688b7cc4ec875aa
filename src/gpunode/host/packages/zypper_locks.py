"""zypper's locks: blocks of `key: value` lines, each of which keeps the packages it names as they are, installed or absent."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable


def holds(text: str, name: str) -> bool:
    """True when a lock takes the package of this name."""
    return any(_takes(block, name) for block in map(_fields, _blocks(text)))


def with_held(text: str, names: Iterable[str]) -> str:
    """The file with a lock on each name, as `zypper addlock NAME` writes it."""
    start = text if not text or text.endswith("\n") else f"{text}\n"
    return start + "".join(_lock(name) for name in names)


def without(text: str, names: Iterable[str]) -> str:
    """The file without the locks that `with_held` adds; all others stay, byte for byte."""
    for name in names:
        text = text.replace(_lock(name), "")
    return text


def _lock(name: str) -> str:
    return f"\ntype: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: {name}\n\n"


def _blocks(text: str) -> list[str]:
    return [block for block in re.split(r"\n\s*\n", text) if block.strip()]


def _fields(block: str) -> dict[str, str]:
    lines = (line.partition(":") for line in block.splitlines() if not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in lines}


def _takes(fields: dict[str, str], name: str) -> bool:
    pattern = fields.get("solvable_name", "")
    if not pattern or fields.get("type", "package") != "package":
        return False
    match fields.get("match_type", "glob"):
        case "regex":
            return bool(re.search(pattern, name))
        case "substring" | "word":
            return pattern in name
        case "exact":
            return pattern == name
    return fnmatch.fnmatchcase(name, pattern)
