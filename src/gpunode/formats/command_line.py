"""The options of a command line."""

from __future__ import annotations

from collections.abc import Sequence


def values(words: Sequence[str], *names: str) -> list[str]:
    """Every value that an option is given under any of its names, as `--name value` or `--name=value`."""
    found = []
    for word, following in zip(words, [*words[1:], ""][: len(words)], strict=True):
        name, given, value = word.partition("=")
        if name in names:
            found.append(value if given else following)
    return found


def without(words: Sequence[str], *names: str) -> list[str]:
    """The words without an option of these names and its value."""
    kept = []
    skip = False
    for word in words:
        name, given, _ = word.partition("=")
        if not skip and name not in names:
            kept.append(word)
        skip = not skip and name in names and not given
    return kept
