"""The DaemonSet controller of a cluster with one node."""

from __future__ import annotations

import hashlib
import json
import time

from gpunode.lab.kubernetes.client import Client
from gpunode.lab.kubernetes.errors import ApiError
from gpunode.lab.kubernetes.events import Recorder
from gpunode.lab.kubernetes.kinds import DAEMON_SETS, PODS, Object
from gpunode.lab.kubernetes.scheduling import fits_node, tolerates

_HASH = "controller-revision-hash"
_RETRY_SECONDS = 5.0
_TOLERATIONS: list[Object] = [
    {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": effect}
    for name, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
]


def owned(owner: Object, pods: list[Object]) -> list[Object]:
    """The pods that belong to the owner."""
    uid = owner["metadata"]["uid"]
    return [pod for pod in pods if any(ref["uid"] == uid for ref in pod["metadata"].get("ownerReferences", []))]


def template_hash(daemon_set: Object) -> str:
    """The label value that tells pods of this template from older ones."""
    text = json.dumps(daemon_set["spec"]["template"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def pod_for(daemon_set: Object) -> Object:
    """The pod that the template asks for."""
    template, metadata = daemon_set["spec"]["template"], daemon_set["metadata"]
    labels = {**template["metadata"].get("labels", {}), _HASH: template_hash(daemon_set)}
    labels["pod-template-generation"] = str(metadata["generation"])
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": metadata["name"], "uid": metadata["uid"]}
    owner |= {"controller": True, "blockOwnerDeletion": True}
    head: Object = {"generateName": f"{metadata['name']}-", "labels": labels, "ownerReferences": [owner]}
    if "annotations" in template["metadata"]:
        head["annotations"] = template["metadata"]["annotations"]
    spec = {**template["spec"], "tolerations": [*template["spec"].get("tolerations", []), *_TOLERATIONS]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": head, "spec": spec}


def status_of(daemon_set: Object, mine: list[Object], *, wanted: bool) -> Object:
    """The DaemonSet's status given its pods."""
    live = [pod for pod in mine if "deletionTimestamp" not in pod["metadata"]]
    current = [pod for pod in live if pod["metadata"]["labels"].get(_HASH) == template_hash(daemon_set)]
    ready = [pod for pod in live if _is_ready(pod)]
    status = {
        "observedGeneration": daemon_set["metadata"]["generation"],
        "desiredNumberScheduled": int(wanted),
        "currentNumberScheduled": len(live) if wanted else 0,
        "numberMisscheduled": 0 if wanted else len(live),
        "updatedNumberScheduled": len(current),
        "numberReady": len(ready),
        "numberAvailable": len(ready),
        "numberUnavailable": int(wanted) - len(ready),
    }
    optional = ("updatedNumberScheduled", "numberAvailable", "numberUnavailable")
    return {key: value for key, value in status.items() if value > 0 or key not in optional}


def _is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


class Controller:
    """Keeps one pod of every DaemonSet on the node."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._events = Recorder(client, "daemonset-controller")
        self._not_before: dict[str, float] = {}

    def sync(self, node: Object, pods: list[Object]) -> None:
        """Make and delete pods, and write the sets' statuses."""
        for daemon_set in self._client.list(DAEMON_SETS):
            if "deletionTimestamp" in daemon_set["metadata"]:
                continue
            spec = pod_for(daemon_set)["spec"]
            wanted = fits_node(spec, node) and tolerates(spec, node)
            mine = owned(daemon_set, pods)
            self._converge(daemon_set, mine, wanted=wanted)
            self._report(daemon_set, status_of(daemon_set, mine, wanted=wanted))

    def _converge(self, daemon_set: Object, mine: list[Object], *, wanted: bool) -> None:
        if not mine and wanted:
            self._create(daemon_set)
        rolling = daemon_set["spec"]["updateStrategy"]["type"] == "RollingUpdate"
        for number, pod in enumerate(mine):
            metadata = pod["metadata"]
            stale = rolling and metadata["labels"].get(_HASH) != template_hash(daemon_set)
            failed = pod["status"].get("phase") in ("Failed", "Succeeded")
            if (stale or failed or not wanted or number > 0) and "deletionTimestamp" not in metadata:
                self._events.record(daemon_set, "SuccessfulDelete", f"Deleted pod: {metadata['name']}")
                self._client.delete(PODS, pod)

    def _create(self, daemon_set: Object) -> None:
        metadata = daemon_set["metadata"]
        if time.monotonic() < self._not_before.get(metadata["uid"], 0.0):
            return
        self._not_before[metadata["uid"]] = time.monotonic() + _RETRY_SECONDS
        try:
            pod = self._client.create(PODS, metadata["namespace"], pod_for(daemon_set))
        except ApiError as error:
            self._events.record(daemon_set, "FailedCreate", f"Error creating: {error.message}", warning=True)
        else:
            self._events.record(daemon_set, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
            del self._not_before[metadata["uid"]]

    def _report(self, daemon_set: Object, status: Object) -> None:
        old = daemon_set.get("status", {})
        if old != status:
            gone = dict.fromkeys(old.keys() - status.keys())
            self._client.patch(DAEMON_SETS, daemon_set, {"status": status | gone}, "status")
