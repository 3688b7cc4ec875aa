"""System users: lines of a file, made by packages' scripts, removed by userdel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory.command import Answer, Call

if TYPE_CHECKING:
    from memory.machine import MemoryMachine

USERS = "/etc/passwd"
FIRST = "root:x:0:0:root:/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"


def has(machine: MemoryMachine, name: str) -> bool:
    """True when there is a user of that name."""
    return any(line.startswith(f"{name}:") for line in machine.files.text(USERS).splitlines())


def add(machine: MemoryMachine, name: str) -> None:
    """What a package's postinst does; nothing when the user is there."""
    if not has(machine, name):
        line = f"{name}:x:101:101::/nonexistent:/usr/sbin/nologin\n"
        machine.files.lay(USERS, machine.files.text(USERS) + line)


def userdel(machine: MemoryMachine, call: Call) -> Answer:
    """`userdel NAME`."""
    name = call.operands()[0]
    if not has(machine, name):
        return Answer(stderr=f"userdel: user '{name}' does not exist\n", status=6)
    kept = [line for line in machine.files.text(USERS).splitlines() if not line.startswith(f"{name}:")]
    machine.effect(f"userdel {name}", lambda: machine.files.lay(USERS, "".join(f"{line}\n" for line in kept)))
    return Answer()
