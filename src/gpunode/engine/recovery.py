"""After a crash: saying what was interrupted, and bringing to an end what must not stay half-done."""

from __future__ import annotations

from gpunode.host.journal import Entry, Journal, RunRecord
from gpunode.host.packages import manager_named
from gpunode.host.verbs.files import temporary_of
from gpunode.host.verbs.refresh import Refresh
from gpunode.host.writer import Writer


def interruption(journal: Journal) -> str:
    """One sentence about the run that was interrupted last, and where; empty when none was."""
    runs = journal.interrupted()
    if not runs:
        return ""
    run = runs[-1]
    pending = next((entry for entry in reversed(run.entries) if entry.state == "pending"), None)
    where = f" at {pending.verb} for {pending.resource}" if pending else ""
    return f"run {run.run} (gpunode {run.command}) was interrupted{where}: `gpunode apply` finishes the job, `gpunode rollback` undoes it"


def recover(host: Writer) -> list[RunRecord]:
    """Clear away what interrupted runs left in between, finish what they had to refresh. Returns those runs."""
    runs = host.journal.interrupted()
    if not runs:
        return []
    entries = [entry for record in host.journal.runs for entry in record.standing]
    for path in {entry.intent["path"] for entry in entries if "path" in entry.intent}:
        host.hands.machine.remove(temporary_of(path))
    for name in sorted({entry.intent["manager"] for entry in entries if "transaction" in entry.intent}):
        manager_named(name).repair(host.hands.machine, host, host.hands.on_line)
    host.forget()
    for entry in _unfinished_refreshes(runs):
        host.finish(entry)
    return runs


def _unfinished_refreshes(runs: list[RunRecord]) -> list[Entry]:
    """Each thing once, however often it was to be made anew."""
    entries = [entry for run in runs for entry in run.standing if entry.verb == Refresh.name and entry.state != "done"]
    return list({entry.intent["what"]: entry for entry in entries}.values())
