"""kubectl against an object store of the lab's own API server, without the server."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpunode.lab.kubernetes import api, eviction
from gpunode.lab.kubernetes.api import Options, Target
from gpunode.lab.kubernetes.errors import ApiError
from gpunode.lab.kubernetes.kinds import KINDS, Kind
from gpunode.lab.kubernetes.store import Store
from memory.command import Answer, Call

if TYPE_CHECKING:
    from memory.machine import MemoryMachine

Object = dict[str, Any]
NODE = "gpu-1"
PLUGIN = "nvidia-device-plugin-daemonset"
SOCKET = "/var/lib/kubelet/device-plugins/nvidia-gpu.sock"


class Cluster(Store):
    """The API server's objects. Nothing is kept on a disk."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"))
        for name in ("default", "kube-system"):
            self.change({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "kube-apiserver")
        self.change({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}, "kubelet")

    def _load(self) -> None:
        """Begin empty."""

    def _save(self) -> None:
        """Keep nothing."""

    def copy(self) -> Cluster:
        """Another cluster with the same objects."""
        other = Cluster.__new__(Cluster)
        Store.__init__(other, Path("/nonexistent"))
        other._objects, other.version = copy.deepcopy(self._objects), self.version
        return other

    def change(self, body: Object, manager: str, *, dry_run: bool = False, force: bool = False) -> Object:
        """Server-side apply by a manager. Raises ApiError."""
        kind = _kind(body["kind"])
        target = Target(kind, body["metadata"].get("namespace", "default"), body["metadata"]["name"])
        options = Options(manager, dry_run=dry_run, force=force)
        with self.lock:
            return api.patch(self, target, "application/apply-patch+yaml", json.dumps(body).encode(), options)

    def find(self, kind: str, name: str, namespace: str = "default") -> Object | None:
        """A copy of the object; None when there is none."""
        found = _kind(kind)
        return self.get(self.key(found, namespace, name))

    def addresses(self) -> list[tuple[str, str, str]]:
        """The objects' kinds, namespaces and names."""
        return sorted(self._objects)

    def drop(self, kind: str, name: str, namespace: str = "default") -> None:
        """Delete an object."""
        with self.lock:
            self.delete(self.key(_kind(kind), namespace, name))


def kubectl(machine: MemoryMachine, call: Call) -> Answer:
    """`kubectl get | apply --server-side | delete | rollout status | cordon | uncordon | create --raw=…/eviction | version`."""
    if machine.cluster is None:
        words = "The connection to the server localhost:6443 was refused - did you specify the right host or port?"
        return Answer(stderr=f"{words}\n", status=1)
    verb, *rest = call.operands()
    try:
        if verb == "get":
            return _get(machine.cluster, call, rest)
        if verb == "apply":
            return _apply(machine, machine.cluster, call)
        if verb == "delete":
            return _delete(machine, machine.cluster, call, rest)
        if verb == "rollout":
            return _rollout(machine.cluster, call, rest)
        if verb in ("cordon", "uncordon"):
            return _schedule(machine, machine.cluster, rest[0], cordon=verb == "cordon")
        if verb == "create":
            return _evict(machine, machine.cluster, call)
        return Answer(json.dumps({"serverVersion": {"gitVersion": "v1.35.0"}}) + "\n")
    except ApiError as error:
        return Answer(stderr=_words(error), status=1)


def _get(cluster: Cluster, call: Call, rest: list[str]) -> Answer:
    namespace = call.option("namespace", "default")
    everywhere = "--all-namespaces" in call.words
    if "/" in rest[0]:
        pairs = (word.partition("/") for word in rest)
        items = [each for kind, _, name in pairs if (each := _named(cluster, kind, name, namespace))]
        return Answer(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}) + "\n")
    kind, *names = rest
    if not names:
        items = cluster.list(_kind(kind), namespace if _kind(kind).namespaced and not everywhere else "")
        return Answer(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}) + "\n")
    found = _named(cluster, kind, names[0], namespace)
    if found is None:
        if "--ignore-not-found" in call.words:
            return Answer()
        return Answer(
            stderr=f'Error from server (NotFound): {_kind(kind).qualified} "{names[0]}" not found\n', status=1
        )
    if "--show-managed-fields" not in call.words:
        found["metadata"].pop("managedFields", None)
    return Answer(json.dumps(found) + "\n")


def _named(cluster: Cluster, kind: str, name: str, namespace: str) -> Object | None:
    found = cluster.find(kind, name, namespace)
    if found and found["kind"] == "DaemonSet":  # its controller is quick
        counts = ("desiredNumberScheduled", "numberReady", "updatedNumberScheduled")
        found["status"] = {"observedGeneration": found["metadata"]["generation"], **dict.fromkeys(counts, 1)}
    return found


