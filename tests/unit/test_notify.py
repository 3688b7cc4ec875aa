"""A webhook is called when something has changed, and only then; neither its address nor a host's values are told to anybody else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpunode.engine.notify import TOLD, tell_changes
from gpunode.engine.results import DifferenceResult, FindingResult, Report, StepResult
from gpunode.engine.situation import Situation
from gpunode.errors import HostError, LockHeldError, UsageError
from gpunode.host import state
from gpunode.host.webhook import post
from gpunode.profile import HostProfile
from gpunode.steps import ORDER
from memory import MemoryMachine, gpu_host

FILE = "/etc/gpunode/webhook"
ADDRESS = "https://ops.example/hooks/s3cr3t"
VALUE = "http://me:s3cr3tV4lue@proxy"
WELL = Report("check", "in-sync", steps=[StepResult("driver", "Driver")])


def drifted(*findings: str) -> Report:
    difference = DifferenceResult("file:/etc/x", "content", VALUE, VALUE, "why", VALUE)
    found = [FindingResult(name, "error", "title", VALUE) for name in findings]
    return Report(
        "check", "drift", steps=[StepResult("driver", "Driver", "drift", differences=[difference], findings=found)]
    )


class Hook:
    """What was posted."""

    def __init__(self, machine: MemoryMachine) -> None:
        self.situation = Situation(machine, HostProfile(), ORDER, "0")
        self.bodies: list[dict[str, Any]] = []
        self.down = False

    def __call__(self, url: str, body: bytes, **_network: object) -> None:
        assert url == ADDRESS
        if self.down:
            raise HostError("the webhook at ops.example answered 503")
        self.bodies.append(json.loads(body))

    def tell(self, report: Report) -> bool:
        return tell_changes(self.situation, report, FILE, self)


@pytest.fixture
def machine() -> MemoryMachine:
    host = gpu_host()
    host.files.lay(FILE, f"{ADDRESS}\n", mode=0o600)
    return host


@pytest.fixture
def hook(machine: MemoryMachine) -> Hook:
    return Hook(machine)


def test_it_is_called_on_change_only(hook: Hook) -> None:
    told = [
        hook.tell(report) for report in (WELL, WELL, drifted("xid"), drifted("xid"), drifted("xid", "sxid"), WELL, WELL)
    ]
    assert told == [False, False, True, False, True, True, False]
    assert hook.bodies[0]["new"] == ["driver: file:/etc/x", "finding xid"]
    assert (hook.bodies[1]["new"], hook.bodies[1]["gone"]) == (["finding sxid"], [])
    assert hook.bodies[2]["now"] == []
    assert hook.bodies[2]["text"].startswith("gpunode on gpu-1: in-sync; gone: ")


def test_a_first_check_that_finds_something_tells_it(hook: Hook) -> None:
    assert hook.tell(drifted("xid"))


def test_what_could_not_be_delivered_is_told_the_next_time(hook: Hook) -> None:
    hook.down = True
    with pytest.raises(HostError):
        hook.tell(drifted("xid"))
    hook.down = False
    assert hook.tell(drifted("xid"))
    assert not hook.tell(drifted("xid"))


def test_no_value_of_the_host_and_no_address_is_told_or_kept(hook: Hook, machine: MemoryMachine) -> None:
    hook.tell(drifted("xid"))
    assert VALUE not in json.dumps(hook.bodies)
    assert "hooks" not in machine.files.read(TOLD).decode()
    stat = machine.lstat(TOLD)
    assert stat is not None
    assert stat.mode == 0o600


def test_nothing_is_told_while_another_run_works(hook: Hook, machine: MemoryMachine) -> None:
    state.prepare(machine)
    with machine.lock(state.LOCK, "apply"), pytest.raises(LockHeldError):
        hook.tell(drifted("xid"))
    assert hook.bodies == []


@pytest.mark.parametrize(
    ("text", "mode"),
    [(ADDRESS, 0o644), ("http://ops.example/s3cr3t", 0o600), (f"{ADDRESS} s3cr3t", 0o600), ("", 0o600)],
)
def test_an_unfit_file_is_refused_and_not_shown(hook: Hook, machine: MemoryMachine, text: str, mode: int) -> None:
    machine.files.erase(FILE)
    machine.files.lay(FILE, text, mode=mode)
    with pytest.raises(UsageError) as caught:
        hook.tell(drifted("xid"))
    assert "s3cr3t" not in caught.value.message + caught.value.hint


@pytest.mark.slow
@pytest.mark.parametrize("url", ["https://127.0.0.1:1/s3cr3t", "https://127.0.0.1:99999/s3cr3t"])
def test_a_webhook_that_cannot_be_reached_is_told_without_its_path(url: str) -> None:
    with pytest.raises(HostError) as caught:
        post(url, b"{}")
    assert "s3cr3t" not in caught.value.message
