"""Deletion: grace periods, finalizers, and the objects that go with their owner or their namespace."""

from __future__ import annotations

from gpunode.lab.kubernetes import errors
from gpunode.lab.kubernetes.clock import now
from gpunode.lab.kubernetes.kinds import KINDS, NAMESPACES, PODS, Kind, Object
from gpunode.lab.kubernetes.store import Key, Store

_FOREGROUND = "foregroundDeletion"


def _key(store: Store, kind: Kind, body: Object) -> Key:
    return store.key(kind, body["metadata"].get("namespace", ""), body["metadata"]["name"])


def settle(store: Store, kind: Kind, body: Object) -> Object:
    """Store the object, or take it out when its deletion was only waiting for its finalizers."""
    body = store.put(_key(store, kind, body), body)
    metadata = body["metadata"]
    waiting = "deletionTimestamp" in metadata and kind not in (PODS, NAMESPACES)
    if waiting and not metadata.get("finalizers"):
        _remove(store, kind, body)
    return body


def delete(store: Store, kind: Kind, body: Object, options: Object) -> Object:
    """Delete as DeleteOptions say; returns the object while it waits, a `Status` when it is gone."""
    metadata = body["metadata"]
    _check_preconditions(kind, metadata, options.get("preconditions", {}))
    if kind == PODS and body["spec"].get("nodeName") and options.get("gracePeriodSeconds") != 0:
        return _mark(store, kind, body, options.get("gracePeriodSeconds"))
    if kind == NAMESPACES:
        return _delete_namespace(store, body)
    policy = options.get("propagationPolicy", "Background")
    dependents = _dependents(store, metadata["uid"])
    if policy == "Orphan":
        _orphan(store, dependents, metadata["uid"])
    if policy == "Foreground" and dependents:
        metadata["finalizers"] = [*metadata.get("finalizers", []), _FOREGROUND]
    if metadata.get("finalizers"):
        body = _mark(store, kind, body, None)
        if policy == "Foreground":
            _delete_all(store, dependents)
        return body
    _remove(store, kind, body)
    details = {"name": metadata["name"], "group": kind.group, "kind": kind.plural, "uid": metadata["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _check_preconditions(kind: Kind, metadata: Object, wanted: Object) -> None:
    for field in ("uid", "resourceVersion"):
        if wanted.get(field) not in (None, metadata[field]):
            raise errors.stale(kind, metadata["name"])


def _mark(store: Store, kind: Kind, body: Object, grace: int | None) -> Object:
    if "deletionTimestamp" in body["metadata"]:
        return body
    seconds = grace if grace is not None else body.get("spec", {}).get("terminationGracePeriodSeconds", 0)
    body["metadata"] |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": seconds}
    return store.put(_key(store, kind, body), body)


def _remove(store: Store, kind: Kind, body: Object) -> None:
    """Take the object out, then what belongs to it, then what was only waiting for it."""
    metadata = body["metadata"]
    store.delete(_key(store, kind, body))
    _delete_all(store, _dependents(store, metadata["uid"]))
    for reference in metadata.get("ownerReferences", []):
        _release_owner(store, reference["uid"])
    _finish_namespace(store, metadata.get("namespace", ""))


def _dependents(store: Store, uid: str) -> list[tuple[Kind, Object]]:
    found = ((kind, body) for kind in KINDS for body in store.list(kind))
    return [(kind, body) for kind, body in found if uid in _owner_uids(body)]


def _owner_uids(body: Object) -> list[str]:
    return [reference["uid"] for reference in body["metadata"].get("ownerReferences", [])]


def _delete_all(store: Store, found: list[tuple[Kind, Object]]) -> None:
    for kind, body in found:
        live = store.get(_key(store, kind, body))
        if live is not None:
            delete(store, kind, live, {})


def _orphan(store: Store, dependents: list[tuple[Kind, Object]], uid: str) -> None:
    for kind, body in dependents:
        references = [item for item in body["metadata"]["ownerReferences"] if item["uid"] != uid]
        body["metadata"]["ownerReferences"] = references
        store.put(_key(store, kind, body), body)


def _release_owner(store: Store, uid: str) -> None:
    if _dependents(store, uid):
        return
    for kind in KINDS:
        for body in store.list(kind):
            finalizers = body["metadata"].get("finalizers", [])
            if body["metadata"]["uid"] == uid and _FOREGROUND in finalizers:
                body["metadata"]["finalizers"] = [item for item in finalizers if item != _FOREGROUND]
                settle(store, kind, body)


def _delete_namespace(store: Store, body: Object) -> Object:
    name = body["metadata"]["name"]
    if name in {"default", "kube-system"}:
        raise errors.forbidden(NAMESPACES, name, "this namespace may not be deleted")
    body["status"] = {"phase": "Terminating"}
    body = _mark(store, NAMESPACES, body, None)
    _delete_all(store, [(kind, item) for kind in KINDS if kind.namespaced for item in store.list(kind, name)])
    _finish_namespace(store, name)
    return body


def _finish_namespace(store: Store, name: str) -> None:
    body = store.get(store.key(NAMESPACES, "", name)) if name else None
    if body is None or "deletionTimestamp" not in body["metadata"]:
        return
    if not any(store.list(kind, name) for kind in KINDS if kind.namespaced):
        store.delete(store.key(NAMESPACES, "", name))
