"""A look at a host on which something hangs: it ends in its time, says what does not answer, and asks that once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_check_cost import converged

from gpunode.engine import deadline
from gpunode.engine.check import check
from gpunode.engine.results import Report
from gpunode.engine.situation import Situation
from gpunode.errors import GpunodeError, HostError
from gpunode.host.local import LocalMachine
from gpunode.host.reader import Reader
from gpunode.profile import HostProfile
from gpunode.steps import ORDER
from memory import gpu_host

# A pipe that nobody writes to stands for a file on a mount that hangs: opening it blocks in the kernel for ever.
HANGING = """
import sys
from types import SimpleNamespace
from gpunode.engine import deadline
from gpunode.errors import HostError
from gpunode.host.local import LocalMachine
deadline.SECONDS = 0.3
machine = LocalMachine()
try:
    deadline.in_time(lambda situation: situation.machine.read(sys.argv[1]))(SimpleNamespace(machine=machine))
except HostError as error:
    print(error.message)
"""


def test_a_file_that_hangs_its_reader_is_named_and_the_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "hangs"
    os.mkfifo(path)
    done = subprocess.run([sys.executable, "-c", HANGING, path], capture_output=True, text=True, timeout=10, check=True)
    assert done.stdout == f"the look at this host did not end: {path} does not answer in 0.3 s\n"


def test_a_command_may_take_longer_than_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "SECONDS", 0.1)
    (tmp_path / "file").write_text("")

    def look(situation: Situation) -> Report:
        situation.machine.read(str(tmp_path / "file"))
        situation.machine.run(["sleep", "0.3"])
        return Report("check", "in-sync")

    assert deadline.in_time(look)(Situation(LocalMachine(), HostProfile(), ORDER, "0")).result == "in-sync"


def test_what_a_look_raises_is_raised() -> None:
    situation = converged()
    situation.machine.identity.os_release = {"id": "plan9"}  # type: ignore[attr-defined]  # memory's own
    with pytest.raises(GpunodeError):
        check(situation)


def test_what_did_not_answer_is_not_asked_again() -> None:
    machine = gpu_host()
    machine.hangs.add("systemctl")
    reader = Reader(machine)
    for _ in range(3):
        with pytest.raises(HostError, match="did not answer in 30 s"):
            reader.query(["systemctl", "show", "a.service"])
    assert len(machine.commands) == 1
    reader.forget()
    with pytest.raises(HostError):
        reader.query(["systemctl", "show", "a.service"])
    assert len(machine.commands) == 2


@pytest.mark.parametrize("program", ["systemctl", "dpkg-query", "kubectl", "python3", "containerd"])
def test_a_program_that_hangs_is_never_all_fine(program: str) -> None:
    situation = converged()
    situation.machine.hangs.add(program)  # type: ignore[attr-defined]  # memory's own
    began = time.monotonic()
    try:
        told = check(situation)
    except HostError as error:
        assert "did not answer in" in error.message
    else:
        assert told.result != "in-sync"
        assert "did not answer in" in str(told)
    assert time.monotonic() - began < deadline.SECONDS
