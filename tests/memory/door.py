"""The Writer as the engine uses it: one journaled run, what was interrupted recovered, and the rollback of what stands."""

from __future__ import annotations

from collections.abc import Callable

from gpunode.engine import rollback as engine
from gpunode.engine.recovery import recover
from gpunode.host.journal import Entry, Journal
from gpunode.host.state import prepare
from gpunode.host.verbs import VERBS
from gpunode.host.verbs.base import Conflict, FileView, Taken
from gpunode.host.verbs.files import temporary_of
from gpunode.host.writer import Writer
from memory.machine import MemoryMachine


def open_door(machine: MemoryMachine, command: str = "apply") -> Writer:
    """A Writer over a new run of the machine's journal, read from its files as a new process does."""
    prepare(machine)
    journal = Journal(machine)
    journal.begin(command, version="0")
    return Writer(machine, journal)


def apply(machine: MemoryMachine, act: Callable[[Writer], object]) -> Writer:
    """One whole run: recover what was interrupted, act, end."""
    writer = open_door(machine)
    interrupted = recover(writer)
    act(writer)
    for record in interrupted:
        writer.journal.supersede(record)
    writer.journal.end("changed")
    return writer


def standing(journal: Journal) -> list[Entry]:
    """All that stands, newest first."""
    return [entry for record in reversed(journal.runs) for entry in reversed(record.standing)]


def roll_back(machine: MemoryMachine, *, force: bool = False) -> list[Taken]:
    """Take back all that stands in the engine's own order, in a run of its own."""
    writer = open_door(machine, "rollback")
    interrupted = writer.journal.interrupted()
    entries = standing(writer.journal)
    engine._mark_superseded(entries)
    for path in sorted({entry.intent["path"] for entry in entries if "path" in entry.intent}):
        machine.remove(temporary_of(path))
    at_once = [entry for entry in entries if not VERBS[entry.verb].deferred]
    taken = [writer.take_back(entry, force=force) for entry in at_once]
    taken += [writer.take_back(entry, force=force) for entry in engine._deferred(writer, entries)]
    for record in interrupted:
        writer.journal.supersede(record)
    writer.journal.end("undone")
    return taken


def conflicts(machine: MemoryMachine) -> list[Conflict]:
    """What stands in the way of a rollback of everything, judged before it begins."""
    writer = open_door(machine, "rollback")
    view = FileView()
    judged = [VERBS[entry.verb].conflict(writer.hands, entry.intent, view) for entry in standing(writer.journal)]
    return [conflict for conflict in judged if conflict]
