"""apt's sources as entries, of both formats: where each stands, what it names, and by which keyring it is signed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

ONE_LINE = re.compile(r"\s*deb(?:-src)?\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)")


@dataclass(frozen=True)
class Source:
    """One repository of one file. `line` counts from 1; `signed_by` is empty where the entry names no keyring."""

    path: str
    line: int
    uri: str
    suite: str
    signed_by: str

    @property
    def repository(self) -> tuple[str, str]:
        """What apt holds to be the same repository, whatever the spelling."""
        return self.uri.rstrip("/"), self.suite.rstrip("/")


def entries(path: str, text: str, architecture: str, *, enabled: bool = True) -> list[Source]:
    """The enabled entries of a `.sources` or `.list` file, or those that are switched off.

    `architecture` is apt's word, for `$(ARCH)`.
    """
    found = _paragraphs(path, text, enabled) if path.endswith(".sources") else _lines(path, text, enabled)
    return [
        Source(each.path, each.line, each.uri.replace("$(ARCH)", architecture), each.suite, each.signed_by)
        for each in found
    ]


def _lines(path: str, text: str, enabled: bool) -> Iterator[Source]:
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.lstrip("# ")
        found = ONE_LINE.match(bare) if line.lstrip().startswith("#") is not enabled else None
        if found:
            signed = re.search(r"signed-by=(\S+)", found["options"] or "", re.IGNORECASE)
            yield Source(path, number, found["uri"], found["suite"], signed[1] if signed else "")


def _paragraphs(path: str, text: str, enabled: bool) -> Iterator[Source]:
    start = 1
    for paragraph in re.split(r"\n[ \t]*(?=\n)", text):
        fields: dict[str, str] = {}
        places: dict[str, int] = {}
        for number, line in enumerate(paragraph.splitlines(), start=start):
            key, colon, value = line.partition(":")
            if colon and not line.startswith(("#", " ", "\t")):
                fields[key.lower()], places[key.lower()] = value.strip(), number
        start += paragraph.count("\n") + 1
        if (fields.get("enabled", "yes").lower() not in ("no", "false", "off", "0")) is enabled:
            for uri in fields.get("uris", "").split():
                for suite in fields.get("suites", "").split():
                    yield Source(path, places["uris"], uri, suite, fields.get("signed-by", ""))
