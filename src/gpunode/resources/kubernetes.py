"""Objects in the cluster, and a DaemonSet's rollout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpunode.errors import CommandError, HostError
from gpunode.formats.applied_fields import is_applied
from gpunode.host import kubectl
from gpunode.host.kubectl import Access, Address, Object
from gpunode.host.reader import Reader
from gpunode.host.verbs.objects import address
from gpunode.host.writer import Writer
from gpunode.resources.base import Difference, Local

SERVER_SIDE = frozenset(
    (
        "managedFields",
        "resourceVersion",
        "uid",
        "generation",
        "creationTimestamp",
        "selfLink",
        "deprecated.daemonset.template.generation",
    )
)
"""Fields that the server keeps for itself: they differ without anybody having changed a thing."""
REGISTRATION_SECONDS = 20
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class ObjectState:
    """The live object, and what the server would make of it with our manifest applied."""

    live: Object | None
    wanted: Object


@dataclass(frozen=True)
class KubeObject(Local):
    """An object as gpunode's field manager wants it; other managers' fields are not looked at.

    `beside` are the objects that are looked up in the same question, itself among them.
    """

    access: Access
    manifest: Object
    why: str
    beside: tuple[Address, ...]

    @property
    def id(self) -> str:
        """`object:kind/name`."""
        kind, name, _ = address(self.manifest)
        return f"object:{kind}/{name}"

    def observe(self, host: Reader) -> ObjectState:
        """The live object and the server's own dry run, which is spared where the object's record shows what that would say.

        Raises CommandError when the cluster cannot be asked.
        """
        live = kubectl.get_of(host, self.access, self.beside, address(self.manifest))
        if live is not None and is_applied(live, self.manifest, kubectl.FIELD_MANAGER):
            return ObjectState(live, live)
        return ObjectState(live, kubectl.dry_run(host, self.access, self.manifest))

    def differences(self, state: ObjectState) -> list[Difference]:
        """Absent, or one for each field that the server would change."""
        if state.live is None:
            return [Difference("object", "absent", "applied", self.why, _manifest_diff(self.manifest))]
        before, after = dict(_leaves(state.live)), dict(_leaves(state.wanted))
        fields = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        return [
            Difference(path, _word(before.get(path)), _word(after.get(path)), self.why)
            for path in fields
            if not path.startswith("status.")
        ]

    def converge(self, host: Writer, _state: ObjectState) -> None:
        """Apply it."""
        host.apply_object(self.access, self.manifest)


@dataclass(frozen=True)
class RolloutState:
    """A DaemonSet's pods: how many there should be, and how many are up to date and ready. None when there is no DaemonSet.

    `sockets` are the plugins' sockets beside the kubelet's.
    """

    desired: int | None
    ready: int
    sockets: tuple[str, ...]


@dataclass(frozen=True)
class Rollout(Local):
    """The device plugin's DaemonSet: its pods all ready, and the one of this node registered with the kubelet in `folder`."""

    access: Access
    name: str
    namespace: str
    folder: str
    timeout: int
    beside: tuple[Address, ...]

    @property
    def id(self) -> str:
        """`rollout:NAME`."""
        return f"rollout:{self.name}"

    def observe(self, host: Reader) -> RolloutState:
        """The DaemonSet's own status, and the kubelet's folder."""
        sockets = tuple(host.glob(self.folder, "nvidia*.sock"))
        live = kubectl.get_of(host, self.access, self.beside, ("daemonset", self.name, self.namespace))
        if live is None:
            return RolloutState(None, 0, sockets)
        status = live.get("status", {})
        current = status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0)
        ready = min(status.get("numberReady", 0), status.get("updatedNumberScheduled", 0)) if current else 0
        return RolloutState(status.get("desiredNumberScheduled", 0) if current else 0, ready, sockets)

    def differences(self, state: RolloutState) -> list[Difference]:
        """Pods that are not ready. A DaemonSet that finds no node to run on is not rolled out either."""
        why = "a plugin that does not run, or has not registered, offers no GPU"
        if state.desired is None or not 0 < state.desired <= state.ready:
            found = "absent" if state.desired is None else f"{state.ready} of {state.desired} pods ready"
            return [Difference("pods", found, "all ready", why)]
        if not state.sockets:
            return [
                Difference("registration", f"no plugin socket in {self.folder}", "registered with the kubelet", why)
            ]
        return []

    def converge(self, host: Writer, _state: RolloutState) -> None:
        """Wait for both. Raises CommandError with the pods' events and last log lines."""
        words = [
            "rollout",
            "status",
            f"daemonset/{self.name}",
            f"--namespace={self.namespace}",
            f"--timeout={self.timeout}s",
        ]
        output = host.watch(self.access.argv(*words), timeout=self.timeout + 10)
        host.forget()
        if output.ok:
            self._await_registration(host)
        left = self.differences(self.observe(host))
        if not output.ok or left:
            what = left[0].found if left else f"not rolled out after {self.timeout} s"
            raise CommandError(
                f"the DaemonSet {self.name} is not ready: {what}",
                hint=f"see `kubectl -n {self.namespace} describe daemonset {self.name}`",
                details=(*self._unplaced(host), *self._waiting(host), *self._events(host), *self._log(host)),
            )

    def _await_registration(self, host: Writer) -> None:
        host.tell(f"waiting for the plugin's socket in {self.folder}")
        deadline = host.now() + REGISTRATION_SECONDS
        while self.differences(self.observe(host)) and host.now() < deadline:
            host.wait(POLL_SECONDS)

    def _unplaced(self, host: Reader) -> tuple[str, ...]:
        """Why there is no pod at all, where no node takes one."""
        if self.observe(host).desired != 0:
            return ()
        return (
            "no node takes its pods: none has a label that they look for, or all have a taint that they do not tolerate",
        )

    def _waiting(self, host: Reader) -> tuple[str, ...]:
        """Containers of its pods that wait, or have ended, in the kubelet's words."""
        output = host.query(self.access.argv("get", "pods", f"--namespace={self.namespace}", "--output=json"))
        pods = json.loads(output.stdout).get("items", []) if output.ok else []
        return tuple(
            f"pod {pod['metadata']['name']}: {kind}: {state.get('reason', '')} {state.get('message', '')}".rstrip()
            for pod in pods
            if pod["metadata"]["name"].startswith(self.name)
            for container in pod.get("status", {}).get("containerStatuses", [])
            for kind, state in container.get("state", {}).items()
            if kind != "running"
        )

    def _events(self, host: Reader) -> tuple[str, ...]:
        output = host.query(self.access.argv("get", "events", f"--namespace={self.namespace}", "--output=json"))
        if not output.ok:
            return ()
        events = [event for event in json.loads(output.stdout).get("items", []) if self._concerns(event)]
        return tuple(f"event {event.get('reason')}: {event.get('message')}" for event in events[-5:])

    def _concerns(self, event: Object) -> bool:
        return str(event.get("involvedObject", {}).get("name", "")).startswith(self.name)

    def _log(self, host: Reader) -> tuple[str, ...]:
        argv = self.access.argv("logs", f"daemonset/{self.name}", f"--namespace={self.namespace}", "--tail=8")
        try:
            output = host.query(argv, timeout=15)
        except HostError:
            return ()
        return tuple(f"log: {line}" for line in output.stdout.splitlines()) if output.ok else ()


