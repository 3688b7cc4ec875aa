"""dnf 5, of Fedora 42 and newer: transactions of several verbs go by `dnf do`, locks are its own, in TOML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from gpunode.host.machine import Machine, OnLine, Output
from gpunode.host.packages import versionlock_toml
from gpunode.host.packages.dnf_dialect import (
    FIELDS,
    QUERY_SECONDS,
    REASON_FIELDS,
    TRANSACTION_SECONDS,
    Locks,
    Planned,
    Task,
    full_name,
)
from gpunode.host.packages.rpm import Rpm, compare
from gpunode.host.reader import Reader

PROGRAM = "/dnf5"
FIRST = "5.2.14"
"""The first with `dnf do` (dnf5's changelog)."""

# The table of a transaction: a heading, ` NAME ARCH EVR REPOSITORY SIZE` below it, `   replacing NAME ARCH EVR …` below that.
HEADING = re.compile(r"(\w[\w/ ]*):")
ROW = re.compile(r" +(replacing +)?(\S+) +(\w+) +(\d+:\S+) ")
COMES = ("Installing",)
GOES = ("Removing",)
STAYS = ("Upgrading", "Downgrading", "Reinstalling")
UNFINISHED = re.compile(r"^Status +: Started$", re.MULTILINE)


class Dnf5:
    """Dialect of dnf 5."""

    locks: Locks = versionlock_toml
    local: tuple[str, ...] = ("--quiet", "--disable-repo=*")
    # It has no option for the locks alone: this one goes past `excludepkgs` as well.
    past_locks: tuple[str, ...] = ("--setopt=disable_excludes=*",)

    def require_locking(self, _reader: Reader) -> None:
        """They always are."""

    def offers(self, flags: Sequence[str], names: Sequence[str]) -> list[str]:
        """All versions; locks do not matter to queries."""
        return ["dnf", "repoquery", "--quiet", "--available", f"--queryformat={FIELDS}\\n", *flags, *names]

    def reasons(self) -> list[str]:
        """As `dnf repoquery` tells them."""
        return ["dnf", "repoquery", *self.local, "--installed", f"--queryformat={REASON_FIELDS}\\n"]

    def foreseen(self, reader: Reader, task: Task, flags: Sequence[str]) -> tuple[list[Planned], Output]:
        """By `dnf do`, which answers no to its own question behind the table."""
        output = reader.query(["dnf", "--assumeno", *_do(task, flags)], timeout=QUERY_SECONDS)
        return list(_planned(output.stdout)), output

    def carry_out(self, machine: Machine, task: Task, flags: Sequence[str], on_line: OnLine) -> Output:
        """By `dnf do`."""
        return machine.run(["dnf", "--assumeyes", *_do(task, flags)], timeout=TRANSACTION_SECONDS, on_line=on_line)

    def begun(self, history: str) -> frozenset[str]:
        """Its status is still that of one that has begun."""
        if not UNFINISHED.search(history):
            return frozenset()
        names = re.findall(r"^ +Install +(\S+)", history, re.MULTILINE)
        return frozenset(name.replace("-0:", "-", 1) for name in names)

    def mark(self, names: Sequence[str], *, auto: bool) -> list[str]:
        """`dnf mark dependency`, or `dnf mark user` for what is wanted by name."""
        return ["dnf", "mark", "dependency" if auto else "user", "--assumeyes", *self.local, *names]


def too_old(reader: Reader) -> str:
    """The version of this host's dnf 5, where it is one without `dnf do`; else empty, as where rpm does not know it."""
    output = reader.query_once(["rpm", "--query", "--queryformat=%{VERSION}", "dnf5"])
    version = output.stdout.strip() if output.ok else ""
    return version if version and compare(version, FIRST) < 0 else ""


def _do(task: Task, flags: Sequence[str]) -> list[str]:
    actions = (
        ("install", list(map(full_name, task.install))),
        ("remove", task.remove),
        ("reinstall", task.reinstall),
    )
    words = [word for verb, names in actions if names for word in (f"--action={verb}", *names)]
    return ["do", "--allowerasing", *flags, *words]


def _planned(table: str) -> Iterator[Planned]:
    """The rows of the headings that change packages. What is replaced by another name goes."""
    heading, name = "", ""
    for line in table.splitlines():
        if found := HEADING.fullmatch(line):
            heading = found[1].partition(" ")[0]
        elif (row := ROW.match(line)) and heading in (*COMES, *GOES, *STAYS):
            rpm = Rpm(row[2], row[4].removeprefix("0:"), row[3])
            if not row[1]:
                name = rpm.name
                yield Planned(rpm, comes=heading in COMES, goes=heading in GOES)
            elif rpm.name != name:
                yield Planned(rpm, goes=True)
