"""The journal as a person reads it: all runs, or what one of them did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from gpunode.engine.reboot import waits
from gpunode.host.journal import Entry, RunRecord
from gpunode.host.verbs.describe import describe
from gpunode.report.page import Cell, Page
from gpunode.report.words import duration

_RESULT_STYLES = {
    "failed": "red",
    "interrupted": "bold yellow",
    "not-verified": "red",
    "reboot-required": "yellow",
    "waits for a reboot": "yellow",
}


def history(page: Page, runs: Sequence[RunRecord]) -> None:
    """Every run, oldest first: when, what for, how it ended, and how many of its changes stand."""
    if not runs:
        page.line("gpunode has changed nothing on this host.")
        return
    page.grid([_run_row(run) for run in runs], head=("run", "when", "command", "result", "took", "changes", "note"))


def _run_row(run: RunRecord) -> list[Cell]:
    took = duration(run.ended_at - run.at) if run.ended_at is not None else ""
    result = _result(run)
    return [
        run.run,
        _when(run.at),
        run.command,
        (result, _RESULT_STYLES.get(result, "")),
        took,
        _standing(run),
        run.note,
    ]


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _result(run: RunRecord) -> str:
    if waits(run):
        return "waits for a reboot"
    if run.interrupted:
        return "interrupted"
    return run.result or f"settled by {run.superseded_by}"


def _standing(run: RunRecord) -> str:
    total, standing = len(run.entries), len(run.standing)
    if not total:
        return "none"
    if standing == total:
        return str(total)
    return f"{total}, taken back" if not standing else f"{total}, {standing} standing"


def history_run(page: Page, run: RunRecord) -> None:
    """What one run did, in order, and what became of each change."""
    dot = f" {page.symbols.dot} "
    facts = [f"run {run.run}", run.command, _when(run.at), _result(run)]
    facts += [f"gpunode {run.version}"] if run.version else []
    page.prose(dot.join(facts[1:]), lead=(facts[0] + dot, "bold"))
    if run.note:
        page.prose(run.note, "dim")
    page.line()
    if not run.entries:
        page.line("It changed nothing.")
        return
    page.grid([_entry_row(page, entry) for entry in run.entries])
    failures = [entry for entry in run.entries if entry.note]
    if failures:
        page.line()
    for entry in failures:
        page.prose(entry.note, "dim", lead=(f"{entry.seq}: ", "dim"))


def _entry_row(page: Page, entry: Entry) -> list[Cell]:
    state, style = _entry_state(entry)
    return [(str(entry.seq), "dim"), entry.step, describe(entry, arrow=page.symbols.arrow), (state, style)]


def _entry_state(entry: Entry) -> tuple[str, str]:
    if entry.undone_by:
        return f"taken back by {entry.undone_by}", "dim"
    states = {"done": ("", ""), "failed": ("failed", "red"), "pending": ("not known how it ended", "bold yellow")}
    return states[entry.state]
