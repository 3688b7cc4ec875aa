"""A package manager that works already is waited for: a killed run's goes on without it."""

from __future__ import annotations

from gpunode.host.packages.at_work import await_others
from gpunode.host.reader import Reader
from memory import MemoryMachine, gpu_host

STAT = "/proc/4711/stat"


def test_who_is_at_work_is_waited_for_and_told_once() -> None:
    machine, lines, waits = gpu_host(), list[str](), list[int]()
    machine.files.lay(STAT, "4711 (apt-get) S 1 2 3")

    def ends(host: MemoryMachine) -> str:
        waits.append(1)
        if len(waits) == 3:
            host.files.erase(STAT)
        return ""

    machine.on_wait = ends
    await_others(Reader(machine), ("apt-get", "dpkg"), lines.append)
    assert lines == ["waiting for apt-get (pid 4711), which is at work already"]
    assert len(waits) == 3


def test_one_that_has_ended_and_others_are_not_waited_for() -> None:
    machine, lines = gpu_host(), list[str]()
    machine.files.lay(STAT, "4711 (apt-get) Z 1 2 3")
    machine.files.lay("/proc/12/stat", "12 (apt-cacher) S 1 2 3")
    await_others(Reader(machine), ("apt-get", "dpkg"), lines.append)
    assert not lines


def test_the_wait_ends_and_leaves_it_to_the_managers_own_lock() -> None:
    machine, began = gpu_host(), gpu_host().now()
    machine.files.lay(STAT, "4711 (dpkg) D 1 2 3")
    await_others(Reader(machine), ("apt-get", "dpkg"), list[str]().append)
    assert 300 <= machine.now() - began < 320
