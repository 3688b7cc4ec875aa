"""The journal: what gpunode is about to do and how to undo it, on the disk before it is done.

One file a run, `runs/<RUN>.jsonl`, one JSON object a line, only ever appended to, each append fsynced:

    {"t": "run", "run": …, "command": "apply", "at": …, "version": …, "note": …}      the first line
    {"t": "intend", "seq": 7, "step": …, "resource": …, "verb": …, "intent": {…}}     before acting: the inverse is in `intent`
    {"t": "outcome", "seq": 7, "state": "done" | "failed", "note": …}                 after acting
    {"t": "aside", "seq": 7, "data": {…}}                                             an undo notes what it will not know later
    {"t": "undone", "seq": 7, "by": RUN, "note": …}                                   a rollback took it back
    {"t": "end", "result": …, "at": …}                                                the run came to its end
    {"t": "superseded", "by": RUN}                                                    interrupted, and a later run finished the job

A line that a crash tore is the last one, and is passed over: nothing was done on the strength of a line not fully written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gpunode.errors import HostError
from gpunode.host.machine import Machine
from gpunode.host.state import RUNS

if TYPE_CHECKING:
    from gpunode.host.reader import Reader

State = Literal["pending", "done", "failed"]
Json = dict[str, Any]


@dataclass
class Entry:
    """One recorded intention. `pending` means that nothing is known of how it ended: it may have happened, or in part, or not."""

    run: str
    seq: int
    step: str
    resource: str
    verb: str
    intent: Json
    state: State = "pending"
    note: str = ""
    undone_by: str = ""


@dataclass
class RunRecord:
    """A run as its journal file tells it."""

    run: str
    command: str
    at: float
    note: str = ""
    version: str = ""
    entries: list[Entry] = field(default_factory=list)
    result: str = ""
    ended_at: float | None = None
    superseded_by: str = ""

    @property
    def interrupted(self) -> bool:
        """True when the run neither came to its end nor was finished by a later one."""
        return not self.result and not self.superseded_by

    @property
    def standing(self) -> list[Entry]:
        """Entries that have not been taken back."""
        return [entry for entry in self.entries if not entry.undone_by]


class Journal:
    """All runs of a host, and the one being written, if any."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._runs = {record.run: record for record in _load(machine)}
        self.current: RunRecord | None = None

    @property
    def runs(self) -> list[RunRecord]:
        """Every run, oldest first."""
        return sorted(self._runs.values(), key=lambda record: int(record.run))

    def run(self, name: str) -> RunRecord | None:
        """The run of that number, leading zeros or not; None when there is none."""
        return self._runs.get(name.zfill(4))

    def interrupted(self) -> list[RunRecord]:
        """Runs that a crash, a kill or a power cut ended, oldest first."""
        return [record for record in self.runs if record.interrupted and record is not self.current]

    def begin(self, command: str, *, version: str, note: str = "") -> RunRecord:
        """Open a run's file. Runs are numbered, so that they sort as they happened whatever the clock does."""
        now = self._machine.now()
        name = f"{max((int(run) for run in self._runs), default=0) + 1:04d}"
        record = RunRecord(run=name, command=command, at=now, note=note, version=version)
        self._runs[record.run] = self.current = record
        self._append(
            record, {"t": "run", "run": record.run, "command": command, "at": now, "version": version, "note": note}
        )
        return record

    def intend(self, *, step: str, resource: str, verb: str, intent: Json) -> Entry:
        """Record what is about to be done, with its inverse. Returns once the disk has it."""
        record = self._writing()
        entry = Entry(record.run, len(record.entries) + 1, step, resource, verb, intent)
        line = {"t": "intend", "seq": entry.seq, "step": step, "resource": resource, "verb": verb, "intent": intent}
        self._append(record, line)
        record.entries.append(entry)
        return entry

    def outcome(self, entry: Entry, state: Literal["done", "failed"], note: str = "") -> None:
        """Record how an intention ended."""
        entry.state, entry.note = state, note
        self._append(
            self._runs[entry.run],
            {"t": "outcome", "seq": entry.seq, "state": state, **({"note": note} if note else {})},
        )

    def aside(self, entry: Entry, data: Json) -> None:
        """Add to an entry's intent what its undo has found out and would not find again after a crash."""
        entry.intent.update(data)
        self._append(self._runs[entry.run], {"t": "aside", "seq": entry.seq, "data": data})

    def undone(self, entry: Entry, note: str = "") -> None:
        """Record that an entry was taken back by the run being written."""
        entry.undone_by = self._writing().run
        line: Json = {"t": "undone", "seq": entry.seq, "by": entry.undone_by}
        self._append(self._runs[entry.run], {**line, "note": note} if note else line)

    def end(self, result: str) -> None:
        """Close the run being written."""
        record = self._writing()
        record.result, record.ended_at = result, self._machine.now()
        self._append(record, {"t": "end", "result": result, "at": record.ended_at})
        self.current = None

    def supersede(self, record: RunRecord) -> None:
        """Note that the run being written finished, or took back, what an interrupted one had begun."""
        record.superseded_by = self._writing().run
        self._append(record, {"t": "superseded", "by": record.superseded_by})

    def _writing(self) -> RunRecord:
        if self.current is None:
            raise AssertionError("no run has been begun")
        return self.current

    def _append(self, record: RunRecord, line: Json) -> None:
        text = json.dumps(line, separators=(",", ":"), ensure_ascii=True)
        # The newline comes first: should a crash have torn the last line, this one still begins a line of its own.
        self._machine.append_durably(path_of(record.run), f"\n{text}\n".encode())


