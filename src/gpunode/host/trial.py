"""Trying the host out: containers and pods that are run for a test and always taken away again, also on Ctrl-C."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpunode.errors import CommandError, HostError
from gpunode.host import kubectl
from gpunode.host.kubectl import Access, Object
from gpunode.host.machine import Machine, Output
from gpunode.host.reader import Network, Reader

POLL_SECONDS = 0.3
PULL_SECONDS = 600
CONTAINERS = "gpunode-verify-"
POD_HINTS = (
    ("no runtime for", "containerd runs without the nvidia runtime: gpunode apply --step containerd"),
    ("Insufficient nvidia.com/gpu", "all GPUs of the node are taken, or the device plugin offers none"),
    ("ImagePull", "the image cannot be pulled: verify.pod_image in the profile names another"),
)


class Trial(Reader):
    """A Reader that may also run a container or a pod for a moment. What it makes it removes, whatever happens."""

    def __init__(self, machine: Machine, network: Network | None = None) -> None:
        super().__init__(machine, network)
        self._name = f"{CONTAINERS}{os.getpid()}"

    def run_container(
        self, ctr: tuple[str, ...], *, image: str, runtime: str = "", device: str = "", timeout: float
    ) -> Output:
        """Run an image once with GPUs: all of them through an OCI runtime, or one by its CDI name.

        Raises HostError when it does not end in time.
        """
        access = [f"--device={device}"] if device else [f"--runc-binary={runtime}", "--env=NVIDIA_VISIBLE_DEVICES=all"]
        with self._image(ctr, image):
            try:
                return self._machine.run([*ctr, "run", "--rm", *access, image, self._name], timeout=timeout)
            finally:
                self._remove_container(ctr, self._name)

    def clear_containers(self, ctr: tuple[str, ...]) -> None:
        """Remove what trials that were killed have left in containerd."""
        names = self._machine.run([*ctr, "containers", "ls", "--quiet"]).stdout.split()
        for name in names:
            if name.startswith(CONTAINERS):
                self._remove_container(ctr, name)

    def clear_namespace(self, access: Access, namespace: str) -> None:
        """Remove the name space that a trial that was killed has left in the cluster. Raises CommandError."""
        if kubectl.get(self, access, "namespace", namespace) is not None:
            kubectl.delete(self._machine, access, "namespace", namespace)

    def _remove_container(self, ctr: tuple[str, ...], name: str) -> None:
        self._machine.run([*ctr, "tasks", "kill", "--signal=SIGKILL", name])
        self._machine.run([*ctr, "tasks", "rm", "--force", name])
        self._machine.run([*ctr, "containers", "rm", name])

    def run_pod(self, access: Access, pod: Object, *, timeout: float) -> tuple[Object, str]:
        """Run a pod to its end in a name space of its own; returns it as it ended, and its log. Raises CommandError."""
        namespace = pod["metadata"]["namespace"]
        try:
            kubectl.apply(
                self._machine, access, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
            )
            kubectl.apply(self._machine, access, pod)
            ended = self._wait_for_end(access, pod, timeout)
            return ended, self._pod_log(access, pod)
        finally:
            self._remove(access, pod)

    @contextmanager
    def _image(self, ctr: tuple[str, ...], image: str) -> Iterator[None]:
        """The image in containerd, pulled where it is not there and then removed again."""
        present = self._machine.run([*ctr, "images", "ls", "--quiet", f"name=={image}"]).stdout.strip() == image
        if not present:
            output = self._machine.run([*ctr, "images", "pull", image], timeout=PULL_SECONDS)
            if not output.ok:
                words = output.last_words(1) or (f"exit status {output.returncode}",)
                raise CommandError(
                    f"cannot pull {image}: {words[0]}", hint="verify.container_image in the profile names another"
                )
        try:
            yield
        finally:
            if not present:
                self._machine.run([*ctr, "images", "rm", image])

    def _wait_for_end(self, access: Access, pod: Object, timeout: float) -> Object:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            live = kubectl.get(self, access, "pod", name, namespace)
            if live and live.get("status", {}).get("phase") in ("Succeeded", "Failed"):
                return live
            self.wait(POLL_SECONDS)
        events = self._pod_events(access, name, namespace)
        hint = next(
            (hint for words, hint in POD_HINTS if any(words in event for event in events)),
            "verify.timeout in the profile",
        )
        raise CommandError(f"the pod did not end in {timeout:g} s", hint=hint, details=events)

    def _pod_events(self, access: Access, name: str, namespace: str) -> tuple[str, ...]:
        output = self.query(access.argv("get", "events", f"--namespace={namespace}", "--output=json"))
        items: list[dict[str, Any]] = json.loads(output.stdout).get("items", []) if output.ok else []
        concerned = [event for event in items if event.get("involvedObject", {}).get("name") == name]
        return tuple(f"event {event.get('reason')}: {event.get('message')}" for event in concerned[-5:])

    def _pod_log(self, access: Access, pod: Object) -> str:
        words = ["logs", pod["metadata"]["name"], f"--namespace={pod['metadata']['namespace']}"]
        output = self.query(access.argv(*words), timeout=access.timeout + 5)
        if not output.ok:
            raise kubectl.error(output)
        return output.stdout

    def _remove(self, access: Access, pod: Object) -> None:
        metadata = pod["metadata"]
        try:
            kubectl.delete(self._machine, access, "pod", metadata["name"], metadata["namespace"])
            kubectl.delete(self._machine, access, "namespace", metadata["namespace"])
        except HostError as error:
            raise HostError(
                f"the test's name space {metadata['namespace']} could not be removed: {error.message}",
                hint=f"kubectl delete namespace {metadata['namespace']}",
            ) from None
