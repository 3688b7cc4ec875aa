"""Kubernetes manifests as the YAML that people read. Only what a manifest holds: maps, lists, strings, numbers, booleans."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./@-]*(?::[A-Za-z0-9_./@-]+)*")
BLOCK = re.compile(r"[!-~][ -~]*(?<! )\n(?:[ -~]*[!-~]\n)*")
"""A file in a string: lines that do not end in a blank, each with its end, the first not indented. YAML has them as they are."""
WORDS = frozenset(("true", "false", "yes", "no", "on", "off", "null", "y", "n"))


def to_yaml(value: Any) -> str:
    """One YAML document, keys in the order given. Strings that YAML could take for something else are quoted."""
    return "\n".join(_lines(value, 0)) + "\n"


def documents(values: list[Any]) -> str:
    """Several documents in one file."""
    return "---\n".join(to_yaml(value) for value in values)


def _lines(value: Any, depth: int) -> Iterator[str]:
    pad = "  " * depth
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _entry(f"{pad}{_scalar(key)}:", inner, depth)
    elif isinstance(value, list):
        for inner in value:
            yield from _item(pad, inner, depth)
    else:
        yield f"{pad}{_scalar(value)}"


def _entry(head: str, value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, (dict, list)) and value:
        yield head
        yield from _lines(value, depth + (1 if isinstance(value, dict) else 0))
    elif isinstance(value, str) and BLOCK.fullmatch(value):
        yield f"{head} |"
        yield from (f"{'  ' * (depth + 1)}{line}" for line in value.splitlines())
    else:
        yield f"{head} {_scalar(value)}"


def _item(pad: str, value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, (dict, list)) and value:
        first, *rest = _lines(value, depth + 1)
        yield f"{pad}- {first[len(pad) + 2 :]}"
        yield from rest
    else:
        yield f"{pad}- {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)  # JSON's scalars, and empty {} and [], are YAML's
