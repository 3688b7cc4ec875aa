"""The main job on a real booted host: from a bare host to a verified GPU node, kept there, and taken back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gpunode.lab.breakages import BREAKAGES, CLEAN_UP, Breakage
from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node
from lab.commands import gpunode

MTIMES = (
    "find /etc /usr /opt /root /boot /var/lib/dpkg /var/lib/apt /var/lib/gpunode -type f"
    " ! -path /var/lib/gpunode/lock -printf '%p %T@\\n' | sort"
)
KUBECTL = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--cache-dir=/run/test-kubectl")


@dataclass
class Node:
    """A host that was set up by `gpunode apply`, and what it was like before."""

    host: LabHost
    before: Snapshot
    applied: dict[str, Any]


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with create_node("main-job") as host:
        host.boot()
        host.run("gpunode", "init")
        before = Snapshot.take(host)
        gpunode(host, "plan", exits=3)
        applied = gpunode(host, "apply", "--yes")
        yield Node(host, before, applied)


def test_apply_ends_with_every_smoke_test_passed(node: Node) -> None:
    assert node.applied["result"] == "changed"
    steps = {step["name"]: step for step in node.applied["steps"]}
    assert [probe["state"] for probe in steps["verify"]["probes"]] == ["passed"] * 9
    assert steps["containerd"]["restarts"] == ["containerd.service"]


def test_the_runtime_that_pods_get_is_the_one_that_was_called(node: Node) -> None:
    trace = node.host.read("/var/log/lab-nvidia-container-runtime.log")
    assert "create" in trace


def test_the_device_plugin_registered_with_the_kubelet(node: Node) -> None:
    words = (*KUBECTL, "-n", "kube-system", "logs", "daemonset/nvidia-device-plugin-daemonset")
    assert "Registered device plugin for 'nvidia.com/gpu' with Kubelet" in node.host.run(*words).stdout


def test_a_second_apply_changes_no_files_time(node: Node) -> None:
    times = node.host.shell(MTIMES).stdout
    again = gpunode(node.host, "apply", "--yes")
    assert again["result"] == "in-sync"
    assert again["run"] is None
    assert node.host.shell(MTIMES).stdout == times


def test_verify_leaves_nothing_behind(node: Node) -> None:
    before = Snapshot.take(node.host)
    assert gpunode(node.host, "verify")["result"] == "verified"
    changes = Snapshot.compare(before, Snapshot.take(node.host))
    assert not changes, report(changes)
    assert "gpunode-verify" not in node.host.run("ctr", "containers", "ls").stdout


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda each: each.finding)
def test_what_breaks_in_life_is_named_and_mended(node: Node, breakage: Breakage) -> None:
    node.host.shell(breakage.script)
    found = gpunode(node.host, "check", exits=3)
    findings = [finding for step in found["steps"] for finding in step["findings"]]
    named = next((each for each in findings if each["id"] == breakage.finding), None)
    assert named, [each["id"] for each in findings]
    assert named["evidence"]
    assert named["mend"]
    gpunode(node.host, "apply", "--yes")
    assert gpunode(node.host, "check")["result"] == "in-sync"
    node.host.shell(CLEAN_UP)


def test_a_runtime_that_is_gone_is_missed_and_brought_back(node: Node) -> None:
    node.host.run("rm", "/usr/bin/nvidia-container-runtime")
    found = gpunode(node.host, "check", exits=3)
    assert "program:/usr/bin/nvidia-container-runtime" in str(found)
    gpunode(node.host, "apply", "--yes")
    assert node.host.run("test", "-x", "/usr/bin/nvidia-container-runtime", check=False).returncode == 0


def test_a_reboot_changes_nothing(node: Node) -> None:
    node.host.reboot()
    node.host.shell(f"for i in $(seq 100); do {' '.join(KUBECTL)} get node >/dev/null 2>&1 && break; sleep 0.2; done")
    gpunode(node.host, "apply", "--yes")
    assert gpunode(node.host, "verify")["result"] == "verified"


def test_rollback_leaves_the_host_as_it_was(node: Node) -> None:
    undone = gpunode(node.host, "rollback", "--yes")
    assert (undone["result"], undone["left"]) == ("undone", [])
    changes = Snapshot.compare(node.before, Snapshot.take(node.host))
    assert not changes, report(changes)
