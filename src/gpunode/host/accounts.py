"""The host's users: those that packages' own scripts make and, as a rule, leave behind, and the one who logged in."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gpunode.host.machine import Machine
from gpunode.host.reader import Reader

USERS = "/etc/passwd"
LOGIN = "/proc/self/loginuid"
"""The kernel's own record: the number of the user who logged in, all ones where nobody did."""
SYSTEM_UIDS = range(100, 1000)


def system_users(reader: Reader) -> dict[str, int]:
    """Names and uids of the host's system users, those that packages make (uid 100 to 999)."""
    rows = [line.split(":") for line in (reader.read_text(USERS) or "").splitlines()]
    users = {row[0]: int(row[2]) for row in rows if len(row) > 2 and row[2].isdigit()}
    return {name: uid for name, uid in users.items() if uid in SYSTEM_UIDS}


def login_uid(reader: Reader) -> str:
    """The number of the user who logged in, as the kernel writes it; empty where it tells none."""
    return (reader.read_text(LOGIN) or "").strip()


def login_home(reader: Reader) -> str:
    """The home of the user who logged in, whoever this process has become since (sudo, su); empty for a service, and for root."""
    uid = login_uid(reader)
    rows = [line.split(":") for line in (reader.read_text(USERS) or "").splitlines()]
    return next((row[5] for row in rows if len(row) > 5 and row[2] == uid and uid != "0"), "")


def named_in(scripts: Iterable[str], users: Iterable[str]) -> list[str]:
    """Of the users, those that the texts of packages' install scripts name."""
    texts = list(scripts)
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
