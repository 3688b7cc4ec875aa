"""Two GPUs shared between pods on a real booted host: what the tutorial of 2020 wished for in its last sentence."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gpunode.lab.host import LabHost
from gpunode.lab.node import create_node
from lab.commands import gpunode

KUBECTL = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--cache-dir=/run/test-kubectl")
PROFILE = "/etc/gpunode/profile.toml"
PODS = 3
SHARED = '\n[device_plugin.sharing]\nstrategy = "time-slicing"\nreplicas = { "nvidia.com/gpu" = 4 }\n'


def get(host: LabHost, *words: str) -> Any:
    return json.loads(host.run(*KUBECTL, "get", "-o", "json", *words).stdout)


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    with create_node("sharing", devices=("10de:2330", "10de:2330")) as host:
        host.boot()
        host.run("gpunode", "init")
        host.write(PROFILE, host.read(PROFILE) + SHARED)
        gpunode(host, "apply", "--yes")
        yield host


def probes(document: dict[str, Any]) -> dict[str, Any]:
    return {probe["name"]: probe for step in document["steps"] for probe in step.get("probes", [])}


def test_two_gpus_are_offered_eight_times_and_a_pod_sees_one(host: LabHost) -> None:
    found = probes(gpunode(host, "verify"))
    assert found["capacity"]["detail"].startswith("nvidia.com/gpu: 8 capacity, 8 allocatable")
    assert found["pod"]["detail"].startswith("Test PASSED; a pod with nvidia.com/gpu: 1 sees GPU-")


def test_several_pods_run_on_two_gpus_at_once(host: LabHost) -> None:
    for number in range(PODS):
        container = {
            "name": "main",
            "image": "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0",
            "resources": {"limits": {"nvidia.com/gpu": 1}},
        }
        spec = {"runtimeClassName": "nvidia", "restartPolicy": "Never", "containers": [container]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"user-{number}"}, "spec": spec}
        host.run(*KUBECTL, "apply", "--server-side", "-f", "-", input=json.dumps(body))
    for number in range(PODS):
        wait = ("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/user-{number}", "--timeout=60s")
        host.run(*KUBECTL, *wait, timeout=90)
        assert "Test PASSED" in host.run(*KUBECTL, "logs", f"user-{number}").stdout
        host.run(*KUBECTL, "delete", "pod", f"user-{number}")


def test_a_field_that_somebody_else_took_is_told_with_the_managers_name(host: LabHost) -> None:
    patch = '{"spec":{"template":{"spec":{"priorityClassName":"system-cluster-critical"}}}}'
    daemonset = ("-n", "kube-system", "daemonset", "nvidia-device-plugin-daemonset")
    host.run(*KUBECTL, "patch", *daemonset, "--field-manager=night-shift", "-p", patch)
    told = gpunode(host, "plan", exits=1)
    assert "night-shift manages 1 field" in told["error"]
    host.run(*KUBECTL, "patch", *daemonset, "--field-manager=gpunode", "-p", patch.replace("cluster", "node"))
    host.run(*KUBECTL, "rollout", "status", "-n", "kube-system", "daemonset/nvidia-device-plugin-daemonset", timeout=90)


def test_a_verification_that_is_stopped_by_ctrl_c_leaves_nothing(host: LabHost) -> None:
    running = host.popen("gpunode", "verify")
    deadline = time.monotonic() + 60
    while "gpunode-verify" not in host.run(*KUBECTL, "get", "pods", "-A").stdout:
        assert time.monotonic() < deadline, running.output()
        time.sleep(0.05)
    running.kill(signal.SIGINT)
    assert running.wait(60) in (130, -signal.SIGINT)
    assert "gpunode-verify" not in host.run(*KUBECTL, "get", "namespaces,pods", "-A").stdout


def test_what_the_profile_drops_goes_and_the_gpus_are_whole_again(host: LabHost) -> None:
    host.write(PROFILE, host.read(PROFILE).replace(SHARED, ""))
    plan = gpunode(host, "plan", exits=3)
    assert "configmap/nvidia-device-plugin-configs" in json.dumps(plan)
    gpunode(host, "apply", "--yes")
    assert "nvidia-device-plugin-configs" not in host.run(*KUBECTL, "get", "configmaps", "-A").stdout
    assert get(host, "node", host.name)["status"]["allocatable"]["nvidia.com/gpu"] == "2"


def test_a_rollback_leaves_the_cluster_as_it_was(host: LabHost) -> None:
    assert get(host, "node", host.name)["metadata"]["labels"]["nvidia.com/gpu.present"] == "true"
    gpunode(host, "rollback", "--yes")
    left = host.run(*KUBECTL, "get", "daemonsets,configmaps,runtimeclasses,clusterroles", "-A").stdout
    assert "nvidia" not in left
    assert "nvidia.com/gpu.present" not in get(host, "node", host.name)["metadata"]["labels"]


def test_a_plugin_that_others_bring_is_told_and_left_alone(host: LabHost) -> None:
    container = {"name": "ctr", "image": "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"}
    labels = {"app": "theirs"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    body = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "theirs", "namespace": "default", "annotations": {"meta.helm.sh/release-name": "nvdp"}},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    host.run(*KUBECTL, "apply", "--server-side", "--field-manager=helm", "-f", "-", input=json.dumps(body))
    plan = gpunode(host, "plan", exits=3)
    step = next(each for each in plan["steps"] if each["name"] == "device_plugin")
    assert "Helm (release nvdp) manages the device plugin (default/theirs): gpunode applies none" in step["notes"]
    assert {each["resource"] for each in step["differences"]} <= {"plugin:others"}
