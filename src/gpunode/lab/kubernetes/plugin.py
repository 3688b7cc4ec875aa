"""The device plugin of the lab's image: GPUs by NVML, served to the kubelet as NVIDIA's plugin serves them.

It understands `CONFIG_FILE` or `--config-file` as far as time slicing goes, and `FAIL_ON_INIT_ERROR`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import yaml

from gpunode.lab.kubernetes import deviceplugin
from gpunode.probes import nvml
from gpunode.probes.devices import ProbeError

RESOURCE = "nvidia.com/gpu"
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Sharing:
    """How often each GPU is offered, and whether a container may ask for more than one share."""

    resource: str = RESOURCE
    replicas: int = 1
    one_only: bool = False


def log(message: str, level: str = "I") -> None:
    """One line in the format of the real plugin's logger."""
    stamp = datetime.now().strftime("%m%d %H:%M:%S.%f")
    print(f"{level}{stamp}       1 main.go:1] {message}", file=sys.stderr, flush=True)


def parse_sharing(text: str) -> Sharing:
    """The sharing that a configuration file asks for; raises ValueError for what the real plugin refuses."""
    document = yaml.safe_load(text) or {}
    if document.get("version") != "v1":
        raise ValueError(f"unknown version: {document.get('version')}")
    slicing = document.get("sharing", {}).get("timeSlicing") or {}
    for entry in slicing.get("resources", []):
        if entry["name"] == RESOURCE:
            if entry["replicas"] < 2:
                raise ValueError("number of replicas must be >= 2")
            name = entry.get("rename") or (f"{RESOURCE}.shared" if slicing.get("renameByDefault") else RESOURCE)
            return Sharing(name, entry["replicas"], bool(slicing.get("failRequestsGreaterThanOne")))
    return Sharing()


def device_ids(uuids: list[str], replicas: int) -> list[str]:
    """The ids offered to the kubelet: the GPU's own, or `uuid::n` for each of its shares."""
    if replicas == 1:
        return uuids
    return [f"{uuid}::{number}" for uuid in uuids for number in range(replicas)]


class Plugin:
    """Serves the GPUs on a socket beside the kubelet's."""

    def __init__(self, uuids: list[str], sharing: Sharing) -> None:
        self._ids, self._sharing = device_ids(uuids, sharing.replicas), sharing
        self._socket = Path(deviceplugin.FOLDER) / f"nvidia-{sharing.resource.rpartition('/')[2]}.sock"
        self._stopped = threading.Event()

    def serve(self) -> None:
        """Serve and register until the kubelet's socket is made anew; raises grpc.RpcError when it does not answer."""
        resource = self._sharing.resource
        server = grpc.server(ThreadPoolExecutor(4))
        deviceplugin.serve_plugin(server, self._watch, self._allocate)
        log(f"Starting GRPC server for '{resource}'")
        self._socket.unlink(missing_ok=True)
        server.add_insecure_port(f"unix://{self._socket}")
        server.start()
        log(f"Starting to serve '{resource}' on {self._socket}")
        try:
            before = _identity()
            deviceplugin.register(deviceplugin.KUBELET_SOCKET, self._socket.name, resource)
            log(f"Registered device plugin for '{resource}' with Kubelet")
            while _identity() in (None, before):
                time.sleep(_POLL_SECONDS)
            log(f"inotify: {deviceplugin.KUBELET_SOCKET} created, restarting.")
        finally:
            self._stopped.set()
            server.stop(1).wait()

    def _watch(self, _request: Any, _context: grpc.ServicerContext) -> Iterator[Any]:
        devices = [deviceplugin.Device(ID=name, health=deviceplugin.HEALTHY) for name in self._ids]
        yield deviceplugin.ListAndWatchResponse(devices=devices)
        self._stopped.wait()

    def _allocate(self, request: Any, context: grpc.ServicerContext) -> Any:
        answer = deviceplugin.AllocateResponse()
        for container in request.container_requests:
            wanted = list(container.devices_ids)
            if self._sharing.one_only and len(wanted) > 1:
                text = f"request for '{self._sharing.resource}: {len(wanted)}' too large: "
                context.abort(grpc.StatusCode.UNKNOWN, text + "maximum request size for shared resources is 1")
            uuids = dict.fromkeys(name.partition("::")[0] for name in wanted)
            answer.container_responses.add().envs["NVIDIA_VISIBLE_DEVICES"] = ",".join(uuids)
        return answer


def _identity() -> tuple[int, int] | None:
    """What tells the kubelet's socket from a later one of the same name."""
    try:
        found = os.stat(deviceplugin.KUBELET_SOCKET)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_ctime_ns


def _find_gpus() -> list[str]:
    """The UUIDs of the GPUs. Without a driver library there are none: logged in the real plugin's words."""
    try:
        return [gpu["uuid"] for gpu in nvml.query()["gpus"]]
    except ProbeError as error:
        if error.code is not None:
            log(f"Failed to initialize NVML: {error.message}", "E")
        else:
            log("Incompatible strategy detected auto", "E")
            log("If this is a GPU node, did you configure the NVIDIA Container Toolkit?", "E")
            log(f"could not load NVML library: {error.message}", "E")
        return []


def main() -> None:
    """Serve the GPUs for ever; wait for ever, or exit 1 with FAIL_ON_INIT_ERROR, when there are none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", default=os.environ.get("CONFIG_FILE", ""))
    arguments = parser.parse_args()
    # As the first process of its container it would not be ended by a signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log(f"Starting FS watcher for {deviceplugin.FOLDER}")
    log("Starting OS watcher")
    log("Starting Plugins")
    try:
        sharing = parse_sharing(Path(arguments.config_file).read_text()) if arguments.config_file else Sharing()
    except (OSError, ValueError, yaml.YAMLError) as error:
        log(f"error starting plugins: unable to load config: {error}", "E")
        sys.exit(1)
    uuids = _find_gpus()
    if not uuids:
        if os.environ.get("FAIL_ON_INIT_ERROR", "true") == "true":
            log("error starting plugins: failed to initialize NVML", "E")
            sys.exit(1)
        log("No devices found. Waiting indefinitely.")
        threading.Event().wait()
    while True:
        try:
            Plugin(uuids, sharing).serve()
        except grpc.RpcError as error:
            log(f"Could not contact Kubelet: {error.details()}", "E")
            time.sleep(5)


if __name__ == "__main__":
    main()
