"""The Writer as the engine uses it: one journaled run, and the rollback of what stands."""

from __future__ import annotations

from gpunode.host.journal import Entry, Journal
from gpunode.host.state import prepare
from gpunode.host.verbs import VERBS
from gpunode.host.verbs.base import Conflict, FileView, Taken
from gpunode.host.writer import Writer
from memory.machine import MemoryMachine


def open_door(machine: MemoryMachine, command: str = "apply") -> Writer:
    """A Writer over a new run of the machine's journal, read from its files as a new process does."""
    prepare(machine)
    journal = Journal(machine)
    journal.begin(command, version="0")
    return Writer(machine, journal)


def standing(journal: Journal) -> list[Entry]:
    """What a rollback takes back, in its order: newest first, the deferred ones last."""
    entries = [entry for record in reversed(journal.runs) for entry in reversed(record.standing)]
    return sorted(entries, key=lambda entry: VERBS[entry.verb].deferred)


def roll_back(machine: MemoryMachine, *, force: bool = False) -> list[Taken]:
    """Take back all that stands, in a run of its own."""
    writer = open_door(machine, "rollback")
    taken = [writer.take_back(entry, force=force) for entry in standing(writer.journal)]
    writer.journal.end("undone")
    return taken


def conflicts(machine: MemoryMachine) -> list[Conflict]:
    """What stands in the way of a rollback of everything, judged before it begins."""
    writer = open_door(machine, "rollback")
    view = FileView()
    judged = [VERBS[entry.verb].conflict(writer.hands, entry.intent, view) for entry in standing(writer.journal)]
    return [conflict for conflict in judged if conflict]
