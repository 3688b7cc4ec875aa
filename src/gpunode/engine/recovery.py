"""After a crash: saying what was interrupted, and bringing to an end what must not stay half-done."""

from __future__ import annotations

from gpunode.host.journal import Entry, Journal, RunRecord
from gpunode.host.packages import manager_named
from gpunode.host.verbs.files import temporary_of
from gpunode.host.verbs.packages import repair
from gpunode.host.verbs.refresh import Refresh
from gpunode.host.writer import Writer


def interruption(journal: Journal) -> str:
    """One sentence about the run that was interrupted last, and where; or about a refresh that a run left undone; else empty."""
    ways = "`gpunode apply` finishes the job, `gpunode rollback` undoes it"
    runs = journal.interrupted()
    if runs:
        run = runs[-1]
        pending = next((entry for entry in reversed(run.entries) if entry.state == "pending"), None)
        where = f" at {pending.verb} for {pending.resource}" if pending else ""
        return f"run {run.run} (gpunode {run.command}) was interrupted{where}: {ways}"
    undone = unfinished_refreshes(journal)
    return f"run {undone[0].run} ended before {undone[0].intent['what']} was made anew: {ways}" if undone else ""


def recover(host: Writer) -> list[RunRecord]:
    """Clear away what interrupted runs left in between, finish what earlier runs had to refresh. Returns the interrupted ones."""
    runs = host.journal.interrupted()
    if runs:
        entries = [entry for record in host.journal.runs for entry in record.standing]
        for path in {entry.intent["path"] for entry in entries if "path" in entry.intent}:
            host.hands.machine.remove(temporary_of(path))
        for name in sorted({entry.intent["manager"] for entry in entries if "transaction" in entry.intent}):
            repair(manager_named(name), host.hands)
    for entry in unfinished_refreshes(host.journal):
        host.finish(entry)
    return runs


def unfinished_refreshes(journal: Journal) -> list[Entry]:
    """What earlier runs recorded to make anew and did not, and no later one did: each thing once.

    Indices of package sources are left out: their resources see by themselves that they are missing.
    """
    last: dict[str, Entry] = {}
    for record in journal.runs:
        for entry in record.standing:
            if entry.verb == Refresh.name and not entry.intent["what"].startswith("lists:"):
                last[entry.intent["what"]] = entry
    return [entry for entry in last.values() if entry.state != "done" and entry.run != _current(journal)]


def _current(journal: Journal) -> str:
    return journal.current.run if journal.current else ""
