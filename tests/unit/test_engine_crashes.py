"""A full apply and a full rollback, killed at every side effect: apply then finishes the job, and rollback undoes it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from gpunode.engine.apply import apply
from gpunode.engine.check import check
from gpunode.engine.results import Report
from gpunode.engine.rollback import rollback
from gpunode.engine.situation import Situation
from gpunode.profile import load
from gpunode.steps import select
from memory import Crash, MemoryMachine, gpu_host
from memory.crash import Moment
from memory.snapshot import changes, snapshot

pytestmark = pytest.mark.slow

PROFILE = b'[driver]\nbranch = "580"\n[cuda]\nversion = "13.0"\n'
OLD_LIST = "deb https://nvidia.github.io/libnvidia-container/stable/deb/amd64 /\n"
Point = tuple[int, Moment]
SAMPLE = 25
"""Every so many points in the fast suite."""


def situation(machine: MemoryMachine) -> Situation:
    # What verify runs it takes away again: it is tried in the lab.
    return Situation(machine, load(PROFILE, "profile.toml").profile, select(skip=("verify",)), "0", note="test")


def run_apply(machine: MemoryMachine) -> Report:
    return apply(situation(machine), lambda _plan: True)


def run_rollback(machine: MemoryMachine) -> Report:
    return rollback(situation(machine))


@cache
def _fresh() -> MemoryMachine:
    """A host that somebody has used before: an old list by the 2020 tutorial, a config.toml with a comment."""
    machine = gpu_host()
    machine.files.lay("/etc/apt/sources.list.d/nvidia-container-runtime.list", OLD_LIST)
    machine.files.lay("/etc/containerd/config.toml", "# ours\n" + machine.files.text("/etc/containerd/config.toml"))
    machine.run(["systemctl", "restart", "containerd.service"])
    machine.effects.restart()
    return machine


@cache
def _applied() -> MemoryMachine:
    machine = _fresh().copy()
    report = run_apply(machine)
    assert (report.result, report.error) == ("changed", "")
    machine.effects.restart()
    return machine


def points(run: Callable[[MemoryMachine], Report], machine: MemoryMachine) -> list[Point]:
    """Where a whole run can be killed."""
    whole = machine.copy()
    whole.effects.restart()
    run(whole)
    return whole.effects.points()


def killed(run: Callable[[MemoryMachine], Report], machine: MemoryMachine, point: Point) -> MemoryMachine:
    """A host on which a run was killed there."""
    victim = machine.copy()
    victim.effects.crash_at(*point)
    with pytest.raises(Crash):
        run(victim)
    victim.effects.restart()
    return victim


def require_in_sync(machine: MemoryMachine, where: str) -> None:
    report = run_apply(machine)
    assert report.result in ("changed", "in-sync"), f"{where}: {report.error} {report.details}"
    again = check(situation(machine))
    assert (again.result, again.interrupted) == ("in-sync", ""), f"{where}: {again.steps}"


def require_as_before(machine: MemoryMachine, where: str) -> None:
    report = run_rollback(machine)
    assert report.result in ("undone", "in-sync"), f"{where}: {report.error} {report.details}"
    assert not changes(snapshot(_fresh()), snapshot(machine)), where


def require_both(victim: MemoryMachine, where: str) -> None:
    """Rollback undoes it; apply finishes it, and a rollback after that undoes it too."""
    require_as_before(victim.copy(), f"{where}, then rollback")
    finished = victim.copy()
    require_in_sync(finished, f"{where}, then apply")
    require_as_before(finished, f"{where}, then apply and rollback")


def sweep(run: Callable[[MemoryMachine], Report], machine: MemoryMachine, step: int) -> int:
    chosen = points(run, machine)[::step]
    for point in chosen:
        require_both(killed(run, machine, point), f"{run.__name__} killed {point[1]} effect {point[0]}")
    return len(chosen)


@pytest.mark.parametrize("step", [SAMPLE, pytest.param(1, marks=pytest.mark.slow)])
def test_an_apply_killed_at_any_effect_is_finished_or_undone(step: int) -> None:
    count = sweep(run_apply, _fresh(), step)
    print(f"apply: killed at {count} points")
    assert count > 200 // step


@pytest.mark.parametrize("step", [SAMPLE, pytest.param(1, marks=pytest.mark.slow)])
def test_a_rollback_killed_at_any_effect_is_finished_or_made_good(step: int) -> None:
    count = sweep(run_rollback, _applied(), step)
    print(f"rollback: killed at {count} points")
    assert count > 100 // step


def test_the_next_command_says_what_was_interrupted_and_where() -> None:
    victim = killed(run_apply, _fresh(), (60, "before"))
    told = check(situation(victim)).interrupted
    assert told.startswith("run 0001 (gpunode apply) was interrupted at ")
    assert told.endswith("`gpunode apply` finishes the job, `gpunode rollback` undoes it")
    run_apply(victim)
    assert check(situation(victim)).interrupted == ""


def test_a_second_apply_does_nothing_at_all() -> None:
    machine = _applied().copy()
    report = run_apply(machine)
    assert report.result == "in-sync"
    assert machine.effects.count == 0
