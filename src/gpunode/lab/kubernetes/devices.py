"""The kubelet's device manager: registered plugins, their devices, and which pod has which."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from gpunode.lab.kubernetes import deviceplugin
from gpunode.lab.kubernetes.deviceplugin import HEALTHY


class AllocationError(Exception):
    """A pod's devices cannot be had, in the kubelet's words."""


class DeviceManager:
    """Serves registration in `folder`; remembers allocations in the file `checkpoint` over restarts."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self._folder, self._checkpoint = folder, checkpoint
        self._lock = threading.Lock()
        self._channels: dict[str, grpc.Channel] = {}
        self._devices: dict[str, dict[str, str]] = {}
        self._allocations: dict[str, dict[str, list[str]]] = {}
        if checkpoint.exists():
            document = json.loads(checkpoint.read_text())
            self._allocations = document["allocations"]
            self._devices = {resource: {} for resource in document["resources"]}

    def start(self) -> None:
        """Begin to serve, as a kubelet does: sockets of an earlier run are removed, so that plugins register again."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for socket in self._folder.glob("*.sock"):
            socket.unlink()
        self._server = grpc.server(ThreadPoolExecutor(4))
        deviceplugin.serve_registration(self._server, self._register)
        self._server.add_insecure_port(f"unix://{self._folder / 'kubelet.sock'}")
        self._server.start()

    def _register(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.version != deviceplugin.VERSION:
            text = f"requested API version {request.version!r} is not supported by kubelet"
            context.abort(grpc.StatusCode.UNIMPLEMENTED, text)
        channel = grpc.insecure_channel(f"unix://{self._folder / request.endpoint}")
        with self._lock:
            self._channels[request.resource_name] = channel
        thread = threading.Thread(target=self._watch, args=(request.resource_name, channel), daemon=True)
        thread.start()
        return deviceplugin.Empty()

    def _watch(self, resource: str, channel: grpc.Channel) -> None:
        try:
            for answer in deviceplugin.list_and_watch(channel):
                with self._lock:
                    if self._channels.get(resource) is channel:
                        self._devices[resource] = {device.ID: device.health for device in answer.devices}
                        self._save()
        except grpc.RpcError:
            self._lost(resource, channel)

    def _lost(self, resource: str, channel: grpc.Channel) -> None:
        with self._lock:
            if self._channels.get(resource) is channel:
                del self._channels[resource]
                self._devices[resource] = dict.fromkeys(self._devices.get(resource, {}), "Unhealthy")

    def _save(self) -> None:
        document = {"resources": sorted(self._devices), "allocations": self._allocations}
        temporary = self._checkpoint.with_suffix(".new")
        temporary.write_text(json.dumps(document))
        temporary.replace(self._checkpoint)

    def resources(self) -> dict[str, tuple[int, int]]:
        """Resource → its capacity and how much of it is healthy."""
        with self._lock:
            found = {name: list(devices.values()) for name, devices in self._devices.items()}
        return {name: (len(health), health.count(HEALTHY)) for name, health in found.items()}

    def allocate(self, owner: str, resource: str, count: int) -> Any:
        """Give `count` devices to `owner` (a pod's container) and return the plugin's answer; raises AllocationError.

        An owner that has devices already keeps them.
        """
        with self._lock:
            channel = self._channels.get(resource)
            held = self._allocations.setdefault(owner, {}).get(resource)
            chosen = held or self._free(resource)[:count]
            if channel is None or len(chosen) < count:
                text = f"requested number of devices unavailable for {resource}. Requested: {count}, Available: "
                raise AllocationError(f"Allocate failed due to {text}{len(chosen)}, which is unexpected")
            self._allocations[owner][resource] = chosen
            self._save()
        try:
            return deviceplugin.allocate(channel, chosen)
        except grpc.RpcError as error:
            self.release(owner)
            text = f"rpc error: code = Unknown desc = {error.details()}"
            raise AllocationError(f"Allocate failed due to {text}, which is unexpected") from error

    def _free(self, resource: str) -> list[str]:
        taken = {device for owner in self._allocations.values() for device in owner.get(resource, [])}
        return [
            name for name, health in self._devices.get(resource, {}).items() if health == HEALTHY and name not in taken
        ]

    def release(self, owner: str) -> None:
        """Take back what the owner has."""
        with self._lock:
            if self._allocations.pop(owner, None) is not None:
                self._save()
