"""The journal: torn lines passed over, damage refused, runs numbered whatever the clock does."""

from __future__ import annotations

import json

import pytest

from gpunode.errors import HostError
from gpunode.host.journal import Journal, RunRecord, path_of
from gpunode.host.state import prepare
from memory import MemoryMachine, bare_host


def host() -> MemoryMachine:
    machine = bare_host()
    prepare(machine)
    return machine


def written(machine: MemoryMachine, *, ended: bool = True) -> Journal:
    """A run of three entries: done, failed, pending."""
    journal = Journal(machine)
    journal.begin("apply", version="1", note="by hand")
    entries = [
        journal.intend(step="driver", resource=f"file:/{number}", verb="write-file", intent={"path": f"/{number}"})
        for number in range(3)
    ]
    journal.outcome(entries[0], "done")
    journal.outcome(entries[1], "failed", "no space")
    if ended:
        journal.end("failed")
    return journal


def only_run(machine: MemoryMachine) -> RunRecord:
    (record,) = Journal(machine).runs
    return record


def test_what_was_written_is_read_again() -> None:
    machine = host()
    journal = written(machine)
    assert Journal(machine).runs == journal.runs
    record = only_run(machine)
    assert [entry.state for entry in record.entries] == ["done", "failed", "pending"]
    assert (record.command, record.note, record.result, record.interrupted) == ("apply", "by hand", "failed", False)
    assert record.entries[1].note == "no space"


def test_a_line_torn_at_any_byte_takes_only_itself_away() -> None:
    machine = host()
    written(machine)
    whole = machine.read(path_of("0001"))
    lines = [line for line in whole.split(b"\n") if line]
    for length in range(len(whole)):
        machine.files.lay(path_of("0001"), whole[:length])
        complete = sum(whole.find(line) + len(line) <= length for line in lines)
        records = Journal(machine).runs
        assert len(records) == (complete > 0)
        if records:
            intends = sum(json.loads(line)["t"] == "intend" for line in lines[:complete])
            assert len(records[0].entries) == intends
            assert records[0].interrupted is (complete < len(lines))


def test_after_a_torn_line_the_next_is_read() -> None:
    machine = host()
    written(machine, ended=False)
    torn = machine.read(path_of("0001"))[:-9]
    machine.files.lay(path_of("0001"), torn)
    journal = Journal(machine)
    journal.begin("rollback", version="1")
    journal.undone(journal.runs[0].entries[0], "restored")
    assert Journal(machine).runs[0].entries[0].undone_by == "0002"
    assert [entry.seq for entry in Journal(machine).runs[0].standing] == [2, 3]


def test_a_run_whose_first_line_was_torn_never_was() -> None:
    machine = host()
    machine.files.lay(path_of("0001"), '\n{"t":"run","run":"00')
    journal = Journal(machine)
    assert not journal.runs
    journal.begin("apply", version="1")
    assert only_run(machine).run == "0001"


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_intention_in_the_middle_is_refused(lost: int) -> None:
    machine = host()
    written(machine)
    lines = machine.read(path_of("0001")).split(b"\n")
    kept = [line for line in lines if f'"intend","seq":{lost}'.encode() not in line]
    machine.files.lay(path_of("0001"), b"\n".join(kept))
    with pytest.raises(HostError, match=r"0001\.jsonl line \d+ does not follow .* the file is damaged"):
        Journal(machine)


@pytest.mark.parametrize("line", ["[1, 2]", "17", "{}", '{"t":"intend","seq":4}', '{"t":"outcome","seq":0}'])
def test_a_line_that_is_no_event_is_told_without_a_traceback(line: str) -> None:
    machine = host()
    written(machine)
    machine.files.lay(path_of("0001"), machine.files.text(path_of("0001")) + f"{line}\n")
    with pytest.raises(HostError, match="damaged"):
        Journal(machine)


def test_zeros_at_the_end_are_passed_over() -> None:
    machine = host()
    written(machine)
    machine.files.lay(path_of("0001"), machine.read(path_of("0001")) + b"\0" * 100)
    assert len(only_run(machine).entries) == 3


def test_runs_are_numbered_whatever_the_clock_does() -> None:
    machine = host()
    for _ in range(3):
        journal = Journal(machine)
        journal.begin("apply", version="1")
        journal.end("changed")
        machine.set_clock(machine.now() - 1e9)
    assert [record.run for record in Journal(machine).runs] == ["0001", "0002", "0003"]
    assert Journal(machine).run("2") is not None
    assert Journal(machine).run("9") is None


def test_the_ten_thousandth_run_comes_last() -> None:
    machine = host()
    for name in ("9999", "10000"):
        machine.files.lay(path_of(name), f'\n{{"t":"run","run":"{name}","command":"apply","at":1.0}}\n')
    assert [record.run for record in Journal(machine).runs] == ["9999", "10000"]


def test_another_file_among_the_runs_is_no_run() -> None:
    machine = host()
    written(machine)
    machine.files.lay(path_of("0001 (copy)"), machine.read(path_of("0001")))
    assert Journal(machine).begin("apply", version="1").run == "0002"


def test_an_interrupted_run_counts_until_a_later_one_finished_it() -> None:
    machine = host()
    written(machine, ended=False)
    journal = Journal(machine)
    assert [record.run for record in journal.interrupted()] == ["0001"]
    journal.begin("apply", version="1")
    assert [record.run for record in journal.interrupted()] == ["0001"], "the one being written is not interrupted"
    journal.supersede(journal.runs[0])
    assert not journal.interrupted()
    journal.end("changed")
    assert not Journal(machine).interrupted()


def test_the_note_survives_any_text() -> None:
    machine = host()
    journal = Journal(machine)
    journal.begin("apply", version="1", note='line\nbreak " \u2028 \ud800')
    journal.end("changed")
    assert only_run(machine).note == 'line\nbreak " \u2028 \ud800'
