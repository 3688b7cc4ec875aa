"""Who changed what since a run, as far as the host's own records tell."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import findings_cases as cases
import pytest

from gpunode.engine.results import ChangeResult
from gpunode.engine.since import changes
from gpunode.errors import UsageError
from gpunode.findings.package_log import dpkg_changes, transactions
from memory import MemoryMachine
from memory.command import Answer

NOUVEAU = "/etc/modprobe.d/gpunode-nouveau.conf"


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@pytest.fixture
def machine() -> MemoryMachine:
    return cases.converged().copy()


def since_apply(machine: MemoryMachine) -> list[ChangeResult]:
    return changes(machine, "apply")[1]


def test_nothing_is_told_of_a_host_that_nobody_touched(machine: MemoryMachine) -> None:
    assert changes(machine, "apply") == ("0001", [])


def test_an_upgrade_is_told_with_the_command_and_the_user_who_asked_for_it(machine: MemoryMachine) -> None:
    at = machine.now() + 100
    log = f"{stamp(at)} upgrade nvidia-open:amd64 580.159.04-1 580.178.01-1\n{stamp(at)} upgrade bash:amd64 1 2\n"
    machine.files.lay("/var/log/dpkg.log", f"{stamp(at - 10_000_000)} install nvidia-open:all <none> 1\n{log}")
    call = "Commandline: apt-get upgrade\nRequested-By: jo (1000)\n"
    machine.files.lay("/var/log/apt/history.log", f"\nStart-Date: {stamp(at - 5)}\n{call}End-Date: {stamp(at + 5)}\n")
    [change, rest] = since_apply(machine)
    assert change.who == "apt-get upgrade, asked for by jo (1000)"
    assert change.what == "package nvidia-open: upgrade, 580.159.04-1 → 580.178.01-1"
    assert abs(change.at - at) <= 1
    assert rest.what == "changes of packages that are not gpunode's: 1"


def test_a_package_that_no_apt_call_covers_was_changed_by_hand(machine: MemoryMachine) -> None:
    machine.files.lay("/var/log/dpkg.log.1", f"{stamp(machine.now() + 100)} remove nvidia-open:amd64 1 <none>\n")
    assert [change.who for change in since_apply(machine)] == ["dpkg, called by hand"]


def test_an_edited_file_is_told_with_its_time_and_owner(machine: MemoryMachine) -> None:
    machine.files.lay(NOUVEAU, "# mine\n", mtime=machine.now() + 60)
    [change] = since_apply(machine)
    assert (change.what, change.at, change.source) == (f"{NOUVEAU}: edited", machine.now() + 60, "its mtime")
    assert "uid 0" in change.who


def test_an_edit_from_before_the_run_is_not_told(machine: MemoryMachine) -> None:
    machine.files.lay(NOUVEAU, "# mine\n", mtime=machine.now() - 5000)
    assert since_apply(machine) == []


def test_a_removed_file_is_told(machine: MemoryMachine) -> None:
    machine.files.erase(NOUVEAU)
    folder = NOUVEAU.rpartition("/")[0]  # the kernel notes there when a name goes
    machine.files.nodes[folder] = replace(machine.files.nodes[folder], mtime=machine.now() + 60)
    assert [change.what for change in since_apply(machine)] == [f"{NOUVEAU}: removed, by then"]


def test_what_systemd_did_to_the_units_is_told(machine: MemoryMachine) -> None:
    later, earlier = machine.now() + 50, machine.now() - 5000
    lines = (
        f"{later:.6f} systemd[1]: Stopped containerd.service\n{earlier:.6f} systemd[1]: Started containerd.service\n"
    )
    machine.programs["journalctl"] = lambda _machine, _call: Answer(lines)
    assert [change.what for change in since_apply(machine)] == ["Stopped containerd.service"]


@pytest.mark.parametrize("name", ["9", "yesterday", ""])
def test_a_run_that_is_none_is_refused(machine: MemoryMachine, name: str) -> None:
    with pytest.raises(UsageError, match="no such run"):
        changes(machine, name)


def test_logs_that_hold_something_else_tell_nothing() -> None:
    assert list(dpkg_changes("2026-01-01 00:00:00 status installed a:amd64 1\nrubbish\n")) == []
    assert list(transactions("rubbish\n\nCommandline: apt\n")) == []


def test_a_torn_line_takes_its_own_call_out_and_no_other() -> None:
    whole = "Start-Date: 2026-11-24  10:00:00\nCommandline: apt upgrade\nEnd-Date: 2026-11-2\n"
    [call] = transactions(f"Start-Date: 2026-11-2\n\nStart-Date: 2026-13-45  10:00:00\n\n{whole}")
    assert (call.command, call.ended) == ("apt upgrade", call.began)
    assert list(dpkg_changes("2026-13-45 10:00:00 install a:amd64 <none> 1\n")) == []
