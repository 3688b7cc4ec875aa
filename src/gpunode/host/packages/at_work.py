"""Whoever changes packages now: what a killed run has started goes on without it."""

from __future__ import annotations

from collections.abc import Sequence

from gpunode.host.machine import OnLine
from gpunode.host.processes import Process, processes
from gpunode.host.reader import Reader

WAIT_SECONDS = 300.0
"""Then the package manager's own lock decides, for which it waits itself."""
POLL_SECONDS = 0.5


def await_others(host: Reader, programs: Sequence[str], on_line: OnLine) -> None:
    """Until none of these programs runs: what they leave is what counts. Whoever is waited for is told once."""
    deadline, told = host.now() + WAIT_SECONDS, 0
    while (other := _at_work(host, programs)) and host.now() < deadline:
        if other.pid != told:
            on_line(f"waiting for {other.name} (pid {other.pid}), which is at work already")
            told = other.pid
        host.wait(POLL_SECONDS)


def _at_work(host: Reader, programs: Sequence[str]) -> Process | None:
    return next((each for each in processes(host) if each.name in programs and each.state != "Z"), None)
