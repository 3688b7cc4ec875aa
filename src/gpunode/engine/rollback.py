"""Rollback: the journal's inverses, newest first. Judged whole before it begins; nobody's edit is lost by it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from gpunode.engine import reboot
from gpunode.engine.apply import require_root
from gpunode.engine.recovery import interruption
from gpunode.engine.results import Report
from gpunode.engine.situation import Situation
from gpunode.engine.verify import clear_leftovers
from gpunode.errors import ConflictError, GpunodeError, UsageError
from gpunode.host import modules, state
from gpunode.host.journal import Entry, Journal, Json
from gpunode.host.verbs import VERBS
from gpunode.host.verbs.base import Conflict, FileView
from gpunode.host.verbs.describe import describe
from gpunode.host.verbs.files import temporary_of
from gpunode.host.verbs.services import (
    AwaitRestart,
    EnableService,
    LoadModule,
    ReloadService,
    RestartService,
    StopService,
    UnloadModule,
)
from gpunode.host.writer import Writer
from gpunode.steps import ORDER


def rollback(situation: Situation, *, to: str | None = None, only: tuple[str, ...] = (), force: bool = False) -> Report:
    """Take back what gpunode did: all of it, or all after run `to`, or only some steps' part.

    Raises ConflictError when somebody's edit would be lost (unless forced: it is kept in the store), UsageError, LockHeldError.
    """
    require_root(situation)
    state.prepare(situation.machine)
    with situation.machine.lock(state.LOCK, situation.note):
        return _rollback(situation, to, only, force)


def preview(situation: Situation, *, to: str | None = None, only: tuple[str, ...] = ()) -> list[Entry]:
    """The entries that a rollback would take back, newest first. Raises UsageError."""
    require_root(situation)
    return chosen(Journal(situation.machine), to, only)


def _rollback(situation: Situation, to: str | None, only: tuple[str, ...], force: bool) -> Report:
    began = time.monotonic()
    journal = Journal(situation.machine)
    entries = chosen(journal, to, only)
    _require_no_dependents(journal, entries, only, force)
    if not entries and not journal.interrupted():
        return Report("rollback", "in-sync", seconds=time.monotonic() - began)
    writer = Writer(situation.machine, journal, situation.network, on_line=situation.listener.line)
    if not force:
        require_no_conflicts(writer, entries)
    interrupted = journal.interrupted()
    run = journal.begin("rollback", version=situation.version, note=situation.note)
    report = Report("rollback", "undone", run=run.run, part=_part(to, only))
    try:
        if interrupted:
            report.left += clear_leftovers(situation)
        take_back(situation, writer, entries, report, force=force)
        for record in interrupted:
            if not record.standing:  # a part that stands still needs what recovery does
                journal.supersede(record)
    except GpunodeError as error:
        report.result, report.error, report.hint, report.details = "failed", error.message, error.hint, error.details
    journal.end(report.result)
    report.interrupted = interruption(journal)
    report.seconds = time.monotonic() - began
    return report


def _part(to: str | None, only: tuple[str, ...]) -> str:
    parts = [f"what came after run {to.zfill(4)}"] if to else []
    return " of ".join([*([f"the part of {', '.join(only)}"] if only else []), *parts])


def chosen(journal: Journal, to: str | None, only: tuple[str, ...]) -> list[Entry]:
    """The entries to take back, newest first. Raises UsageError for a run or step that is none."""
    known = {step.name for step in ORDER}
    for name in only:
        if name not in known:
            raise UsageError(
                f"there is no step {name}", hint=f"the steps are: {', '.join(step.name for step in ORDER)}"
            )
    if to is not None and (not to.isdigit() or journal.run(to) is None):
        runs = ", ".join(record.run for record in journal.runs) or "none"
        raise UsageError(f"there is no run {to}", hint=f"runs: {runs}; see `gpunode history`")
    last_kept = int(to) if to is not None else 0
    return [
        entry
        for record in reversed(journal.runs)
        if int(record.run) > last_kept
        for entry in reversed(record.standing)
        if not only
        or entry.step in only
        or (entry.step == reboot.STEP and record.interrupted)  # it would do the rest again
    ]


def _require_no_dependents(journal: Journal, entries: list[Entry], only: tuple[str, ...], force: bool) -> None:
    """Refuse to pull a step away from under others that stand."""
    if not only or force or not entries:
        return
    done = {entry.step for record in journal.runs for entry in record.standing}
    standing = [step.name for step in ORDER if step.name in done - set(only) and set(step.after) & set(only)]
    if standing:
        raise UsageError(
            f"{', '.join(standing)} stand on {', '.join(only)}",
            hint=f"take them back too: {' '.join(f'--step {name}' for name in standing)}; or --force",
        )


def require_no_conflicts(writer: Writer, entries: list[Entry]) -> None:
    """Raise ConflictError, with every one of them, where taking the entries back would lose somebody's edit."""
    view, found = FileView(), []
    for entry in entries:
        conflict = VERBS[entry.verb].conflict(writer.hands, entry.intent, view)
        if conflict:
            found.append(conflict)
    if found:
        raise _conflict_error(found)


