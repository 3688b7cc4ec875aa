"""driver.drain on a lab host: real processes and containers have the GPU open, and make way for another driver."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gpunode.lab.host import LabHost
from gpunode.lab.node import create_node
from lab.commands import gpunode

KUBECTL = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--cache-dir=/run/test-kubectl")
IMAGE = "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"
PYTHON = "/usr/bin/python3.13"
"""An image that is on the host already, and the interpreter in it."""
OLD, NEW = "580.126.20", "580.159.04"
# Until it is told to end, as a container's first process must be ready for.
HOLD = """\
import glob, os, signal, sys
held = [os.open(path, os.O_PATH) for path in glob.glob("/dev/nvidia[0-9]")]
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
while held:
    signal.pause()
"""
# SIGTERM is not for everyone.
STUBBORN = HOLD.replace("lambda *_: sys.exit()", "signal.SIG_IGN")


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    with create_node("dr-drain", devices=("10de:2330", "10de:2330")) as node:
        node.boot()
        write_profile(node, OLD)
        assert gpunode(node, "apply", "--yes", "--skip", "verify")["result"] == "changed"
        apply(node, workload("Pod", "train"))
        apply(node, workload("DaemonSet", "watch"))
        await_users(node, 2)
        node.write("/root/stubborn.py", STUBBORN)
        node.run("systemd-run", "--unit=job", "python3", "/root/stubborn.py")
        await_users(node, 3)
        yield node


def write_profile(host: LabHost, version: str, *keys: str) -> None:
    host.write("/etc/gpunode/profile.toml", "\n".join(("[driver]", f'version = "{version}"', *keys, "")))


def workload(kind: str, name: str) -> dict[str, Any]:
    """A pod, or a DaemonSet of one, that has its GPU open."""
    container = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": [PYTHON, "-c", HOLD]}
    limits = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
    spec = {"runtimeClassName": "nvidia", "terminationGracePeriodSeconds": 5, "containers": [container | limits]}
    labels = {"app": name}
    metadata = {"name": name, "namespace": "default", "labels": labels}
    if kind == "Pod":
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    template = {"metadata": {"labels": labels}, "spec": spec}
    found = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": found}


def apply(host: LabHost, body: dict[str, Any]) -> None:
    host.run(*KUBECTL, "apply", "--server-side", "--field-manager=test", "-f", "-", input=json.dumps(body))


def users(host: LabHost) -> int:
    """How many processes have a GPU's node open."""
    found = host.shell("find /proc/[0-9]*/fd -lname '/dev/nvidia[0-9]' 2>/dev/null || true").stdout.split()
    return len({path.split("/")[2] for path in found})


def await_users(host: LabHost, wanted: int) -> None:
    deadline = time.monotonic() + 60
    while users(host) != wanted:
        assert time.monotonic() < deadline, host.run(*KUBECTL, "get", "pods,events", "-A").stdout
        time.sleep(0.3)


def cordoned(host: LabHost) -> bool:
    node = json.loads(host.run(*KUBECTL, "get", "node", host.name, "-o", "json").stdout)
    return bool(node["spec"].get("unschedulable"))


def loaded(host: LabHost) -> str:
    return host.read("/sys/module/nvidia/version").strip()


def test_a_disruption_budget_is_waited_for_and_named_and_nobody_is_ended(host: LabHost) -> None:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "train"}}}
    metadata = {"name": "keep-train", "namespace": "default"}
    apply(host, {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec})
    write_profile(host, NEW, "drain = true", "drain_timeout = 10")
    told = "\n".join(
        line for step in gpunode(host, "plan", "--step", "driver", exits=3)["steps"] for line in step["irreversible"]
    )
    assert "evicted, with their grace periods: pod default/train (no controller makes it anew)" in told
    assert "/root/stubborn.py (pid " in told
    report = gpunode(host, "apply", "--yes", "--step", "driver", exits=1)
    assert report["error"] == "pod default/train may not be evicted by the disruption budget keep-train: waited 10 s"
    assert (users(host), loaded(host), cordoned(host)) == (3, OLD, False)


def test_a_run_that_is_killed_meanwhile_leaves_word_that_the_node_is_cordoned(host: LabHost) -> None:
    write_profile(host, NEW, "drain = true", "drain_grace = 2")
    running = host.popen("gpunode", "apply", "--yes", "--step", "driver")
    deadline = time.monotonic() + 60
    while not cordoned(host):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    running.kill()
    assert cordoned(host)
    assert "was interrupted" in gpunode(host, "check", "--step", "driver", exits=3)["interrupted"]


def test_all_make_way_and_the_node_takes_pods_again(host: LabHost) -> None:
    host.run(*KUBECTL, "delete", "pdb", "keep-train")
    report = gpunode(host, "apply", "--yes", "--step", "driver")
    assert (report["result"], loaded(host)) == ("changed", NEW)
    assert not cordoned(host)
    assert host.run(*KUBECTL, "get", "pod", "train", check=False).returncode != 0
    assert host.run("systemctl", "is-active", "job", check=False).stdout.strip() == "failed"
    assert users(host) == 1, "the DaemonSet's, whose kubelet has started it again by then"
    assert gpunode(host, "check", "--step", "driver")["interrupted"] == ""
