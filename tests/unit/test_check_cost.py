"""What a look at a converged host asks: one question for all units, two for the cluster, and how the GPUs are, but no service's log."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from gpunode.engine.apply import apply
from gpunode.engine.check import check
from gpunode.engine.situation import Situation
from gpunode.formats.applied_fields import is_applied
from gpunode.profile import HostProfile
from gpunode.steps import select
from memory import MemoryMachine, gpu_host

LABELS: dict[str, Any] = {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}}
PORTS: dict[str, Any] = {
    "f:spec": {"f:ports": {'k:{"port":80}': {".": {}, "f:port": {}, "f:name": {}}}, "f:finalizers": {'v:"a"': {}}}
}
MANIFEST: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"ports": [{"port": 80, "name": "http"}], "finalizers": ["a"]},
}


def converged() -> Situation:
    """A GPU node of a cluster, as an apply leaves it; what it runs is counted from there."""
    machine: MemoryMachine = gpu_host()
    situation = Situation(
        machine, HostProfile.model_validate({"cuda": {"version": "13.0"}}), select(skip=("verify",)), "0"
    )
    assert apply(situation, lambda _plan: True).result == "changed"
    machine.commands.clear()
    return situation


def test_a_converged_host_is_asked_no_more_than_this() -> None:
    situation = converged()
    assert check(situation).result == "in-sync"
    asked = sorted(words[0].rpartition("/")[2] for words in situation.machine.commands)  # type: ignore[attr-defined]  # memory's own
    of_gpus = [
        "dmesg",
        "journalctl",
        "python3",
    ]  # the kernel's log of this boot and the one before, and the driver's own word
    once = ["dpkg-query", "python3", "systemctl"]
    assert asked == sorted(["containerd", "containerd", "kubectl", "kubectl", *of_gpus, *once])


def test_logs_are_asked_where_something_differs() -> None:
    situation = converged()
    situation.machine.remove("/etc/profile.d/cuda.sh")
    assert check(situation).result == "drift"
    asked = [" ".join(words) for words in situation.machine.commands]  # type: ignore[attr-defined]  # memory's own
    assert any(words.startswith("journalctl") and "--unit" in words for words in asked), asked


def live(**changes: Any) -> dict[str, Any]:
    """The manifest as a server has it, with what others and the server put there."""
    entry = {"manager": "gpunode", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {**LABELS, **PORTS}}
    found = copy.deepcopy(MANIFEST)
    found["metadata"] |= {"uid": "1", "managedFields": [entry, {"manager": "kubelet", "operation": "Update"}]}
    found["spec"] |= {"clusterIP": "10.0.0.1", **changes}
    return found


def test_an_object_as_it_was_applied_needs_no_dry_run() -> None:
    assert is_applied(live(), MANIFEST, "gpunode")


@pytest.mark.parametrize(
    "changes",
    [
        {"ports": [{"port": 80, "name": "other"}]},
        {"ports": [{"port": 81, "name": "http"}]},
        {"finalizers": []},
    ],
)
def test_an_object_that_others_changed_needs_one(changes: dict[str, Any]) -> None:
    assert not is_applied(live(**changes), MANIFEST, "gpunode")


def test_a_field_more_or_less_in_the_manifest_needs_one() -> None:
    more, less = copy.deepcopy(MANIFEST), copy.deepcopy(MANIFEST)
    more["metadata"]["labels"]["tier"] = "front"
    del less["spec"]["finalizers"]
    assert not is_applied(live(), more, "gpunode")
    assert not is_applied(live(), less, "gpunode")
    assert not is_applied(live(), MANIFEST, "somebody")
