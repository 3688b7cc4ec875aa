"""The kubelet's pod worker: from a pod's spec to containers and back to its status."""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from gpunode.lab.kubernetes import containers, podstatus, volumes
from gpunode.lab.kubernetes.client import Client
from gpunode.lab.kubernetes.containers import ContainerError, Launch
from gpunode.lab.kubernetes.devices import AllocationError, DeviceManager
from gpunode.lab.kubernetes.events import Recorder
from gpunode.lab.kubernetes.handlers import Handler, Loaded
from gpunode.lab.kubernetes.kinds import PODS, RUNTIME_CLASSES, Object
from gpunode.lab.kubernetes.volumes import VolumeError

LOGS = Path("/var/log/pods")
_RETRY_SECONDS = 5.0
_POD_CONTAINER = re.compile(r"^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-\d+-\d+$")


class _StartError(Exception):
    """A container could not be started: the event's reason and message, and what the container waits for."""

    def __init__(self, event: str, message: str, waits: str = "ContainerCreating") -> None:
        super().__init__(message)
        self.event, self.message, self.waits = event, message, waits


@dataclass
class _Grant:
    """What device plugins give to a container; `mounts` as in a Launch."""

    env: dict[str, str] = field(default_factory=dict)
    devices: list[str] = field(default_factory=list)
    mounts: list[tuple[str, str, bool]] = field(default_factory=list)


