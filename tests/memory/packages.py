"""Packages as data: what a repository offers and what dpkg's database holds."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cmp_to_key
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from memory.machine import MemoryMachine

Script = Callable[["MemoryMachine"], None]
State = Literal["installed", "config-files", "unpacked", "half-configured", "half-installed"]


class ScriptError(Exception):
    """A maintainer script that failed; its words are what it printed."""


@dataclass(frozen=True)
class Deb:
    """One package at one version. `depends` as in a control file; scripts are given the machine and raise ScriptError."""

    name: str
    version: str
    depends: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    conffiles: frozenset[str] = frozenset()
    conflicts: tuple[str, ...] = ()
    postinst: Script | None = None
    prerm: Script | None = None
    postrm: Script | None = None

    @property
    def units(self) -> list[str]:
        """Names of the unit files in it."""
        return [path.rpartition("/")[2] for path in self.files if path.startswith("/usr/lib/systemd/system/")]


@dataclass(frozen=True)
class Repository:
    """A flat repository. It speaks to those whose keyring file holds `key`; `error` is what a fetch of it says instead."""

    uri: str
    debs: tuple[Deb, ...]
    key: bytes = b""
    error: str = ""

    @property
    def list_file(self) -> str:
        """Where apt keeps its index."""
        bare = self.uri.split("://", 1)[1].rstrip("/")
        return f"/var/lib/apt/lists/{bare.replace('_', '%5f').replace('/', '_')}_InRelease"


@dataclass
class Record:
    """A package in dpkg's database."""

    deb: Deb
    state: State
    want: Literal["install", "hold", "deinstall"] = "install"

    @property
    def installed_version(self) -> str:
        """The version; empty where only configuration files are left, whichever version they are of."""
        return "" if self.state == "config-files" else self.deb.version

    @property
    def abbreviation(self) -> str:
        """As `${db:Status-Abbrev}` prints it."""
        states = {"installed": "i", "config-files": "c", "unpacked": "U", "half-configured": "F", "half-installed": "H"}
        torn = "R" if self.state == "half-installed" and self.want != "deinstall" else " "
        return {"install": "i", "hold": "h", "deinstall": "r"}[self.want] + states[self.state] + torn


@dataclass
class Dpkg:
    """dpkg's database, and what the archive of the distribution itself offers."""

    records: dict[str, Record] = field(default_factory=dict)
    archive: list[Deb] = field(default_factory=list)

    def copy(self) -> Dpkg:
        """Another database with the same content."""
        return Dpkg({name: replace(record) for name, record in self.records.items()}, list(self.archive))

    def installed(self) -> dict[str, Deb]:
        """What is there or on its way, by name: what apt counts dependencies on."""
        return {name: record.deb for name, record in self.records.items() if record.state != "config-files"}


@cache
def compare(one: str, other: str) -> int:
    """Debian's order of versions: negative, 0, positive."""
    (epoch, one), (other_epoch, other) = (_epoch(version) for version in (one, other))
    if epoch != other_epoch:
        return epoch - other_epoch
    for mine, theirs in zip(_parts(one, other), _parts(other, one), strict=True):
        if mine != theirs:
            return -1 if mine < theirs else 1
    return 0


VERSION_KEY = cmp_to_key(compare)


def _epoch(version: str) -> tuple[int, str]:
    head, colon, rest = version.partition(":")
    return (int(head), rest) if colon else (0, version)


def _parts(version: str, other: str) -> list[list[int]]:
    """Alternating texts and numbers as comparable lists, padded to the other version's length."""
    found = [re.findall(r"(\D*)(\d*)", each) for each in (version, other)]
    padded = found[0] + [("", "")] * (len(found[1]) - len(found[0]))
    return [part for text, number in padded for part in (_order(text), [int(number or 0)])]


def _order(text: str) -> list[int]:
    weights = {"~": -1}
    return [*(weights.get(letter, ord(letter) + (0 if letter.isalpha() else 256)) for letter in text), 0]


OPERATORS: dict[str, Callable[[int], bool]] = {
    "=": lambda order: order == 0,
    ">=": lambda order: order >= 0,
    "<=": lambda order: order <= 0,
    "<<": lambda order: order < 0,
    ">>": lambda order: order > 0,
}


@dataclass(frozen=True)
class Dependency:
    """`name (op version)`, one alternative of a dependency."""

    name: str
    operator: str = ""
    version: str = ""

    def met_by(self, deb: Deb | None) -> bool:
        """True when the package will do."""
        if deb is None or deb.name != self.name:
            return False
        return not self.operator or OPERATORS[self.operator](compare(deb.version, self.version))


@cache
def parse(text: str) -> list[Dependency]:
    """The alternatives of one dependency."""
    found = [re.match(r"\s*(\S+)(?:\s*\((\S+)\s+([^)]+)\))?", each) for each in text.split("|")]
    return [Dependency(match[1], match[2] or "", match[3] or "") for match in found if match]


def matches(version: str, pattern: str) -> bool:
    """apt's `name=pattern`: equal, or with a star a shell pattern."""
    return version == pattern or ("*" in pattern and fnmatch.fnmatchcase(version, pattern))