def _apply(machine: MemoryMachine, cluster: Cluster, call: Call) -> Answer:
    body = json.loads(call.stdin)
    manager = call.option("field-manager", "kubectl")
    force = "--force-conflicts" in call.words
    would_be = cluster.change(body, manager, dry_run=True, force=force)
    if "--dry-run=server" in call.words:
        return Answer(json.dumps(would_be) + "\n")
    name = f"{body['kind'].lower()}/{body['metadata']['name']}"
    machine.effect(f"apply {name}", lambda: _change(machine, cluster, body, manager, force=force))
    found = cluster.find(body["kind"], body["metadata"]["name"], body["metadata"].get("namespace", "default"))
    return Answer(json.dumps(found) + "\n")


def _change(machine: MemoryMachine, cluster: Cluster, body: Object, manager: str, *, force: bool) -> None:
    cluster.change(body, manager, force=force)
    if body["kind"] == "DaemonSet":  # its plugin registers at once
        machine.files.lay(SOCKET, "")


def _drop(machine: MemoryMachine, cluster: Cluster, kind: str, name: str, namespace: str) -> None:
    cluster.drop(kind, name, namespace)
    if (kind, name) == ("daemonset", PLUGIN):
        machine.files.erase(SOCKET)


def _delete(machine: MemoryMachine, cluster: Cluster, call: Call, rest: list[str]) -> Answer:
    kind, name = rest
    namespace = call.option("namespace", "default")
    if cluster.find(kind, name, namespace) is None:
        if "--ignore-not-found" in call.words:
            return Answer()
        return Answer(stderr=f'Error from server (NotFound): {_kind(kind).qualified} "{name}" not found\n', status=1)
    machine.effect(f"delete {kind}/{name}", lambda: _drop(machine, cluster, kind, name, namespace))
    return Answer(f'{_kind(kind).qualified} "{name}" deleted\n')


def _schedule(machine: MemoryMachine, cluster: Cluster, node: str, *, cordon: bool) -> Answer:
    """As an update by kubectl, which keeps what others have set."""
    body = cluster.find("node", node, "")
    if body is None:
        return Answer(stderr=f'Error from server (NotFound): nodes "{node}" not found\n', status=1)
    body["spec"] = {"unschedulable": True} if cordon else {}
    target = Target(_kind("node"), "", node)
    word = "cordon" if cordon else "uncordon"
    machine.effect(f"{word} {node}", lambda: _update(cluster, target, body))
    return Answer(f"node/{node} {word}ed\n")


def _update(cluster: Cluster, target: Target, body: Object) -> None:
    with cluster.lock:
        api.update(cluster, target, body, Options("kubectl-cordon"))


def _evict(machine: MemoryMachine, cluster: Cluster, call: Call) -> Answer:
    """The kubelet is quick: the pod and its processes are gone at once."""
    namespace, name = call.option("raw").split("/")[4:7:2]
    pod = cluster.find("pod", name, namespace)
    if pod is None:
        return Answer(stderr=f'Error from server (NotFound): pods "{name}" not found\n', status=1)
    eviction.evict(cluster, pod, json.loads(call.stdin), dry_run=True)
    machine.effect(f"evict {namespace}/{name}", lambda: _end_pod(machine, cluster, pod))
    return Answer('{"kind": "Status", "status": "Success"}\n')


def _end_pod(machine: MemoryMachine, cluster: Cluster, pod: Object) -> None:
    metadata = pod["metadata"]
    cluster.drop("pod", metadata["name"], metadata["namespace"])
    for pid in machine.files.names("/proc"):
        if metadata["uid"] in machine.files.text(f"/proc/{pid}/cgroup"):
            machine.files.erase(f"/proc/{pid}")


def _rollout(cluster: Cluster, call: Call, rest: list[str]) -> Answer:
    kind, name = rest[1].split("/") if "/" in rest[1] else rest[1:]
    if cluster.find(kind, name, call.option("namespace", "default")) is None:
        return Answer(stderr=f'Error from server (NotFound): {_kind(kind).qualified} "{name}" not found\n', status=1)
    return Answer(f'daemon set "{name}" successfully rolled out\n')


def _kind(word: str) -> Kind:
    lower = word.lower()
    for kind in KINDS:
        if lower in (kind.plural, kind.kind.lower(), kind.qualified, *kind.short):
            return kind
    raise ApiError(404, "NotFound", f'the server doesn\'t have a resource type "{word}"')


def _words(error: ApiError) -> str:
    if error.reason == "Conflict":
        return f"error: Apply failed with 1 conflict: {error.message}\n"
    return f"Error from server ({error.reason}): {error.message}\n"
