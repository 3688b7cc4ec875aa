"""What runs on the host, from /proc: names, states, open watches. No process is asked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpunode.errors import HostError
from gpunode.host.reader import Reader

PROC = "/proc"
STAT = re.compile(rb"^(\d+) \((.*)\) (\S) ", re.DOTALL)
WATCH = "anon_inode:inotify"
INSTANCES = f"{PROC}/sys/fs/inotify/max_user_instances"
DESCRIPTORS_AT_MOST = 20_000


@dataclass(frozen=True)
class Process:
    """A process. `name` is the kernel's, cut to 15 bytes; `state` its letter: `D` waits in the kernel and cannot be ended."""

    pid: int
    name: str
    state: str


def processes(host: Reader) -> tuple[Process, ...]:
    """Every process that can be seen."""
    found = (_process(host, name) for name in host.listdir(PROC) if name.isdigit())
    return tuple(each for each in found if each)


def _process(host: Reader, pid: str) -> Process | None:
    try:
        match = STAT.match(host.read(f"{PROC}/{pid}/stat") or b"")
    except (HostError, OSError):  # it ended meanwhile
        return None
    return Process(int(match[1]), match[2].decode("utf-8", "replace"), match[3].decode()) if match else None


def inotify_instances(host: Reader) -> tuple[int, int] | None:
    """Instances in use by root and how many a user may have; None where that cannot be told in reasonable time."""
    limit = (host.read(INSTANCES) or b"").strip()
    used = looked = 0
    if not host.is_root() or not limit.isdigit():
        return None
    for pid in (name for name in host.listdir(PROC) if name.isdigit()):
        try:
            owner = host.lstat(f"{PROC}/{pid}")
            paths = [f"{PROC}/{pid}/fd/{name}" for name in host.listdir(f"{PROC}/{pid}/fd")]
            looked += len(paths)
            if owner is None or owner.uid != 0:
                continue
            used += sum(1 for path in paths if (stat := host.lstat(path)) and stat.target == WATCH)
        except (HostError, OSError):  # it ended meanwhile
            continue
        if looked > DESCRIPTORS_AT_MOST:
            return None
    return used, int(limit)