@dataclass(frozen=True)
class PluginSocket(Local):
    """The device plugin's socket beside the kubelet's in `folder`: it is there once the plugin serves. `timeout` in seconds."""

    folder: str
    timeout: int

    @property
    def id(self) -> str:
        """`socket:FOLDER`."""
        return f"socket:{self.folder}"

    def observe(self, host: Reader) -> tuple[str, ...]:
        """The plugins' sockets."""
        return tuple(host.glob(self.folder, "nvidia*.sock"))

    def differences(self, state: tuple[str, ...]) -> list[Difference]:
        """None of them there."""
        why = "a plugin that does not run offers no GPU"
        return [] if state else [Difference("plugin", "no socket of a device plugin", "one", why)]

    def converge(self, host: Writer, _state: tuple[str, ...]) -> None:
        """Wait for it. Raises CommandError."""
        host.tell(f"waiting for the plugin's socket in {self.folder}")
        deadline = host.now() + self.timeout
        while not self.observe(host):
            if host.now() > deadline:
                raise CommandError(
                    f"the kubelet has not brought up the device plugin in {self.timeout} s: no socket in {self.folder}",
                    hint="see `journalctl --unit kubelet`, and the pod's log in /var/log/pods",
                )
            host.wait(POLL_SECONDS)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of an object with its path; a list's items are named by their `name` where they have one."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            if key not in SERVER_SIDE:
                yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            name = inner.get("name", number) if isinstance(inner, dict) else number
            yield from _leaves(inner, f"{path}[{name}]")
    else:
        yield path, value


def _word(value: Any) -> str:
    return "absent" if value is None else value if isinstance(value, str) else json.dumps(value)


def _manifest_diff(manifest: Object) -> str:
    from gpunode.formats.manifests import to_yaml

    return "".join(f"+{line}\n" for line in to_yaml(manifest).splitlines())
