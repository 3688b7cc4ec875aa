"""What dpkg's and apt's own logs say of packages: each change with its moment, and the command that asked for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

DPKG_LOG = "/var/log/dpkg.log"
DPKG_LINE = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (install|upgrade|remove|purge) ([^\s:]+)(?::\S+)? (\S+) (\S+)$", re.MULTILINE
)


@dataclass(frozen=True)
class PackageChange:
    """A change by dpkg, at `at` seconds since the epoch. `<none>` stands for no version, as dpkg writes it."""

    at: float
    verb: str
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Transaction:
    """A call of apt, from `began` to `ended`: its command line, and the user who asked for it by sudo or polkit, where apt noted one."""

    began: float
    ended: float
    command: str
    user: str

    @property
    def who(self) -> str:
        """`apt-get upgrade, asked for by jo (1000)`."""
        return f"{self.command}, asked for by {self.user}" if self.user else self.command


def dpkg_changes(text: str) -> Iterator[PackageChange]:
    """The changes in dpkg's log, which is in the host's own time zone. A line with a date that cannot be is left out."""
    for when, verb, name, before, after in DPKG_LINE.findall(text):
        at = _seconds(when)
        if at is not None:
            yield PackageChange(at, verb, name, before, after)


def transactions(text: str) -> Iterator[Transaction]:
    """The calls in apt's history log. One without an end was cut short, or is under way: it counts until its start.

    One whose start is torn, as a power cut leaves it, says nothing of when it was, and is left out.
    """
    for paragraph in text.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in paragraph.splitlines())
        began, ended = _seconds(fields.get("Start-Date", "")), _seconds(fields.get("End-Date", ""))
        if began is not None:
            who = fields.get("Requested-By", "")
            yield Transaction(began, began if ended is None else ended, fields.get("Commandline", "apt"), who)


def _seconds(words: str) -> float | None:
    try:
        return datetime.strptime(" ".join(words.split()), "%Y-%m-%d %H:%M:%S").astimezone().timestamp()
    except ValueError:
        return None
