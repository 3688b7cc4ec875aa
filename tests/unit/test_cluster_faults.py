"""An API that fails at any question of an apply or a rollback: one line says so, and the next run ends what was begun."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from gpunode.engine.apply import apply
from gpunode.engine.check import check
from gpunode.engine.results import Report
from gpunode.engine.rollback import rollback
from gpunode.engine.situation import Situation
from gpunode.errors import CommandError
from gpunode.profile import HostProfile
from gpunode.steps import select
from memory import MemoryMachine, gpu_host
from memory.command import Answer, Call
from memory.kubectl import kubectl
from memory.snapshot import changes, snapshot

DOWN = "The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?"
RESOURCE = '(patch runtimeclasses.node.k8s.io "nvidia")'
FAULTS = {
    "down": DOWN,
    "slow": f"Error from server (Timeout): Timeout: request did not complete within requested timeout {RESOURCE}",
    "forbidden": 'Error from server (Forbidden): runtimeclasses.node.k8s.io "nvidia" is forbidden: User "system:node:gpu-1" '
    'cannot patch resource "runtimeclasses" in API group "node.k8s.io" at the cluster scope',
    "too many": f"Error from server (TooManyRequests): the server has received too many requests, try again later {RESOURCE}",
    "broken": "Error from server (InternalError): an error on the server has prevented the request from succeeding",
    "webhook": 'Error from server (Forbidden): admission webhook "policy.example.com" denied the request: no nodes on Fridays',
    "expired": "Unable to connect to the server: tls: failed to verify certificate: x509: certificate has expired or is not "
    "yet valid: current time 2026-11-24T10:00:00Z is after 2026-11-01T00:00:00Z",
    "changed since": "error: Apply failed with 1 conflict: Operation cannot be fulfilled on daemonsets.apps: the object has "
    "been modified\nPlease review the fields above--they currently have other managers. Here\nare the ways you can resolve "
    "this warning:\n* If you intend to manage all of these fields, please re-run the apply\n  command with the "
    "`--force-conflicts` flag.\nSee https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts",
    "not yours": "error: You must be logged in to the server (Unauthorized)",
}
HINTS = {
    "down": "is the API server up?",
    "slow": "kubernetes.timeout",
    "forbidden": "give it the rights",
    "too many": "wait",
    "broken": "the API server's own log",
    "webhook": "those who run the webhook",
    "expired": "renew",
    "changed since": "run it again",
    "not yours": "are they expired?",
}


class Failing:
    """kubectl that fails at every call from the one of that number on."""

    def __init__(self, number: int, words: str) -> None:
        self.left, self.words = number, words

    def __call__(self, machine: MemoryMachine, call: Call) -> Answer:
        if self.left:
            self.left -= 1
            return kubectl(machine, call)
        return Answer(stderr=f"{self.words}\n", status=1)


def situation(machine: MemoryMachine) -> Situation:
    return Situation(machine, HostProfile(), select(only=("device_plugin",)), "0", note="test")


def run_apply(machine: MemoryMachine) -> Report:
    return apply(situation(machine), lambda _plan: True)


def run_rollback(machine: MemoryMachine) -> Report:
    return rollback(situation(machine))


@cache
def _before() -> MemoryMachine:
    """All is there but the plugin."""
    machine = gpu_host()
    steps = select(skip=("device_plugin", "verify"))
    assert apply(Situation(machine, HostProfile(), steps, "0"), lambda _plan: True).result == "changed"
    return machine


@cache
def _applied() -> MemoryMachine:
    machine = _before().copy()
    assert run_apply(machine).result == "changed"
    return machine


def questions(run: Callable[[MemoryMachine], Report], machine: MemoryMachine) -> int:
    """How often a whole run calls kubectl."""
    whole, counter = machine.copy(), Failing(1000, "")
    whole.programs["kubectl"] = counter
    run(whole)
    return 1000 - counter.left


def failed(run: Callable[[MemoryMachine], Report], machine: MemoryMachine, number: int, words: str) -> MemoryMachine:
    """The host after a run whose API failed there; it works again."""
    victim = machine.copy()
    victim.programs["kubectl"] = Failing(number, words)
    message, _ = said(run, victim)
    assert message.startswith("kubectl: "), f"question {number}: {message}"
    assert "\n" not in message
    victim.programs["kubectl"] = kubectl
    return victim


def said(run: Callable[[MemoryMachine], Report], machine: MemoryMachine) -> tuple[str, str]:
    """What a run that fails says, and its hint: before the first change it raises, after that it reports."""
    try:
        report = run(machine)
    except CommandError as error:
        return error.message, error.hint
    return report.error, report.hint


def require_finished(machine: MemoryMachine, where: str) -> None:
    report = run_apply(machine)
    assert report.result in ("changed", "in-sync"), f"{where}: {report.error} {report.details}"
    assert check(situation(machine)).result == "in-sync", where


def require_undone(machine: MemoryMachine, where: str) -> None:
    report = run_rollback(machine)
    assert report.result in ("undone", "in-sync"), f"{where}: {report.error} {report.details}"
    assert not changes(snapshot(gpu_host()), snapshot(machine)), where


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["down", "broken"])
def test_an_apply_whose_api_fails_anywhere_is_finished_or_undone_by_the_next(fault: str) -> None:
    count = questions(run_apply, _before())
    assert count > 5
    for number in range(count):
        victim = failed(run_apply, _before(), number, FAULTS[fault])
        require_undone(victim.copy(), f"apply, question {number}, then rollback")
        require_finished(victim, f"apply, question {number}, then apply")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["down", "broken"])
def test_a_rollback_whose_api_fails_anywhere_is_finished_by_the_next(fault: str) -> None:
    count = questions(run_rollback, _applied())
    assert count > 3
    for number in range(count):
        victim = failed(run_rollback, _applied(), number, FAULTS[fault])
        require_undone(victim.copy(), f"rollback, question {number}, then rollback")
        require_finished(victim, f"rollback, question {number}, then apply")


@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_api_said_is_one_line_with_what_to_do(fault: str) -> None:
    victim = _before().copy()
    victim.programs["kubectl"] = Failing(0, FAULTS[fault])
    message, hint = said(run_apply, victim)
    assert message.startswith("kubectl: ")
    assert HINTS[fault] in hint
