"""The verbs of the API, without HTTP: create, update, patch, apply and delete on the store."""

from __future__ import annotations

import copy
import json
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

import yaml

from gpunode.lab.kubernetes import admission, errors, garbage, managed_fields, patches, schema
from gpunode.lab.kubernetes.clock import now
from gpunode.lab.kubernetes.kinds import Kind, Object
from gpunode.lab.kubernetes.managed_fields import Manager
from gpunode.lab.kubernetes.store import Store

_SERVER_OWNED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


@dataclass(frozen=True)
class Target:
    """What a request is about; `name` is empty for a collection."""

    kind: Kind
    namespace: str
    name: str
    subresource: str = ""


@dataclass(frozen=True)
class Options:
    """How a write is made: the field manager, and whether it is a dry run or forced."""

    manager: str
    dry_run: bool = False
    force: bool = False


def read(store: Store, target: Target) -> Object:
    """The object; raises ApiError (404)."""
    body = store.get(store.key(target.kind, target.namespace, target.name))
    if body is None:
        raise errors.not_found(target.kind, target.name)
    return body


def create(store: Store, target: Target, body: Object, options: Options) -> Object:
    """Create the object; raises ApiError when it exists, or is not admitted."""
    metadata = body.setdefault("metadata", {})
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
    if not metadata.get("name"):
        raise errors.invalid(target.kind, "", "metadata.name", "Required value: name or generateName is required")
    target = replace(target, name=metadata["name"])
    if store.get(store.key(target.kind, target.namespace, target.name)) is not None:
        raise errors.already_exists(target.kind, target.name)
    return _write(store, target, None, schema.normalise(body), dry_run=options.dry_run, record=_record_as(options))


def update(store: Store, target: Target, body: Object, options: Options) -> Object:
    """Replace the object; raises ApiError (409) when `body` carries an old resourceVersion."""
    live = read(store, target)
    version = body.get("metadata", {}).get("resourceVersion", "")
    if version not in ("", live["metadata"]["resourceVersion"]):
        raise errors.stale(target.kind, target.name)
    record = _record_as(options, target.subresource)
    return _write(store, target, live, schema.normalise(body), dry_run=options.dry_run, record=record)


def patch(store: Store, target: Target, content_type: str, text: bytes, options: Options) -> Object:
    """Patch in the format that the content type names; raises ApiError (415) for one that is not known."""
    if content_type == "application/apply-patch+yaml":
        return _apply(store, target, yaml.safe_load(text), options)
    live = read(store, target)
    document = json.loads(text)
    if content_type == "application/json-patch+json":
        body = patches.json_patch(live, document)
    elif content_type == "application/merge-patch+json":
        body = patches.merge_patch(live, document)
    elif content_type == "application/strategic-merge-patch+json":
        body = patches.strategic_patch(live, document)
    else:
        text_type = f"the body of the request was in an unknown format - {content_type}"
        raise errors.ApiError(415, "UnsupportedMediaType", text_type)
    return update(store, target, body, options)


def _apply(store: Store, target: Target, applied: Object, options: Options) -> Object:
    applied = schema.normalise(applied)
    if applied.get("metadata", {}).get("managedFields"):
        raise errors.bad_request("metadata.managedFields must be nil")
    live = store.get(store.key(target.kind, target.namespace, target.name))
    base = live or {"apiVersion": applied["apiVersion"], "kind": applied["kind"], "metadata": {"name": target.name}}
    manager = Manager(options.manager, "Apply", target.subresource)
    body = managed_fields.apply(base, applied, manager, force=options.force)
    return _write(store, target, live, body, dry_run=options.dry_run, record=lambda _live, _body: None)


Recorder = Callable[[Object, Object], None]


def _record_as(options: Options, subresource: str = "") -> Recorder:
    manager = Manager(options.manager, "Update", subresource)
    return lambda live, body: managed_fields.record_update(live, body, manager)


def _write(
    store: Store, target: Target, live: Object | None, body: Object, *, dry_run: bool, record: Recorder
) -> Object:
    _identify(target, live, body)
    _keep_other_half(target, live, body)
    schema.apply_defaults(body)
    admission.validate(target.kind, body, live)
    if live is None:
        admission.admit_new(store, target.kind, body)
    record(live or {}, body)
    _count_generation(live, body)
    if live is not None and body == live:
        return live
    if dry_run:
        return body
    return garbage.settle(store, target.kind, body)


def _identify(target: Target, live: Object | None, body: Object) -> None:
    """Set what only the server sets."""
    body["apiVersion"], body["kind"] = target.kind.api_version, target.kind.kind
    metadata = body.setdefault("metadata", {})
    metadata["name"] = target.name
    if target.kind.namespaced:
        metadata["namespace"] = target.namespace
    old = (live or {}).get("metadata", {})
    for field in (*_SERVER_OWNED, "resourceVersion", "managedFields"):
        if field == "managedFields" and field in metadata:
            continue
        metadata.pop(field, None)
        if field in old:
            metadata[field] = old[field]
    if live is None:
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}


def _keep_other_half(target: Target, live: Object | None, body: Object) -> None:
    """A write of the object leaves its status alone, and a write of the status leaves all else alone."""
    if "status" not in target.kind.subresources or live is None:
        return
    if target.subresource == "status":
        status, fields = body.get("status", {}), body["metadata"].get("managedFields")
        body.clear()
        body |= copy.deepcopy(live) | {"status": status}
        if fields is not None:
            body["metadata"]["managedFields"] = fields
    else:
        body.pop("status", None)
        if "status" in live:
            body["status"] = copy.deepcopy(live["status"])


def _count_generation(live: Object | None, body: Object) -> None:
    if "spec" not in body or body["kind"] in {"Namespace", "Node"}:
        return
    if live is None:
        body["metadata"]["generation"] = 1
    elif live.get("spec") != body.get("spec"):
        body["metadata"]["generation"] = live["metadata"].get("generation", 1) + 1
