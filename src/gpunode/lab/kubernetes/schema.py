"""How lists and maps of the served kinds merge, and the defaults the server fills in.

The merge rules are those of Kubernetes' published OpenAPI (`x-kubernetes-list-type`, `x-kubernetes-map-type`,
`x-kubernetes-patch-merge-key`), kept by field name: within the kinds served here a name never has two meanings.
"""

from __future__ import annotations

from typing import Any

from gpunode.lab.kubernetes.kinds import Object

LIST_KEYS: dict[str, tuple[str, ...]] = {
    "addresses": ("type",),
    "conditions": ("type",),
    "containers": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "ports": ("containerPort", "protocol"),
    "secrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
"""Lists whose items are told apart by these keys."""

SETS = frozenset({"finalizers"})
"""Lists of scalars without order."""

ATOMIC = frozenset(
    {"selector", "nodeSelector", "fieldRef", "configMapKeyRef", "secretKeyRef", "resourceFieldRef"}
    | {"requiredDuringSchedulingIgnoredDuringExecution", "involvedObject", "nodeInfo"}
)
"""Maps that are owned and replaced as a whole."""

STRATEGIC_KEYS = {name: keys[0] for name, keys in LIST_KEYS.items()} | {"taints": "key"}
"""Merge keys of strategic merge patches."""

_KEY_DEFAULTS = {"protocol": "TCP"}


def item_key(name: str, item: Any) -> dict[str, Any] | None:
    """The key of an item of the associative list `name`; None for any other list."""
    if name not in LIST_KEYS or not isinstance(item, dict):
        return None
    return {key: item.get(key, _KEY_DEFAULTS.get(key)) for key in LIST_KEYS[name]}


def is_atomic(name: str, value: Any) -> bool:
    """Whether the field `name` is owned as a whole."""
    if isinstance(value, dict):
        return name in ATOMIC or not value
    return not (isinstance(value, list) and (name in LIST_KEYS or name in SETS) and value)


def normalise(value: Any, name: str = "") -> Any:
    """The object as the server's types write it: quantities are strings, null and empty maps are left out."""
    if isinstance(value, list):
        return [normalise(item) for item in value]
    if not isinstance(value, dict):
        return value
    if name in {"limits", "requests", "capacity", "allocatable"}:
        return {key: str(item) for key, item in value.items()}
    cleaned = {key: normalise(item, key) for key, item in value.items() if item is not None}
    return {key: item for key, item in cleaned.items() if not (key in {"labels", "annotations"} and not item)}


def _fill(target: Object, defaults: Object) -> None:
    for key, value in defaults.items():
        target.setdefault(key, value)


def _default_container(container: Object) -> None:
    reference = container.get("image", "").rpartition("/")[2]
    tag = reference.partition("@")[0].partition(":")[2]
    pull = "Always" if tag in {"", "latest"} and "@" not in reference else "IfNotPresent"
    _fill(container, {"imagePullPolicy": pull, "terminationMessagePath": "/dev/termination-log"})
    _fill(container, {"terminationMessagePolicy": "File", "resources": {}})
    for port in container.get("ports", []):
        _fill(port, {"protocol": "TCP"})
    limits = container["resources"].get("limits")
    if limits:
        container["resources"]["requests"] = {**limits, **container["resources"].get("requests", {})}


def default_pod_spec(spec: Object) -> None:
    """Fill in what the server does for a pod or a pod template."""
    _fill(spec, {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"})
    _fill(spec, {"terminationGracePeriodSeconds": 30, "securityContext": {}})
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        _default_container(container)
    for volume in spec.get("volumes", []):
        if "hostPath" in volume:
            _fill(volume["hostPath"], {"type": ""})
        for source in ("configMap", "secret"):
            if source in volume:
                _fill(volume[source], {"defaultMode": 0o644})


def _default_daemon_set(body: Object) -> None:
    spec = body.setdefault("spec", {})
    _fill(spec, {"revisionHistoryLimit": 10, "updateStrategy": {}})
    _fill(spec["updateStrategy"], {"type": "RollingUpdate"})
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        _fill(spec["updateStrategy"], {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    default_pod_spec(template.setdefault("spec", {}))
    _fill(body, {"status": {}})
    counters = ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady")
    _fill(body["status"], dict.fromkeys(counters, 0))


def _default_pod(body: Object) -> None:
    spec = body.setdefault("spec", {})
    default_pod_spec(spec)
    _fill(spec, {"enableServiceLinks": True, "preemptionPolicy": "PreemptLowerPriority", "priority": 0})
    _fill(spec, {"serviceAccountName": "default"})
    _fill(body, {"status": {"phase": "Pending", "qosClass": "BestEffort"}})


def apply_defaults(body: Object) -> None:
    """Fill in the defaults of the object's kind, in place."""
    kind = body.get("kind")
    if kind == "Pod":
        _default_pod(body)
    elif kind == "DaemonSet":
        _default_daemon_set(body)
    elif kind == "Namespace":
        body.setdefault("metadata", {}).setdefault("labels", {})["kubernetes.io/metadata.name"] = body["metadata"][
            "name"
        ]
        _fill(body, {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
    elif kind == "Secret":
        _fill(body, {"type": "Opaque"})
    elif kind == "PriorityClass":
        _fill(body, {"preemptionPolicy": "PreemptLowerPriority"})
