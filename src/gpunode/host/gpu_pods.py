"""The pods of this node that use its GPUs: those that ask for them, and those whose processes have them open."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from gpunode.host import kubectl
from gpunode.host.gpu_users import GpuUser
from gpunode.host.kubectl import Access, Object
from gpunode.host.reader import Reader

RESOURCES = "nvidia.com/"
MIRROR = "kubernetes.io/config.mirror"
"""The annotation of a pod that the kubelet runs from a file: the API only shows it, and cannot end it."""
ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class GpuPod:
    """A pod. `owner` is its controller's kind and name, empty for a pod that nothing makes anew; `labels` are its own, and `restarts`
    how often its containers had been started again when it was looked at.
    """

    namespace: str
    name: str
    uid: str
    owner: str = ""
    mirror: bool = False
    restarts: int = 0
    labels: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.name}"

    @property
    def stays(self) -> bool:
        """Whether it belongs to the node, so that eviction would bring it back at once: a DaemonSet's, or the kubelet's own."""
        return self.mirror or self.owner.startswith("DaemonSet ")

    def has(self, user: GpuUser) -> bool:
        """Whether a process is one of its containers': the pod's uid is in its control group, with systemd's naming or without."""
        return self.uid in user.cgroup or self.uid.replace("-", "_") in user.cgroup


def gpu_pods(reader: Reader, access: Access, node: str, users: tuple[GpuUser, ...]) -> tuple[GpuPod, ...]:
    """The node's pods that ask for NVIDIA's resources or to which one of `users` belongs. Raises CommandError."""
    words = ("get", "pods", "--all-namespaces", f"--field-selector=spec.nodeName={node}", "--output=json")
    output = reader.query(access.argv(*words), timeout=access.timeout + 5)
    if not output.ok:
        raise kubectl.error(output)
    found = [(body, _pod(body)) for body in json.loads(output.stdout).get("items", [])]
    return tuple(
        pod
        for body, pod in found
        if body.get("status", {}).get("phase") not in ENDED and (_asks(body) or any(pod.has(user) for user in users))
    )


def _pod(body: Object) -> GpuPod:
    metadata = body["metadata"]
    owners = [each for each in metadata.get("ownerReferences", []) if each.get("controller")]
    return GpuPod(
        metadata["namespace"],
        metadata["name"],
        metadata["uid"],
        owner=f"{owners[0]['kind']} {owners[0]['name']}" if owners else "",
        mirror=MIRROR in metadata.get("annotations", {}),
        restarts=_restarts(body),
        labels=metadata.get("labels", {}),
    )


def _restarts(body: Object) -> int:
    return sum(each["restartCount"] for each in body.get("status", {}).get("containerStatuses", []))


def _asks(body: Object) -> bool:
    containers = [*body["spec"].get("containers", []), *body["spec"].get("initContainers", [])]
    return any(
        name.startswith(RESOURCES) for each in containers for name in each.get("resources", {}).get("limits", {})
    )


def is_there(reader: Reader, access: Access, pod: GpuPod) -> bool:
    """Whether this very pod is still there and has not ended. Raises CommandError."""
    live = kubectl.get(reader, access, "pod", pod.name, pod.namespace)
    if live is None or live["metadata"]["uid"] != pod.uid:
        return False
    return live.get("status", {}).get("phase") not in ENDED


def is_back(reader: Reader, access: Access, pod: GpuPod) -> bool:
    """Whether the pod is ready, its containers started again since it was looked at; or is no more. Raises CommandError."""
    live = kubectl.get(reader, access, "pod", pod.name, pod.namespace)
    if live is None or live["metadata"]["uid"] != pod.uid:
        return True
    conditions = live.get("status", {}).get("conditions", [])
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and _restarts(live) > pod.restarts
