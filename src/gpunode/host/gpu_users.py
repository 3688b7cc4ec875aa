"""Who uses the GPUs: processes that have one of the driver's device nodes open, by the kernel's own files."""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.errors import HostError
from gpunode.host.reader import Reader

NODES = "/dev/nvidia"
OWN_UNITS = ("nvidia-persistenced.service", "nvidia-fabricmanager.service")
"""The driver's own daemons: they let go of it when they are told to."""
MONITORS = ("nvidia-dcgm.service", "dcgm.service", "nvidia-dcgm-exporter.service")
"""What watches the GPUs as a service of the host: DCGM's host engine under its names since version 2 and before, and its exporter."""
LONGEST_COMMAND = 60


@dataclass(frozen=True)
class GpuUser:
    """A process that uses the driver, its command line, shortened, and its control groups, as the kernel lists them."""

    pid: int
    command: str
    cgroup: str = ""

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid})"


def gpu_users(reader: Reader) -> tuple[GpuUser, ...]:
    """The processes that use the driver, its own daemons aside. Those of others are seen by root alone."""
    pids = sorted(int(name) for name in reader.listdir("/proc") if name.isdecimal())
    found = (
        GpuUser(pid, _command(reader, pid), _text(reader, f"/proc/{pid}/cgroup"))
        for pid in pids
        if _uses_driver(reader, pid)
    )
    return tuple(user for user in found if not is_of(user, OWN_UNITS))


def is_of(user: GpuUser, units: tuple[str, ...]) -> bool:
    """Whether a process is one of these services'."""
    return any(f"/{unit}" in user.cgroup for unit in units)


def birth(reader: Reader, pid: int) -> str:
    """What tells a process from a later one with its number: when it started, in ticks since the boot. Empty once it has ended."""
    fields = _text(reader, f"/proc/{pid}/stat").rpartition(")")[2].split()
    ended = not fields or fields[0] in ("Z", "X")
    return "" if ended else fields[19]


def _uses_driver(reader: Reader, pid: int) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        stats = (reader.lstat(f"{folder}/{name}") for name in reader.listdir(folder))
        return any(stat.target.startswith(NODES) for stat in stats if stat)
    except HostError:  # another user's process, or one that has just ended
        return False


def _command(reader: Reader, pid: int) -> str:
    words = _text(reader, f"/proc/{pid}/cmdline").replace("\0", " ").strip()
    words = words or _text(reader, f"/proc/{pid}/comm").strip() or "a process"
    return words if len(words) <= LONGEST_COMMAND else f"{words[:LONGEST_COMMAND]}…"


def _text(reader: Reader, path: str) -> str:
    try:
        return (reader.read(path) or b"").decode("utf-8", "replace")
    except HostError:
        return ""
