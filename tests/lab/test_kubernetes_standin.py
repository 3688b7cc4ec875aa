"""The Kubernetes stand-ins on a lab host: real kubectl, real containerd, real device plugin registration."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpunode.lab import layers, product
from gpunode.lab.host import LabHost
from gpunode.lab.images import oci_archive, program_files
from gpunode.lab.kubernetes import image, setup
from gpunode.lab.paths import CACHE
from lab.commands import restart

SHELL = "lab.test/shell:1"
KUBECTL = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf")
RUNC = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "plain"}, "handler": "runc"}
NVIDIA = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"}
SOCKET = "/var/lib/kubelet/device-plugins/nvidia-gpu.sock"
# Registers two GPUs that need no driver library: what is tried here is the kubelet's side.
PLUGIN = """
from gpunode.lab.kubernetes.plugin import Plugin, Sharing
while True:
    Plugin(["GPU-a", "GPU-b"], Sharing()).serve()
"""


def _shell_image(folder: Path) -> Path:
    files = program_files(Path("/bin/dash").resolve(), "/bin/sh") | program_files(Path("/bin/sleep"), "/bin/sleep")
    return oci_archive(files, reference=SHELL, entrypoint=["/bin/sh"], env={}, folder=folder)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    base = layers.base()
    stack = [base, *product.product(base)]
    images = [_shell_image(tmp_path_factory.mktemp("images")), image.device_plugin(stack[:-1], CACHE / "images")]

    def prepare(root: Path, address: str) -> None:
        setup.prepare(root, address, images=images)

    with LabHost.create("test-kubernetes", layers=stack, prepare=[prepare]) as host:
        host.boot()
        apply(host, RUNC)
        yield host


def apply(host: LabHost, body: Any) -> None:
    host.run(*KUBECTL, "apply", "--server-side", "--field-manager=test", "-f", "-", input=json.dumps(body))


def get(host: LabHost, *words: str) -> Any:
    return json.loads(host.run(*KUBECTL, "get", "-o", "json", *words).stdout)


def pod(name: str, script: str, *, runtime: str = "plain", gpus: int = 0, policy: str = "Never") -> Any:
    container: dict[str, Any] = {"name": "main", "image": SHELL, "args": ["-c", script]}
    if gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": gpus}}
    spec = {"runtimeClassName": runtime, "restartPolicy": policy, "containers": [container]}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def await_phase(host: LabHost, name: str, phase: str) -> None:
    wait = (*KUBECTL, "wait", f"--for=jsonpath={{.status.phase}}={phase}", f"pod/{name}", "--timeout=60s")
    assert host.run(*wait, check=False).returncode == 0, host.run(*KUBECTL, "get", "pods,events", "-A").stdout


def await_event(host: LabHost, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in host.run(*KUBECTL, "get", "events", "-A").stdout:
        assert time.monotonic() < deadline, host.run(*KUBECTL, "get", "events", "-A").stdout
        time.sleep(0.5)


def logs(host: LabHost, name: str) -> str:
    return host.run(*KUBECTL, "logs", name).stdout


def delete(host: LabHost, name: str) -> None:
    host.run(*KUBECTL, "delete", "pod", name)


def gpus(host: LabHost) -> tuple[str, str]:
    status = get(host, "node", host.name)["status"]
    return status["capacity"].get("nvidia.com/gpu", ""), status["allocatable"].get("nvidia.com/gpu", "")


def await_gpus(host: LabHost, wanted: tuple[str, str]) -> None:
    deadline = time.monotonic() + 30
    while gpus(host) != wanted:
        assert time.monotonic() < deadline, gpus(host)
        time.sleep(0.2)


@pytest.fixture
def plugin(host: LabHost) -> Iterator[None]:
    await_node(host)
    running = host.popen("python3", "-c", PLUGIN, env={"PYTHONPATH": "/opt/gpunode/src:/opt/gpunode/lib"})
    await_gpus(host, ("2", "2"))
    yield
    running.kill()
    await_gpus(host, ("2", "0"))


def await_node(host: LabHost) -> None:
    wait = (*KUBECTL, "wait", "--for=condition=Ready", f"node/{host.name}", "--timeout=60s")
    deadline = time.monotonic() + 60
    while host.run(*wait, check=False).returncode != 0:
        assert time.monotonic() < deadline, host.journal("lab-kubelet")
        time.sleep(0.5)


def test_a_pod_runs_its_container_and_logs(host: LabHost) -> None:
    await_node(host)
    apply(host, pod("hello", "echo hello"))
    await_phase(host, "hello", "Succeeded")
    assert logs(host, "hello") == "hello\n"
    apply(host, pod("broken", "echo no; exit 3"))
    await_phase(host, "broken", "Failed")
    state = get(host, "pod", "broken")["status"]["containerStatuses"][0]["state"]
    assert state["terminated"]["exitCode"] == 3
    delete(host, "hello")
    delete(host, "broken")


def test_an_unknown_handler_keeps_the_pod_waiting_until_containerd_has_loaded_it(host: LabHost) -> None:
    apply(host, NVIDIA)
    apply(host, pod("waits", "echo ran", runtime="nvidia"))
    await_event(host, 'no runtime for "nvidia" is configured')
    waiting = get(host, "pod", "waits")["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "ContainerCreating"
    section = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes'
    runtime = 'runtime_type = "io.containerd.runc.v2"\n'
    host.write("/etc/containerd/config.toml", f"version = 2\n{section}.runc]\n{runtime}{section}.nvidia]\n{runtime}")
    time.sleep(7)  # longer than the pod's retry: a file alone changes nothing
    assert get(host, "pod", "waits")["status"]["phase"] == "Pending"
    restart(host, "containerd")
    await_phase(host, "waits", "Succeeded")
    delete(host, "waits")


def test_a_missing_image_is_named(host: LabHost) -> None:
    body = pod("absent", "true")
    body["spec"]["containers"][0]["image"] = "lab.test/absent:1"
    apply(host, body)
    await_event(host, 'Failed to pull image "lab.test/absent:1"')
    delete(host, "absent")


@pytest.mark.usefixtures("plugin")
def test_a_registered_plugin_gives_capacity_and_devices(host: LabHost) -> None:
    apply(host, pod("user", "echo $NVIDIA_VISIBLE_DEVICES; sleep 1000", gpus=2))
    await_phase(host, "user", "Running")
    assert logs(host, "user") == "GPU-a,GPU-b\n"
    apply(host, pod("next", "echo $NVIDIA_VISIBLE_DEVICES", gpus=1))
    await_event(host, "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    assert get(host, "pod", "next")["status"]["phase"] == "Pending"
    described = host.run(*KUBECTL, "describe", "node", host.name).stdout
    assert "nvidia.com/gpu" in described
    host.run(*KUBECTL, "delete", "pod", "user", "--grace-period=1")
    await_phase(host, "next", "Succeeded")
    delete(host, "next")


@pytest.mark.usefixtures("plugin")
def test_the_plugin_registers_again_with_a_new_kubelet(host: LabHost) -> None:
    began = host.run("stat", "-c", "%i %z", SOCKET).stdout
    restart(host, "lab-kubelet")
    deadline = time.monotonic() + 30
    while host.run("stat", "-c", "%i %z", SOCKET, check=False).stdout in ("", began):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    await_gpus(host, ("2", "2"))


def test_a_daemon_set_comes_up_rolls_and_goes_with_its_pods(host: LabHost) -> None:
    container = {"name": "main", "image": image.REFERENCE, "env": [{"name": "FAIL_ON_INIT_ERROR", "value": "false"}]}
    spec = {"runtimeClassName": "plain", "priorityClassName": "system-node-critical", "containers": [container]}
    template = {"metadata": {"labels": {"name": "plugin"}}, "spec": spec}
    body: Any = {"apiVersion": "apps/v1", "kind": "DaemonSet"}
    body |= {"metadata": {"name": "plugin", "namespace": "kube-system"}}
    body |= {"spec": {"selector": {"matchLabels": {"name": "plugin"}}, "template": template}}
    apply(host, body)
    system = (*KUBECTL, "-n", "kube-system")
    rollout = (*system, "rollout", "status", "daemonset/plugin", "--timeout=60s")
    assert "successfully rolled out" in host.run(*rollout).stdout
    deadline = time.monotonic() + 20
    while "could not load NVML library: libnvidia-ml.so.1" not in host.run(*system, "logs", "ds/plugin").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    container["env"].append({"name": "NEW", "value": "1"})  # type: ignore[attr-defined] # a list, see above
    apply(host, body)
    assert "successfully rolled out" in host.run(*rollout, timeout=90).stdout
    host.run(*system, "delete", "daemonset", "plugin")
    host.run(*system, "wait", "--for=delete", "pod", "-l", "name=plugin", "--timeout=60s")


def test_a_power_cut_loses_no_object_and_pods_come_back(host: LabHost) -> None:
    apply(host, pod("steady", "echo up; sleep 1000", policy="Always"))
    await_phase(host, "steady", "Running")
    host.power_cut()
    host.boot()
    deadline = time.monotonic() + 60
    while get(host, "pod", "steady")["status"]["containerStatuses"][0]["restartCount"] < 1:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    await_phase(host, "steady", "Running")
    host.run(*KUBECTL, "delete", "pod", "steady", "--grace-period=1")
