"""Processes of a lab host, as this machine sees them."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from gpunode.lab import LabError


class HostProcess:
    """A command running in a lab host in the background. Its `pid` is this machine's number for it."""

    def __init__(self, argv: Sequence[str], outer: subprocess.Popen[str], output: IO[bytes]) -> None:
        self.argv = tuple(argv)
        self._outer = outer  # nsenter, which waits for the command and exits as it did
        self._output = output  # a file, not a pipe: what a killed command leaves running would keep a pipe open

    @property
    def pid(self) -> int:
        """The command's process. Raises LabError once it has ended."""
        deadline = time.monotonic() + 5
        while self._outer.poll() is None and time.monotonic() < deadline:
            for child in children(self._outer.pid):
                return child
            time.sleep(0.01)
        raise LabError(f"{self.argv[0]} is not running any more")

    def output(self) -> str:
        """Return what it has printed so far, standard output and standard error as they came."""
        file = self._output.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")  # leaves the writer's offset alone

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the command itself, not to what it started: as `kill -9` on a real host."""
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        """Return the exit status (negative: killed by that signal), or None while it runs."""
        return self._outer.poll()

    def wait(self, timeout: float = 60) -> int:
        """Wait for the command's end, at most `timeout` seconds, and return its status. Raises LabError if it runs on."""
        try:
            return self._outer.wait(timeout)
        except subprocess.TimeoutExpired as error:
            os.killpg(self._outer.pid, signal.SIGKILL)  # the group spans the name spaces
            raise LabError(f"{' '.join(self.argv)} did not finish within {timeout:.0f} s") from error


def children(parent: int) -> list[int]:
    """Return the processes that `parent` started (not every kernel offers /proc/PID/task/*/children)."""
    # The command's name in stat stands in parentheses and may hold anything; state and parent follow the last one.
    return [pid for pid in pids() if read(pid, "stat").rpartition(b")")[2].split()[1:2] == [str(parent).encode()]]


def pids() -> list[int]:
    """Return every process of this machine."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def read(pid: int, name: str) -> bytes:
    """Return a file of /proc/PID; empty once the process has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""


def is_init(pid: int) -> bool:
    """Say whether a process is PID 1 of a name space below ours: `NSpid: 4711 1`."""
    for line in read(pid, "status").splitlines():
        if line.startswith(b"NSpid:"):
            numbers = line.split()[1:]
            return len(numbers) > 1 and numbers[-1] == b"1"
    return False


def kill(pid: int) -> None:
    """Kill a process that may be gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it went with its PID 1
