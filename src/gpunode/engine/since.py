"""Who changed what since a run: as far as dpkg's and apt's logs, the files' times, systemd's log and gpunode's journal tell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime

from gpunode.engine.results import ChangeResult
from gpunode.errors import UsageError
from gpunode.findings.history import APT_LOG
from gpunode.findings.package_log import DPKG_LOG, Transaction, dpkg_changes, transactions
from gpunode.findings.reading import known, text
from gpunode.host.journal import Entry, Journal, RunRecord
from gpunode.host.kernel_log import unit_lines
from gpunode.host.machine import Machine
from gpunode.host.reader import Reader

LAST_APPLY = "apply"
ROTATED = ("", ".1")
"""A log, and the one before it; older ones are compressed, and are not read."""
SLACK = 1.0
"""Seconds: the logs tell no fractions."""


def changes(machine: Machine, since: str) -> tuple[str, list[ChangeResult]]:
    """The run that is meant, and what was changed after it of what gpunode has brought here, oldest first.

    `since` is a run's number, or `apply` for the last apply. Raises UsageError for a run that is none, and for anybody but root.
    """
    if machine.effective_uid() != 0:
        raise UsageError("--since reads the journal, which is root's alone", hint="run it with sudo")
    journal, host = Journal(machine), Reader(machine)
    record = _meant(journal, since)
    after = record.ended_at if record.ended_at is not None else record.at
    standing = [entry for run in journal.runs for entry in run.standing]
    calls = [call for suffix in ROTATED for call in transactions(text(host, f"{APT_LOG}{suffix}"))]
    found = [
        *_runs(journal, record, after),
        *_packages(host, standing, calls, after),
        *_files(host, standing, calls, after),
        *_units(host, standing, after),
    ]
    return record.run, sorted(found, key=lambda change: change.at)


def _meant(journal: Journal, since: str) -> RunRecord:
    if since == LAST_APPLY:
        record = next((run for run in reversed(journal.runs) if run.command == "apply"), None)
    else:
        record = journal.run(since) if since.isdigit() else None
    if record is None:
        runs = ", ".join(run.run for run in journal.runs) or "none"
        raise UsageError(f"--since {since}: there is no such run", hint=f"`apply` is the last apply; runs: {runs}")
    return record


def _runs(journal: Journal, record: RunRecord, after: float) -> Iterator[ChangeResult]:
    for run in journal.runs:
        if int(run.run) > int(record.run):
            what = f"gpunode {run.command}: {run.result or 'not ended'}, {len(run.entries)} changes"
            yield ChangeResult(max(run.at, after), f"run {run.run}", what, "gpunode history")


def _packages(host: Reader, standing: list[Entry], calls: list[Transaction], after: float) -> Iterator[ChangeResult]:
    """Changes of packages that gpunode brought or holds; those of others in one line."""
    own = {item["name"] for entry in standing for item in entry.intent.get("transaction", [])}
    own |= {name for entry in standing if entry.verb == "hold-packages" for name in entry.intent["names"]}
    others: list[float] = []
    for suffix in ROTATED:
        for each in dpkg_changes(text(host, f"{DPKG_LOG}{suffix}")):
            if each.at <= after + SLACK:
                continue
            if each.name not in own:
                others.append(each.at)
                continue
            what = f"package {each.name}: {each.verb}, {each.before} → {each.after}"
            yield ChangeResult(each.at, _who(calls, each.at) or "dpkg, called by hand", what, f"{DPKG_LOG}{suffix}")
    if others:
        yield ChangeResult(max(others), "", f"changes of packages that are not gpunode's: {len(others)}", DPKG_LOG)


def _files(host: Reader, standing: list[Entry], calls: list[Transaction], after: float) -> Iterator[ChangeResult]:
    """Files that are not as gpunode wrote them last, and were changed since. A file's time says when; by whom, at most whose it is."""
    written = {entry.intent["path"]: entry.intent["after"] for entry in standing if entry.verb == "write-file"}
    for path, image in written.items():
        stat, content = known(None, host.lstat, path), known(None, host.read, path)
        if stat is None or content is None:
            folder = known(None, host.lstat, path.rpartition("/")[0])
            if folder and folder.mtime > after:
                yield ChangeResult(
                    folder.mtime, _who(calls, folder.mtime), f"{path}: removed, by then", "its folder's mtime"
                )
        elif stat.mtime > after and hashlib.sha256(content).hexdigest() != image["sha"]:
            who = _who(calls, stat.mtime) or f"not a package manager; it belongs to uid {stat.uid}"
            yield ChangeResult(stat.mtime, who, f"{path}: edited", "its mtime")


def _units(host: Reader, standing: list[Entry], after: float) -> Iterator[ChangeResult]:
    """What systemd logged of units that gpunode has enabled or restarted: stopped, started, failed."""
    units = list(dict.fromkeys(str(entry.intent["unit"]) for entry in standing if entry.intent.get("unit")))
    for line in unit_lines(host, units) or ():
        if line.when is not None and line.when > after + SLACK and line.program == "systemd":
            yield ChangeResult(line.when, "systemd", line.text, "journalctl --unit")


def _who(calls: list[Transaction], at: float) -> str:
    """The call of apt in which a moment falls; empty where it falls in none."""
    return next((call.who for call in calls if call.began - SLACK <= at <= call.ended + SLACK), "")


def when(change: ChangeResult) -> str:
    """The moment, in the host's time zone."""
    return datetime.fromtimestamp(change.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
