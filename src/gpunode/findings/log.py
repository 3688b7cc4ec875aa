"""Recognising failures in pasted words: an error, or a log of the kernel, the kubelet, containerd or the plugin. No host is asked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpunode.engine.results import FindingResult
from gpunode.findings import CATALOGUE, Known

SHOWN = 3
"""Lines of evidence of one failure: the first that name it; how many more there are is said."""
LONGEST = 400
PLACEHOLDER = re.compile(r"{(\w+)}")


@dataclass(frozen=True)
class _Match:
    """Where in a text a failure's words stand, and what they name."""

    line: int
    words: str
    named: dict[str, str]


def recognise_text(text: str) -> list[FindingResult]:
    """The failures whose words are in the text, causes first. Where it does not tell enough for the cause, the title stands for it."""
    found = [(entry, matches) for entry in CATALOGUE if (matches := _matches(entry, text))]
    here = {entry.id for entry, _ in found}
    return [_finding(entry, matches, here) for entry, matches in found]


def _matches(entry: Known, text: str) -> list[_Match]:
    by_line: dict[int, _Match] = {}
    for pattern in entry.patterns:
        for match in re.finditer(pattern, text, re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            named = {name: value for name, value in match.groupdict().items() if value}
            by_line.setdefault(line, _Match(line, _line_at(text, match.start()), named))
    return [by_line[line] for line in sorted(by_line)]


def _line_at(text: str, at: int) -> str:
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    return text[start : len(text) if end < 0 else end].strip()[:LONGEST]


def _finding(entry: Known, matches: list[_Match], here: set[str]) -> FindingResult:
    named = {name: value for match in matches for name, value in match.named.items()}
    lines = [f"line {match.line}: {match.words}" for match in matches[:SHOWN]]
    lines += [f"and {len(matches) - SHOWN} more lines"] if len(matches) > SHOWN else []
    return FindingResult(
        id=entry.id,
        severity=entry.severity,
        title=entry.title,
        cause=_told(entry.cause, named) or f"{entry.title}.",
        evidence=tuple(lines),
        mend=tuple(told for command in entry.mend if (told := _told(command, named)))
        or ("gpunode doctor  # on the host",),
        explains=tuple(name for name in entry.explains if name in here),
        references=entry.references,
    )


def _told(template: str, named: dict[str, str]) -> str:
    """The template with what the text names; empty where it leaves something open."""
    open_ones = [name for name in PLACEHOLDER.findall(template) if name not in named]
    return "" if open_ones else PLACEHOLDER.sub(lambda found: named[found[1]], template)
