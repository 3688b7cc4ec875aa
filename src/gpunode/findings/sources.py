"""apt's sources as entries, of both formats: where each stands, what it names, and by which keyring it is signed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

ONE_LINE = re.compile(r"\s*deb(?:-src)?\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)")
DEB_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


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


def entries(path: str, text: str, architecture: str) -> list[Source]:
    """The enabled entries of a `.sources` or `.list` file. `architecture` is the kernel's word, for `$(ARCH)`."""
    found = _paragraphs(path, text) if path.endswith(".sources") else _lines(path, text)
    word = DEB_ARCHITECTURES.get(architecture, architecture)
    return [
        Source(each.path, each.line, each.uri.replace("$(ARCH)", word), each.suite, each.signed_by) for each in found
    ]


def _lines(path: str, text: str) -> Iterator[Source]:
    for number, line in enumerate(text.splitlines(), start=1):
        found = ONE_LINE.match(line)
        if found:
            signed = re.search(r"signed-by=(\S+)", found["options"] or "", re.IGNORECASE)
            yield Source(path, number, found["uri"], found["suite"], signed[1] if signed else "")


def _paragraphs(path: str, text: str) -> Iterator[Source]:
    start = 1
    for paragraph in re.split(r"\n[ \t]*(?=\n)", text):
        fields: dict[str, str] = {}
        places: dict[str, int] = {}
        for number, line in enumerate(paragraph.splitlines(), start=start):
            key, colon, value = line.partition(":")
            if colon and not line.startswith(("#", " ", "\t")):
                fields[key.lower()], places[key.lower()] = value.strip(), number
        start += paragraph.count("\n") + 1
        if fields.get("enabled", "yes").lower() not in ("no", "false", "off", "0"):
            for uri in fields.get("uris", "").split():
                for suite in fields.get("suites", "").split():
                    yield Source(path, places["uris"], uri, suite, fields.get("signed-by", ""))
