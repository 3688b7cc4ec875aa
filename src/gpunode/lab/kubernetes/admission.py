"""What the API server checks before it stores an object."""

from __future__ import annotations

import re
from typing import Any

from gpunode.lab.kubernetes import errors
from gpunode.lab.kubernetes.kinds import (
    DAEMON_SETS,
    NAMESPACES,
    PODS,
    PRIORITY_CLASSES,
    RUNTIME_CLASSES,
    Kind,
    Object,
)
from gpunode.lab.kubernetes.selectors import label_selector_text, labels_match
from gpunode.lab.kubernetes.store import Store

_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
_NAME_RULE = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"

_IMMUTABLE: dict[str, tuple[str, ...]] = {
    DAEMON_SETS.qualified: ("spec.selector",),
    RUNTIME_CLASSES.qualified: ("handler",),
    PRIORITY_CLASSES.qualified: ("value",),
    PODS.qualified: ("spec.nodeSelector", "spec.runtimeClassName", "spec.restartPolicy", "spec.volumes"),
}

_REQUIRED: dict[str, tuple[str, ...]] = {
    DAEMON_SETS.qualified: ("spec.selector", "spec.template.spec.containers"),
    RUNTIME_CLASSES.qualified: ("handler",),
    PODS.qualified: ("spec.containers",),
}


def _field(body: Object, path: str) -> Any:
    value: Any = body
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def validate(kind: Kind, body: Object, live: Object | None) -> None:
    """Raise ApiError (422) when the object breaks a rule of its kind, or changes what cannot be changed."""
    name = body["metadata"]["name"]
    if not _NAME.match(name) and kind.plural != "events":
        raise errors.invalid(kind, name, "metadata.name", f'Invalid value: "{name}": {_NAME_RULE}')
    for path in _REQUIRED.get(kind.qualified, ()):
        if not _field(body, path):
            raise errors.invalid(kind, name, path, "Required value")
    for path in _IMMUTABLE.get(kind.qualified, ()) if live else ():
        if _field(body, path) != _field(live or {}, path):
            raise errors.invalid(kind, name, path, f'Invalid value: "{_field(body, path)}": field is immutable')
    if kind == DAEMON_SETS:
        labels = _field(body, "spec.template.metadata.labels") or {}
        if not labels_match(label_selector_text(body["spec"]["selector"]), labels):
            why = "Invalid value: `selector` does not match template `labels`"
            raise errors.invalid(kind, name, "spec.template.metadata.labels", why)


def admit_new(store: Store, kind: Kind, body: Object) -> None:
    """Checks of an object against others at its creation; raises ApiError (403 or 404). Resolves a pod's priority."""
    namespace = body["metadata"].get("namespace", "")
    if kind.namespaced:
        home = store.get(store.key(NAMESPACES, "", namespace))
        if home is None:
            raise errors.not_found(NAMESPACES, namespace)
        if "deletionTimestamp" in home["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise errors.forbidden(kind, body["metadata"]["name"], why)
    if kind == PODS:
        _admit_pod(store, body)


def _admit_pod(store: Store, body: Object) -> None:
    name, spec = body["metadata"]["name"], body["spec"]
    priority = spec.get("priorityClassName")
    if priority:
        found = store.get(store.key(PRIORITY_CLASSES, "", priority))
        if found is None:
            raise errors.forbidden(PODS, name, f"no PriorityClass with name {priority} was found")
        spec["priority"] = found["value"]
    runtime = spec.get("runtimeClassName")
    if runtime and store.get(store.key(RUNTIME_CLASSES, "", runtime)) is None:
        raise errors.forbidden(PODS, name, f'pod rejected: RuntimeClass "{runtime}" not found')