def loaded_by(reader: Reader, unit: str, started: float) -> str:
    """The digest of the configuration that a unit's running process, begun at `started`, has read, where gpunode started it.

    Empty when somebody else did, or when the journal cannot be read: it is root's.
    """
    try:
        runs = list(_load(reader))
    except HostError:
        return ""
    for entry in (entry for record in runs for entry in record.entries):
        intent = entry.intent
        if intent.get("unit") == unit and intent.get("started") == started and "loaded" in intent:
            return str(intent["loaded"])
    return ""


def path_of(run: str) -> str:
    """The journal file of a run."""
    return f"{RUNS}/{run}.jsonl"


def _load(files: Machine | Reader) -> Iterator[RunRecord]:
    for name in files.listdir(RUNS):
        if name.removesuffix(".jsonl").isdigit():
            record = _parse(name.removesuffix(".jsonl"), _content(files, f"{RUNS}/{name}"))
            if record is not None:
                yield record


def _content(files: Machine | Reader, path: str) -> bytes:
    try:
        return files.read(path) or b""
    except OSError as error:
        wrong = f"the journal {path} cannot be read: {error.strerror or error}"
        raise HostError(wrong, hint="see `dmesg` for the disk; nothing was changed") from None


def _parse(run: str, content: bytes) -> RunRecord | None:
    """Read one journal file. None for a file whose first line was torn: nothing had been done. Raises HostError on damage."""
    record: RunRecord | None = None
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            event = json.loads(line or b"null")
        except ValueError:
            if line.strip(b"\0")[:1] in (b"", b"{"):  # torn by a crash: whatever it was to say had not been done
                continue
            raise _damaged(run, number) from None
        if event is None:
            continue
        try:
            if event["t"] == "run":
                record = RunRecord(run, event["command"], event["at"], event.get("note", ""), event.get("version", ""))
            elif record is not None:
                _take(record, event)
        except (TypeError, KeyError, IndexError):
            raise _damaged(run, number) from None
    return record


def _damaged(run: str, number: int) -> HostError:
    return HostError(
        f"{path_of(run)} line {number} does not follow from the lines before it: the file is damaged",
        hint="restore it from a backup; nothing was changed",
    )


def _take(record: RunRecord, event: Json) -> None:
    """Add one event. Raises IndexError or KeyError when it does not follow from those before it."""
    kind = event["t"]
    if kind == "intend":
        fields = (event[key] for key in ("seq", "step", "resource", "verb", "intent"))
        if event["seq"] == len(record.entries) and record.entries[-1].state == "pending":
            record.entries.pop()  # it reached the disk though writing it failed: nothing was done on it, and this one came instead
        record.entries.append(Entry(record.run, *fields))
        if event["seq"] != len(record.entries):
            raise IndexError(event["seq"])
    elif kind == "outcome":
        entry = _entry(record, event["seq"])
        entry.state, entry.note = event["state"], event.get("note", "")
    elif kind == "aside":
        _entry(record, event["seq"]).intent.update(event["data"])
    elif kind == "undone":
        _entry(record, event["seq"]).undone_by = event["by"]
    elif kind == "end":
        record.result, record.ended_at = event["result"], event["at"]
    elif kind == "superseded":
        record.superseded_by = event["by"]


def _entry(record: RunRecord, seq: int) -> Entry:
    if seq < 1:
        raise IndexError(seq)
    return record.entries[seq - 1]
