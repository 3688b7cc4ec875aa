"""A rollout that fails says why: where its pods are, what they wait for, and which known failure that is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpunode.engine.apply import _recognised
from gpunode.errors import CommandError
from gpunode.host.kubectl import Access
from gpunode.resources.kubernetes import Rollout, RolloutState
from memory import MemoryMachine, gpu_host
from memory.command import Answer, Call
from memory.door import open_door

NAME = "nvidia-device-plugin-daemonset"
ADDRESS = ("daemonset", NAME, "kube-system")
ROLLOUT = Rollout(
    Access(("kubectl",), "/etc/kubernetes/admin.conf"),
    NAME,
    "kube-system",
    "/var/lib/kubelet/device-plugins",
    10,
    (ADDRESS,),
)
SANDBOX = 'Failed to create pod sandbox: no runtime for "nvidia" is configured'


def cluster(answers: dict[str, Any]) -> MemoryMachine:
    """A machine whose kubectl gives these documents for `get KIND`, and never sees the rollout end."""
    machine = gpu_host()

    def kubectl(_machine: MemoryMachine, call: Call) -> Answer:
        verb, *rest = call.operands()
        if verb == "get" and "/" in rest[0]:
            found = answers.get(rest[0].partition("/")[0])
            return Answer(json.dumps({"items": [{**found, "kind": "DaemonSet"}] if found else []}))
        if verb == "get":
            return Answer(json.dumps(answers.get(rest[0], {"items": []})))
        if verb == "logs":
            return Answer(answers.get("logs", ""))
        return Answer(stderr="error: timed out waiting for the condition\n", status=1)

    machine.programs["kubectl"] = kubectl
    return machine


def daemonset(desired: int, ready: int) -> dict[str, Any]:
    counts = {"desiredNumberScheduled": desired, "numberReady": ready, "updatedNumberScheduled": desired}
    return {"metadata": {"name": NAME, "generation": 1}, "status": {"observedGeneration": 1, **counts}}


def failed(answers: dict[str, Any]) -> CommandError:
    writer = open_door(cluster(answers))
    with pytest.raises(CommandError) as caught:
        ROLLOUT.converge(writer, ROLLOUT.observe(writer))
    return caught.value


def pod(state: dict[str, Any]) -> dict[str, Any]:
    return {"items": [{"metadata": {"name": f"{NAME}-x"}, "status": {"containerStatuses": [{"state": state}]}}]}


def test_what_it_waits_for_is_seen_while_it_waits() -> None:
    seen: list[str] = []
    machine = gpu_host()
    waiting = 'Waiting for daemon set "x" rollout to finish: 0 of 1 updated pods are available...'
    machine.programs["kubectl"] = lambda _machine, call: Answer(f"{waiting}\n", status=int(call.words[0] != "rollout"))
    writer = open_door(machine)
    writer.hands.on_line = seen.append
    with pytest.raises(CommandError):
        ROLLOUT.converge(writer, RolloutState(0, 0, ()))
    assert seen == [waiting, "waiting for the plugin's socket in /var/lib/kubelet/device-plugins"]


def test_a_plugin_that_no_node_takes_is_told_so() -> None:
    error = failed({"daemonset": daemonset(0, 0)})
    assert "no node takes its pods" in error.details[0]


def test_what_a_pod_waits_for_is_told_in_the_kubelets_words() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    error = failed({"daemonset": daemonset(1, 0), "pods": pod(waiting)})
    assert error.details == (f"pod {NAME}-x: waiting: ImagePullBackOff Back-off pulling image",)


@pytest.mark.parametrize(
    ("answers", "finding"),
    [
        (
            {"events": {"items": [{"involvedObject": {"name": f"{NAME}-x"}, "reason": "Failed", "message": SANDBOX}]}},
            "runtime-not-configured",
        ),
        ({"logs": "E1124 Incompatible strategy detected auto\n"}, "runtime-not-default"),
        ({"logs": "E1124 Could not register device plugin: context deadline exceeded\n"}, "plugin-not-registered"),
    ],
)
def test_a_known_failure_is_recognised_in_events_and_log(answers: dict[str, Any], finding: str) -> None:
    error = failed({"daemonset": daemonset(1, 0), **answers})
    assert any(line.startswith(f"{finding}: ") for line in _recognised(error.details))


def test_words_of_no_known_failure_are_nothing() -> None:
    assert _recognised(("event Scheduled: assigned",)) == ()
