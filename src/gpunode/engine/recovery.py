"""After a crash: saying what was interrupted, and bringing to an end what must not stay half-done."""

from __future__ import annotations

from gpunode.engine import reboot
from gpunode.host.journal import Entry, Journal, RunRecord
from gpunode.host.packages import manager_named
from gpunode.host.verbs.describe import describe
from gpunode.host.verbs.drain import PASSING
from gpunode.host.verbs.files import temporary_of
from gpunode.host.verbs.packages import repair
from gpunode.host.verbs.refresh import Refresh
from gpunode.host.writer import Writer


def interruption(journal: Journal) -> str:
    """One sentence about the run that was interrupted last, and where; or about what a run that ended left undone; else empty."""
    ways = "`gpunode apply` finishes the job, `gpunode rollback` undoes it"
    runs = journal.interrupted()
    if runs:
        run = runs[-1]
        if reboot.waits(run):
            entry = reboot.awaited(run)
            why = entry.intent["why"] if entry else ""
            return f"run {run.run} (gpunode {run.command}) goes on by itself after a reboot ({why}); `gpunode rollback` undoes it"
        pending = next((entry for entry in reversed(run.entries) if entry.state == "pending"), None)
        where = f" at {pending.verb} for {pending.resource}" if pending else ""
        return f"run {run.run} (gpunode {run.command}) was interrupted{where}: {ways}"
    undone = unfinished_refreshes(journal)
    if undone:
        return f"run {undone[0].run} ended before {undone[0].intent['what']} was made anew: {ways}"
    left = passing(journal)
    return f"run {left[0].run} {describe(left[0])}, and ended before it took that back: {ways}" if left else ""


def recover(host: Writer, *, cut: bool = False) -> list[RunRecord]:
    """Clear away what interrupted runs left in between, finish what earlier runs had to refresh. Returns the interrupted ones.

    `cut` says that the run being written is one of them itself: it goes on after it was cut short.
    """
    runs = host.journal.interrupted()
    if runs or cut:
        entries = [entry for record in host.journal.runs for entry in record.standing]
        for path in {entry.intent["path"] for entry in entries if "path" in entry.intent}:
            host.hands.machine.remove(temporary_of(path))
        for name in sorted({entry.intent["manager"] for entry in entries if "transaction" in entry.intent}):
            repair(manager_named(name), host.hands)
    for entry in unfinished_refreshes(host.journal):
        host.finish(entry)
    for entry in passing(host.journal):
        host.take_back(entry)
    for record in runs:
        reboot.dismiss(host, record)
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
    return [entry for entry in last.values() if entry.state != "done"]


def passing(journal: Journal) -> list[Entry]:
    """What was to last only as long as something else was done, and still stands: newest first."""
    runs = reversed(journal.runs)
    return [entry for record in runs for entry in reversed(record.standing) if entry.verb in PASSING]