def _conflict_error(found: list[Conflict]) -> ConflictError:
    details = tuple(
        line for conflict in found for line in (f"{conflict.path}: {conflict.why}", *conflict.diff.splitlines())
    )
    names = ", ".join(conflict.path for conflict in found)
    return ConflictError(
        f"edited since by somebody else, and the edit cannot be told from gpunode's own: {names}; nothing was changed",
        hint="settle it in the file, or `gpunode rollback --force` (the edit is kept in gpunode's store)",
        details=details,
    )


def take_back(situation: Situation, writer: Writer, entries: list[Entry], report: Report, *, force: bool) -> None:
    """Take the entries back, newest first, and note in the report what is left. Raises HostError, CommandError."""
    _mark_superseded(entries)
    for path in {entry.intent["path"] for entry in entries if "path" in entry.intent}:
        situation.machine.remove(temporary_of(path))
    for entry in [*(entry for entry in entries if not VERBS[entry.verb].deferred), *_deferred(writer, entries)]:
        taken = writer.take_back(entry, force=force)
        report.left += taken.left
        report.warnings += [taken.note] if taken.note else []
        situation.listener.undone(entry.step, describe(entry), taken.left)


def _deferred(writer: Writer, entries: list[Entry]) -> Iterator[Entry]:
    """Restarts and refreshes, each thing once: the oldest entry speaks for all, the others are noted as undone with it."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if VERBS[entry.verb].deferred:
            groups.setdefault((entry.verb, _derived(entry)), []).append(entry)
    for _, group in sorted(groups.items(), key=lambda item: item[0][0] == AwaitRestart.name):  # once all restart
        reason = _moot(writer, group[-1], entries)
        if not reason:
            yield group[-1]
        for entry in group if reason else group[:-1]:
            writer.journal.undone(entry, reason or "with an older entry of the same")


def _moot(writer: Writer, entry: Entry, entries: list[Entry]) -> str:
    """Why a module or unit is not to run again at the end of the rollback: it did not before an older entry, or is gone by now."""
    name = _derived(entry)
    older = entries[entries.index(entry) + 1 :]
    if entry.verb == UnloadModule.name:
        if any(each.verb == LoadModule.name and each.intent["module"] == name for each in older):
            return "it was not loaded before an older entry"
        return "" if modules.is_available(writer, name) else "it is not installed any more"
    if entry.verb in (StopService.name, RestartService.name, ReloadService.name, AwaitRestart.name) and any(
        each.verb == EnableService.name and each.intent["unit"] == name and not each.intent["active"] for each in older
    ):
        return "it did not run before an older entry"
    return ""


def _mark_superseded(entries: list[Entry]) -> None:
    """Where an older entry takes a package back too, the newer one leaves it alone: versions in between are nobody's wish."""
    oldest: dict[str, Json] = {}
    for entry in reversed(entries):
        for item in entry.intent.get("transaction", []):
            first = oldest.setdefault(item["name"], item)
            item["superseded"] = first is not item
            first["after"] = item["after"]  # what gpunode itself brought it to since is nobody else's doing


def _derived(entry: Entry) -> str:
    """What a deferred entry restarts, starts, loads or makes anew; empty for a reboot, which is of the whole host."""
    return str(next((entry.intent[key] for key in ("unit", "what", "module") if key in entry.intent), ""))
