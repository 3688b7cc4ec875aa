"""What the kernel, and the services of a GPU node, have written to the host's log since it was started. Earlier boots are history."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from gpunode.errors import HostError
from gpunode.host.reader import Reader

LOG_SECONDS = 5.0
UNIT_LINES = 2000
"""Of the services the newest lines alone: a kubelet writes more in a week than anybody can read."""

JOURNAL = ("--output=short-unix", "--no-hostname", "--no-pager", "--quiet")
JOURNAL_LINE = re.compile(r"^(\d+\.\d+) ([^\s:\[]+)(?:\[\d+\])?: (.*)$")
DMESG_LINE = re.compile(r"^(\d{4}-\d\d-\d\dT[\d:,+-]+) (.*)$")


@dataclass(frozen=True)
class LogLine:
    """A line: when, in seconds since the epoch (None where the log does not tell), by which program, and its text."""

    when: float | None
    program: str
    text: str


Parser = Callable[[str], "LogLine | None"]


def kernel_lines(host: Reader, keep: re.Pattern[str]) -> tuple[LogLine, ...] | None:
    """The kernel's lines of this boot in which `keep` is found, oldest first; None where they cannot be read (root may).

    The journal has them from the start; the kernel's own buffer, asked where there is no journal, forgets the oldest.
    """
    if not host.is_root():
        return None
    found = _asked(host, ("journalctl", "--dmesg", *JOURNAL), _journal_line)
    if not found:
        found = _asked(host, ("dmesg", "--time-format=iso"), _dmesg_line)
    return None if found is None else tuple(line for line in found if keep.search(line.text))


def unit_lines(host: Reader, units: Sequence[str]) -> tuple[LogLine, ...] | None:
    """The newest lines of services since the boot, oldest first; None where they cannot be read."""
    if not host.is_root() or not units:
        return None
    named = [word for unit in units for word in ("--unit", unit)]
    return _asked(host, ("journalctl", *named, "--boot", f"--lines={UNIT_LINES}", *JOURNAL), _journal_line)


def _asked(host: Reader, argv: Sequence[str], parse: Parser) -> tuple[LogLine, ...] | None:
    try:
        output = host.query(argv, timeout=LOG_SECONDS)
    except HostError:
        return None
    if not output.ok:
        return None
    return tuple(line for text in output.stdout.splitlines() if (line := parse(text)))


def _journal_line(text: str) -> LogLine | None:
    found = JOURNAL_LINE.match(text)
    return LogLine(float(found[1]), found[2], found[3]) if found else None


def _dmesg_line(text: str) -> LogLine | None:
    found = DMESG_LINE.match(text)
    if not found:
        return None
    try:
        when = datetime.fromisoformat(found[1].replace(",", ".")).timestamp()
    except ValueError:
        return LogLine(None, "kernel", found[2])
    return LogLine(when, "kernel", found[2])
