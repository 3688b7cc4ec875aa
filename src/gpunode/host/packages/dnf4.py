"""dnf 4, of RHEL 8 to 10 and Amazon Linux 2023: transactions of several verbs go by its shell, locks by a plugin."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpunode.errors import HostError
from gpunode.host.machine import Machine, OnLine, Output
from gpunode.host.packages import versionlock
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
from gpunode.host.packages.rpm import Rpm
from gpunode.host.reader import Reader

LOCK_CONF = "/etc/dnf/plugins/versionlock.conf"

# One line of `dnf --verbose`: `---> Package NAME.ARCH EVR will be installed`.
PLANNED = re.compile(
    r"^---> Package (\S+)\.(\w+) (\S+) will be (installed|an upgrade|a downgrade|reinstalled|erased|obsoleted)\s*$",
    re.MULTILINE,
)
GONE = ("erased", "obsoleted")
# Of a transaction that was killed, `dnf history info` reckons the end from 1970: `(-1795517304 seconds)`.
UNFINISHED = re.compile(r"^End time +: .*\(-\d+ seconds\)", re.MULTILINE)


class Dnf4:
    """Dialect of dnf 4."""

    locks: Locks = versionlock
    local: tuple[str, ...] = ("--quiet", "--disablerepo=*")
    past_locks: tuple[str, ...] = ("--disableplugin=versionlock",)

    def require_locking(self, reader: Reader) -> None:
        """The plugin is a package of its own, and can be switched off."""
        conf = reader.read_text(LOCK_CONF)
        if conf is None or re.search(r"^\s*enabled\s*=\s*(0|false|no)\s*$", conf, re.MULTILINE | re.IGNORECASE):
            what = "is not installed" if conf is None else f"is switched off in {LOCK_CONF}"
            raise HostError(
                f"dnf cannot hold packages: its versionlock plugin {what}",
                hint="install python3-dnf-plugin-versionlock and enable it, or switch hold off in the profile",
            )

    def offers(self, flags: Sequence[str], names: Sequence[str]) -> list[str]:
        """All versions, also those that locks keep out."""
        words = ["--quiet", "--available", "--showduplicates", f"--queryformat={FIELDS}"]
        return ["dnf", "repoquery", *words, *flags, *self.past_locks, *names]

    def reasons(self) -> list[str]:
        """As `dnf repoquery` tells them."""
        return ["dnf", "repoquery", *self.local, "--installed", f"--queryformat={REASON_FIELDS}"]

    def foreseen(self, reader: Reader, task: Task, flags: Sequence[str]) -> tuple[list[Planned], Output]:
        """By a dnf shell that answers no to its own question."""
        argv = ["dnf", "--assumeno", "shell", "--verbose", "--allowerasing", *flags]
        output = reader.query(argv, stdin=_script(task), timeout=QUERY_SECONDS)
        found = [
            Planned(Rpm(name, version, architecture), comes=how == "installed", goes=how in GONE)
            for name, architecture, version, how in PLANNED.findall(output.stdout)
        ]
        return found, output

    def carry_out(self, machine: Machine, task: Task, flags: Sequence[str], on_line: OnLine) -> Output:
        """By a dnf shell, whose exit status is 0 whatever happened in it."""
        argv = ["dnf", "--assumeyes", "shell", "--allowerasing", *flags]
        output = machine.run(argv, stdin=_script(task), timeout=TRANSACTION_SECONDS)
        for line in output.stdout.splitlines():
            on_line(line)
        return output

    def begun(self, history: str) -> frozenset[str]:
        """It has no time at its end."""
        if not UNFINISHED.search(history):
            return frozenset()
        return frozenset(re.findall(r"^[ *]*Install +(\S+)", history, re.MULTILINE))

    def mark(self, names: Sequence[str], *, auto: bool) -> list[str]:
        """`dnf mark remove` for dependencies, `dnf mark install` for what is wanted by name."""
        return ["dnf", "mark", "remove" if auto else "install", *self.local, *names]


def _script(task: Task) -> str:
    """What a dnf shell is told."""
    lines = [("install", list(map(full_name, task.install))), ("remove", task.remove), ("reinstall", task.reinstall)]
    commands = [f"{verb} {' '.join(words)}" for verb, words in lines if words]
    return "\n".join([*commands, "run", ""])
