"""The kubelet stand-in, with the controllers that a cluster of one node needs beside it.

`python3 -m gpunode.lab.kubernetes.kubelet --address A` runs until it is stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from gpunode.lab.kubernetes import daemonsets, deviceplugin, scheduling
from gpunode.lab.kubernetes.client import Client
from gpunode.lab.kubernetes.clock import now
from gpunode.lab.kubernetes.containers import ContainerError, node_capacity
from gpunode.lab.kubernetes.devices import DeviceManager
from gpunode.lab.kubernetes.errors import ApiError
from gpunode.lab.kubernetes.events import Recorder
from gpunode.lab.kubernetes.handlers import HandlerWatch, Loaded
from gpunode.lab.kubernetes.kinds import NODES, PODS, Object
from gpunode.lab.kubernetes.pods import PodWorker

KUBECONFIG = Path("/etc/kubernetes/kubelet.conf")
STATE = Path("/var/lib/lab-kubelet")
_INTERVAL_SECONDS = 0.5


def _ready(loaded: Loaded | None) -> Object:
    """The node's Ready condition without its time."""
    if loaded is not None and loaded.cri:
        return {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
        }
    message = "container runtime is down"
    if loaded is not None:
        message += ": rpc error: code = Unimplemented desc = unknown service runtime.v1.RuntimeService"
    return {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": message}


def node_status(old: Object, address: str, loaded: Loaded | None, devices: dict[str, tuple[int, int]]) -> Object:
    """The node's status; the condition's times move only when it changes."""
    capacity, allocatable = node_capacity(), node_capacity()
    for resource, (total, healthy) in devices.items():
        capacity[resource], allocatable[resource] = str(total), str(healthy)
    condition = _ready(loaded)
    before: Object = next((item for item in old.get("conditions", []) if item["type"] == "Ready"), {})
    if all(before.get(key) == value for key, value in condition.items()):
        condition = before
    else:
        condition |= {"lastHeartbeatTime": now(), "lastTransitionTime": now()}
    addresses = [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": socket.gethostname()}]
    head: Object = {"capacity": capacity, "allocatable": allocatable, "conditions": [condition], "addresses": addresses}
    return head | {"nodeInfo": old.get("nodeInfo") or _node_info()}


def _node_info() -> Object:
    machine = os.uname()
    version = subprocess.run(["containerd", "--version"], capture_output=True, text=True, check=False).stdout.split()
    release = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
    return {
        "architecture": "amd64" if machine.machine == "x86_64" else "arm64",
        "containerRuntimeVersion": f"containerd://{version[2] if len(version) > 2 else 'unknown'}",
        "kernelVersion": machine.release,
        "kubeletVersion": "v1.32.3",
        "operatingSystem": "linux",
        "osImage": release.get("PRETTY_NAME", "").strip('"'),
    }


class Kubelet:
    """One node and what runs on it."""

    def __init__(self, client: Client, address: str) -> None:
        self._client, self._address = client, address
        self._name = socket.gethostname().lower()
        self._handlers = HandlerWatch(STATE / "handlers.json")
        self._devices = DeviceManager(Path(deviceplugin.FOLDER), STATE / "devices.json")
        self._controller = daemonsets.Controller(client)
        self._events = Recorder(client, "default-scheduler")
        self._workers = PodWorker(client, self._devices, address)
        self._refused: dict[str, str] = {}

    def run(self) -> None:
        """Run until the process is stopped. What fails in one round is tried again in the next."""
        self._devices.start()
        said = ""
        while True:
            try:
                self._tick()
                said = ""
            except (ConnectionError, ApiError, ContainerError, subprocess.TimeoutExpired) as error:
                if str(error) != said:
                    said = str(error)
                    print(said, file=sys.stderr, flush=True)
            time.sleep(_INTERVAL_SECONDS)

    def _tick(self) -> None:
        loaded = self._handlers.current()
        node = self._node(loaded)
        self._controller.sync(node, self._client.list(PODS))
        self._schedule(node)
        if loaded is not None and loaded.cri:
            mine = self._client.list(PODS, fieldSelector=f"spec.nodeName={self._name}")
            self._workers.sync(mine, loaded)

    def _node(self, loaded: Loaded | None) -> Object:
        """Register the node where it is not, and keep its status current."""
        node = self._client.get(NODES, "", self._name)
        if node is None:
            arch = "amd64" if os.uname().machine == "x86_64" else "arm64"
            labels = {"hostname": self._name, "os": "linux", "arch": arch}
            metadata = {"name": self._name, "labels": {f"kubernetes.io/{key}": value for key, value in labels.items()}}
            node = self._client.create(NODES, "", {"metadata": metadata, "spec": {}})
        old = node.get("status", {})
        status = node_status(old, self._address, loaded, self._devices.resources())
        if status != old:
            node = self._client.patch(NODES, node, {"status": status}, "status")
        return node

    def _schedule(self, node: Object) -> None:
        pods = self._client.list(PODS)
        for pod in pods:
            if pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"]:
                continue
            refusal = scheduling.refusal(pod, node, pods)
            if refusal is None:
                pod["spec"]["nodeName"] = self._name
                self._client.patch(PODS, pod, {"spec": {"nodeName": self._name}})
                where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                self._events.record(pod, "Scheduled", f"Successfully assigned {where} to {self._name}")
            elif self._refused.get(pod["metadata"]["uid"]) != refusal:
                self._refuse(pod, refusal)

    def _refuse(self, pod: Object, refusal: str) -> None:
        self._refused[pod["metadata"]["uid"]] = refusal
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": refusal}
        status = {"phase": "Pending", "conditions": [condition | {"lastTransitionTime": now()}]}
        self._client.patch(PODS, pod, {"status": status}, "status")
        self._events.record(pod, "FailedScheduling", refusal, warning=True)


def main() -> None:
    """Run the node."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    arguments = parser.parse_args()
    STATE.mkdir(parents=True, exist_ok=True)
    try:
        client = Client(KUBECONFIG)
    except (OSError, KeyError, json.JSONDecodeError) as error:
        sys.exit(f"lab-kubelet: {KUBECONFIG}: {error}")
    Kubelet(client, arguments.address).run()


if __name__ == "__main__":
    main()
