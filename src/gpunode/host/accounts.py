"""System users that packages' own scripts make and, as a rule, leave behind when they are purged."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gpunode.host.machine import Machine
from gpunode.host.reader import Reader

USERS = "/etc/passwd"
SYSTEM_UIDS = range(100, 1000)
SCRIPTS = "/var/lib/dpkg/info"


def system_users(reader: Reader) -> dict[str, int]:
    """Names and uids of the host's system users, those that packages make (uid 100 to 999)."""
    rows = [line.split(":") for line in (reader.read_text(USERS) or "").splitlines()]
    users = {row[0]: int(row[2]) for row in rows if len(row) > 2 and row[2].isdigit()}
    return {name: uid for name, uid in users.items() if uid in SYSTEM_UIDS}


def made_by(reader: Reader, packages: Iterable[str], users: Iterable[str]) -> list[str]:
    """Of the users, those that the packages' install scripts name."""
    texts = [
        (reader.read(f"{SCRIPTS}/{package}.{script}") or b"").decode("utf-8", "replace")
        for package in packages
        for script in ("postinst", "preinst")
    ]
    return [user for user in users if any(re.search(rf"(?<![\w-]){re.escape(user)}(?![\w-])", text) for text in texts)]


def runs_something(reader: Reader, uid: int) -> bool:
    """True when a process of the user is there."""
    for name in reader.listdir("/proc"):
        if name.isdigit():
            status = (reader.read(f"/proc/{name}/status") or b"").decode("ascii", "replace")
            found = re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)
            if found and int(found[1]) == uid:
                return True
    return False


def remove(machine: Machine, user: str) -> bool:
    """`userdel`, which also takes the group of the same name. False when it refuses."""
    return machine.run(["userdel", user]).ok
