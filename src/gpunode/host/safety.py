"""Which folders root may write in: those where nobody else can swap a path under its hands."""

from __future__ import annotations

TRUSTED_GROUPS = ("microk8s",)
"""Groups whose members are root's equals by what the group is for: MicroK8s's may run anything in its cluster, which runs as root."""


def trusted_ids(group_file: str) -> frozenset[int]:
    """The trusted groups' numbers on a host, from the text of its /etc/group."""
    rows = (line.split(":") for line in group_file.splitlines())
    return frozenset(int(row[2]) for row in rows if len(row) > 2 and row[0] in TRUSTED_GROUPS and row[2].isdecimal())


def others_can_write(mode: int, uid: int, gid: int, trusted: frozenset[int]) -> bool:
    """Whether somebody else than root, or its equals, can change what lies in a folder."""
    return uid != 0 or bool(mode & 0o002) or (bool(mode & 0o020) and gid not in trusted)
