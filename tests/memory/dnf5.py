"""dnf 5 over the database that `rpm.py` has: as much of it as gpunode uses. What it prints is as dnf 5.4.6 printed it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from memory.command import Answer, Call
from memory.packages import Deb, compare
from memory.rpm import World, remark
from memory.solver import Plan

if TYPE_CHECKING:
    from memory.machine import MemoryMachine

HEADER = "Package                  Arch   Version        Repository      Size\n"


def dnf5(world: World) -> Callable[[MemoryMachine, Call], Answer]:
    """The command; what it has in common with dnf 4 is that one's."""

    def run(machine: MemoryMachine, call: Call) -> Answer:
        verb, *words = call.operands()
        if verb == "do":
            return _do(world, machine, call)
        if verb == "mark":
            return remark(machine, world.archive, words[1:], words[0])
        return world.dnf(machine, call)

    return run


def _do(world: World, machine: MemoryMachine, call: Call) -> Answer:
    plan, again, wanted = world.planned(machine, list(_commands(call.words)))
    if isinstance(plan, str):
        return Answer("", f"Failed to resolve the transaction:\nProblem: {plan}\n", 1)
    if world.silent:
        return Answer("", "Nothing to do.\n")
    if "--assumeno" not in call.words:
        return world.transact(machine, plan, wanted)
    return Answer(HEADER + "".join(_table(plan, again)), "Operation aborted by the user.\n", 1)


def _commands(words: Sequence[str]) -> Iterator[str]:
    found: list[list[str]] = []
    for word in words[words.index("do") + 1 :]:
        if word.startswith("--action="):
            found.append([word.partition("=")[2]])
        elif not word.startswith("-"):
            found[-1].append(word)
    return map(" ".join, found)


def _table(plan: Plan, again: Sequence[Deb]) -> Iterator[str]:
    for deb in plan.unpacked:
        before = plan.before.get(deb.name)
        yield f"{_heading(deb, before)}:\n{_row(deb)}{_row(before, '   replacing ') if before else ''}"
    for name in plan.removed:
        yield f"Removing:\n{_row(plan.before[name])}"
    for deb in again:
        yield f"Reinstalling:\n{_row(deb)}{_row(deb, '   replacing ')}"
    yield "\nTransaction Summary:\n Installing:         1 package\n\n"


def _heading(deb: Deb, before: Deb | None) -> str:
    if before is None:
        return "Installing dependencies"
    return "Upgrading" if compare(deb.version, before.version) > 0 else "Downgrading"


def _row(deb: Deb, start: str = " ") -> str:
    epoch = "" if ":" in deb.version else "0:"
    return f"{start}{deb.name}  x86_64 {epoch}{deb.version} cuda   1.4 KiB\n"