class PodWorker:
    """Runs the pods bound to the node whose address is `address`."""

    def __init__(self, client: Client, devices: DeviceManager, address: str) -> None:
        self._client, self._devices, self._address = client, devices, address
        self._events = Recorder(client, "kubelet")
        self._processes: dict[str, tuple[int, str]] = {}
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._kill_at: dict[str, float] = {}

    def sync(self, pods: list[Object], loaded: Loaded) -> None:
        """Bring containers and statuses in line with the pods; raises ContainerError when containerd does not answer."""
        self._adopt()
        for pod in pods:
            if "deletionTimestamp" in pod["metadata"]:
                self._terminate(pod)
            elif pod["status"].get("phase") not in ("Succeeded", "Failed"):
                self._run(pod, loaded)
        self._remove_strays({pod["metadata"]["uid"] for pod in pods})

    def _adopt(self) -> None:
        """Once after a start: take over what still runs."""
        if self._processes:
            return
        for identifier, (pid, state) in containers.tasks().items():
            if _POD_CONTAINER.match(identifier) and state == "RUNNING":
                self._processes[identifier] = (pid, containers.birth(pid))

    def _alive(self, identifier: str) -> bool:
        pid, began = self._processes.get(identifier, (0, ""))
        return bool(began) and containers.birth(pid) == began

    def _remove_strays(self, uids: set[str]) -> None:
        """End containers whose pod is gone from the API."""
        for identifier in [name for name in self._processes if name[:36] not in uids]:
            containers.kill(identifier, "SIGKILL")
            if not self._alive(identifier):
                self._forget(identifier)

    def _forget(self, identifier: str) -> int:
        self._processes.pop(identifier, None)
        return containers.remove(identifier)

    # --- running

    def _run(self, pod: Object, loaded: Loaded) -> None:
        known = {status["name"]: status for status in pod["status"].get("containerStatuses", [])}
        try:
            statuses = [
                self._container(pod, index, known.get(container["name"]) or podstatus.blank(container), loaded)
                for index, container in enumerate(pod["spec"]["containers"])
            ]
        except AllocationError as error:
            self._events.record(pod, "UnexpectedAdmissionError", str(error), warning=True)
            change = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": str(error)}
            self._client.patch(PODS, pod, {"status": change}, "status")
            return
        status = podstatus.pod_status(pod, statuses, self._address)
        if any(pod["status"].get(key) != value for key, value in status.items()):
            self._client.patch(PODS, pod, {"status": status}, "status")
        if status["phase"] in ("Succeeded", "Failed"):
            self._release(pod)

    def _container(self, pod: Object, index: int, status: Object, loaded: Loaded) -> Object:
        """The container's next status, after starting or burying it where that is due."""
        state, key = status["state"], f"{pod['metadata']['uid']}-{index}"
        if "running" in state:
            identifier = status["containerID"].partition("://")[2]
            return status if self._alive(identifier) else self._buried(pod, key, status, identifier)
        if "terminated" in state or time.monotonic() < self._not_before.get(key, 0.0):
            return status
        attempt = status["restartCount"] + (1 if status["lastState"] else 0)
        try:
            self._start(pod, index, f"{key}-{attempt}", loaded)
        except _StartError as failure:
            self._events.record(pod, failure.event, failure.message, warning=True)
            self._not_before[key] = time.monotonic() + _RETRY_SECONDS
            return podstatus.waiting(status, _backed_off(status, failure.waits), failure.message)
        return podstatus.running(status, f"{key}-{attempt}", attempt)

    def _buried(self, pod: Object, key: str, status: Object, identifier: str) -> Object:
        """The status after the container has ended: for good, or waiting for its next start."""
        code = self._forget(identifier)
        done = podstatus.ended(status, code)
        if not podstatus.restarts(pod["spec"]["restartPolicy"], code):
            return done
        self._failures[key] = self._failures.get(key, 0) + 1
        # The first restart comes at once; then 10 s, 20 s, … to 5 min.
        delay = 0 if self._failures[key] == 1 else min(300, 10 * 2 ** (self._failures[key] - 2))
        self._not_before[key] = time.monotonic() + delay
        if delay:
            text = f"Back-off restarting failed container {status['name']} in pod {pod['metadata']['name']}"
            self._events.record(pod, "BackOff", text, warning=True)
        text = f"back-off {delay}s restarting failed container={status['name']}"
        return podstatus.waiting(done | {"lastState": done["state"]}, "CrashLoopBackOff", text)

    def _start(self, pod: Object, index: int, identifier: str, loaded: Loaded) -> None:
        container = pod["spec"]["containers"][index]
        handler = self._handler(pod, loaded)
        granted = self._grant(pod, container)
        try:
            paths = volumes.prepare(self._client, pod)
        except VolumeError as error:
            raise _StartError("FailedMount", str(error)) from error
        self._check_image(container)
        launch = _launch(pod, container, identifier, handler=handler, paths=paths, granted=granted)
        try:
            containers.start(launch)
        except ContainerError as error:
            containers.remove(identifier)
            raise _StartError("Failed", f"Error: {error}", "RunContainerError") from error
        pid = containers.tasks().get(identifier, (0, ""))[0]
        self._processes[identifier] = (pid, containers.birth(pid))
        self._events.record(pod, "Started", f"Started container {container['name']}")

    def _handler(self, pod: Object, loaded: Loaded) -> Handler:
        name = loaded.default
        if "runtimeClassName" in pod["spec"]:
            runtime = self._client.get(RUNTIME_CLASSES, "", pod["spec"]["runtimeClassName"])
            name = runtime["handler"] if runtime else pod["spec"]["runtimeClassName"]
        handler = loaded.handlers.get(name)
        trouble = f'failed to get sandbox runtime: no runtime for "{name}" is configured' if handler is None else ""
        if handler and handler.binary.startswith("/") and not os.access(handler.binary, os.X_OK):
            trouble = (
                "failed to start sandbox: failed to create containerd task: failed to create shim task: "
                f"OCI runtime create failed: fork/exec {handler.binary}: no such file or directory: unknown"
            )
        if handler is None or trouble:
            text = f"Failed to create pod sandbox: rpc error: code = Unknown desc = {trouble}"
            raise _StartError("FailedCreatePodSandBox", text)
        return handler

    def _grant(self, pod: Object, container: Object) -> _Grant:
        """What the device plugins give to the container; raises AllocationError."""
        granted = _Grant()
        owner = f"{pod['metadata']['uid']}/{container['name']}"
        for resource, count in container.get("resources", {}).get("limits", {}).items():
            if "/" in resource and int(count):
                answer = self._devices.allocate(owner, resource, int(count))
                granted.env.update(answer.envs)
                granted.devices.extend(device.host_path for device in answer.devices)
                granted.mounts.extend((item.host_path, item.container_path, item.read_only) for item in answer.mounts)
        return granted

    def _check_image(self, container: Object) -> None:
        image = containers.canonical(container["image"])
        if containers.has_image(image):
            return
        if container["imagePullPolicy"] == "Never":
            text = f'Container image "{container["image"]}" is not present with pull policy of Never'
            raise _StartError("ErrImageNeverPull", text, "ErrImageNeverPull")
        text = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found'
        message = f'Failed to pull image "{container["image"]}": rpc error: code = NotFound desc = {text}'
        raise _StartError("Failed", message, "ErrImagePull")

    # --- ending

    def _terminate(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        alive = [name for name in self._processes if name.startswith(uid) and self._alive(name)]
        if alive and uid not in self._kill_at:
            self._kill_at[uid] = time.monotonic() + pod["metadata"]["deletionGracePeriodSeconds"]
            self._events.record(pod, "Killing", f"Stopping container {pod['spec']['containers'][0]['name']}")
            for identifier in alive:
                containers.kill(identifier, "SIGTERM")
        elif alive and time.monotonic() > self._kill_at[uid]:
            for identifier in alive:
                containers.kill(identifier, "SIGKILL")
        elif not alive:
            self._release(pod)
            shutil.rmtree(LOGS / uid, ignore_errors=True)
            self._client.delete(PODS, pod, grace_seconds=0)

    def _release(self, pod: Object) -> None:
        """Give back all that an ended pod has."""
        uid = pod["metadata"]["uid"]
        for identifier in [name for name in containers.identifiers() if name.startswith(uid)]:
            self._forget(identifier)
        for container in pod["spec"]["containers"]:
            self._devices.release(f"{uid}/{container['name']}")
        shutil.rmtree(volumes.PODS_FOLDER / uid, ignore_errors=True)
        self._kill_at.pop(uid, None)


def _backed_off(status: Object, reason: str) -> str:
    """The second time an image cannot be had, the kubelet says that it is backing off."""
    before = (status["state"].get("waiting") or {}).get("reason")
    return "ImagePullBackOff" if reason == "ErrImagePull" and before in ("ErrImagePull", "ImagePullBackOff") else reason


def _launch(
    pod: Object, container: Object, identifier: str, *, handler: Handler, paths: dict[str, Path], granted: _Grant
) -> Launch:
    attempt = identifier.rpartition("-")[2]
    mounts = [
        (os.path.join(paths[mount["name"]], mount.get("subPath", "")), mount["mountPath"], mount.get("readOnly", False))
        for mount in container.get("volumeMounts", [])
    ]
    env = {item["name"]: _env_value(pod, item) for item in container.get("env", [])}
    return Launch(
        identifier,
        containers.canonical(container["image"]),
        handler,
        LOGS / pod["metadata"]["uid"] / f"{container['name']}-{attempt}.log",
        command=container.get("command", []),
        arguments=container.get("args", []),
        env={**env, **granted.env},
        mounts=mounts + granted.mounts,
        devices=granted.devices,
        security=container.get("securityContext", {}),
        working_directory=container.get("workingDir", ""),
    )


def _env_value(pod: Object, item: Object) -> str:
    """The variable's value; of the references only those to the pod's own fields are known."""
    if "value" in item or "valueFrom" not in item:
        return str(item.get("value", ""))
    metadata: dict[str, str] = pod["metadata"]
    known = {f"metadata.{name}": metadata[name] for name in ("name", "namespace", "uid")}
    known["spec.nodeName"] = pod["spec"]["nodeName"]
    return known.get(item["valueFrom"].get("fieldRef", {}).get("fieldPath", ""), "")
