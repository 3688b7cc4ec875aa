"""From a request's path and query to an operation of the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from gpunode.lab.kubernetes import api, discovery, eviction, garbage, selectors
from gpunode.lab.kubernetes.api import Options, Target
from gpunode.lab.kubernetes.errors import ApiError
from gpunode.lab.kubernetes.kinds import KINDS, Object
from gpunode.lab.kubernetes.store import Change, Store
from gpunode.lab.kubernetes.table import table


@dataclass(frozen=True)
class Request:
    """A request as far as the API cares. `query` holds the last value of each parameter."""

    method: str
    path: str
    query: dict[str, str]
    accept: str = ""
    content_type: str = ""
    agent: str = ""
    body: bytes = b""


def parse_target(path: str) -> Target:
    """What the path names; raises ApiError (404) when nothing is served there."""
    rest = path.strip("/")
    for kind in KINDS:
        if not rest.startswith(kind.prefix + "/"):
            continue
        parts = rest[len(kind.prefix) + 1 :].split("/")
        namespace = ""
        if kind.namespaced and parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        if parts[0] == kind.plural and len(parts) <= 3:
            name, subresource = ([*parts[1:], "", ""])[:2]
            if not subresource or subresource in kind.subresources:
                return Target(kind, namespace, name, subresource)
    raise ApiError(404, "NotFound", "the server could not find the requested resource")


def document(path: str, address: str) -> Object | None:
    """The discovery document served at `path`; None when it is no such path."""
    rest = path.strip("/")
    fixed = {"api": lambda: discovery.core_versions(address), "apis": discovery.groups, "version": discovery.version}
    fixed |= {"openapi/v2": discovery.openapi_v2, "openapi/v3": discovery.openapi_index}
    if rest in fixed:
        return fixed[rest]()
    if rest.startswith("openapi/v3/"):
        return discovery.openapi_v3(rest.removeprefix("openapi/v3/"))
    return discovery.resources(rest)


def serve(store: Store, request: Request) -> tuple[int, Object]:
    """Answer a request that is neither a watch nor a log: HTTP status and body; raises ApiError."""
    target = parse_target(request.path)
    with store.lock:
        if request.method == "GET":
            return 200, _read(store, target, request)
        return _write(store, target, request)


def _read(store: Store, target: Target, request: Request) -> Object:
    if target.name:
        body = api.read(store, target)
        if "as=Table" in request.accept:
            return table(target.kind, [body], body["metadata"]["resourceVersion"])
        return body
    items = [body for body in store.list(target.kind, target.namespace) if selected(body, request)]
    if "as=Table" in request.accept:
        return table(target.kind, items, str(store.version))
    head: Object = {"kind": f"{target.kind.kind}List", "apiVersion": target.kind.api_version}
    return head | {"metadata": {"resourceVersion": str(store.version)}, "items": items}


def selected(body: Object, request: Request) -> bool:
    """Whether the object satisfies the request's selectors."""
    labels = body["metadata"].get("labels", {})
    return selectors.labels_match(request.query.get("labelSelector", ""), labels) and selectors.fields_match(
        request.query.get("fieldSelector", ""), body
    )


def _write(store: Store, target: Target, request: Request) -> tuple[int, Object]:
    manager = request.query.get("fieldManager") or request.agent.partition("/")[0] or "unknown"
    dry, force = "dryRun" in request.query, request.query.get("force") == "true"
    options = Options(manager, dry, force)
    match request.method:
        case "POST" if target.subresource == "eviction":
            pod = api.read(store, target)
            return 201, eviction.evict(store, pod, _decode(request), dry_run=dry)
        case "POST":
            return 201, api.create(store, target, _decode(request), options)
        case "PUT":
            return 200, api.update(store, target, _decode(request), options)
        case "PATCH":
            new = store.get(store.key(target.kind, target.namespace, target.name)) is None
            body = api.patch(store, target, request.content_type, request.body, options)
            return 201 if new else 200, body
        case "DELETE":
            return 200, _delete(store, target, request)
    raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def _decode(request: Request) -> Object:
    if request.content_type.endswith("protobuf"):
        text = f"the body of the request was in an unknown format - {request.content_type}; accepted: application/json"
        raise ApiError(415, "UnsupportedMediaType", text)
    try:
        body = yaml.safe_load(request.body) if "yaml" in request.content_type else json.loads(request.body)
    except (ValueError, yaml.YAMLError) as error:
        raise ApiError(400, "BadRequest", f"the object could not be decoded: {error}") from None
    if not isinstance(body, dict):
        raise ApiError(400, "BadRequest", "the object could not be decoded: it is not an object")
    return body


def _delete(store: Store, target: Target, request: Request) -> Object:
    options = json.loads(request.body) if request.body else {}
    options |= {name: request.query[name] for name in ("propagationPolicy",) if name in request.query}
    if "gracePeriodSeconds" in request.query:
        options["gracePeriodSeconds"] = int(request.query["gracePeriodSeconds"])
    dry = "dryRun" in request.query or options.get("dryRun")
    if target.name:
        body = api.read(store, target)
        return body if dry else garbage.delete(store, target.kind, body, options)
    found = [body for body in store.list(target.kind, target.namespace) if selected(body, request)]
    for body in found if not dry else []:
        garbage.delete(store, target.kind, body, options)
    return {"kind": f"{target.kind.kind}List", "apiVersion": target.kind.api_version, "metadata": {}, "items": found}


def watch(store: Store, request: Request, timeout: float) -> Iterator[Object | None]:
    """Watch events as they come, for at most `timeout` seconds in which nothing happens; None marks an idle second."""
    target = parse_target(request.path)
    with store.lock:
        since = int(request.query.get("resourceVersion") or 0)
        initial: list[Object] = []
        if not since:
            since = store.version
            initial = [body for body in store.list(target.kind, target.namespace) if selected(body, request)]
    for body in initial:
        yield _event("ADDED", body, target, request)
    for _ in range(max(1, int(timeout))):
        found = False
        for change in store.changes(since, 1.0):
            since = change.version
            event = _seen(change, target, request)
            if event:
                found = True
                yield event
        if not found:
            yield None


def _seen(change: Change, target: Target, request: Request) -> Object | None:
    """The event a watcher gets: an object that begins or ceases to match its selectors comes and goes."""
    plural, namespace, name = change.key
    if plural != target.kind.qualified or target.namespace not in ("", namespace) or target.name not in ("", name):
        return None
    matches = selected(change.body, request)
    did = change.before is not None and selected(change.before, request)
    if change.event == "DELETED":
        return _event("DELETED", change.body, target, request) if did else None
    if matches:
        return _event("MODIFIED" if did else "ADDED", change.body, target, request)
    return _event("DELETED", change.body, target, request) if did else None


def _event(event: str, body: Object, target: Target, request: Request) -> Object:
    if "as=Table" in request.accept:
        body = table(target.kind, [body], body["metadata"]["resourceVersion"])
    return {"type": event, "object": body}


def log_file(store: Store, target: Target, query: dict[str, str], folder: Path) -> Path:
    """The file that holds the container's log; raises ApiError (404, 400) when there is no such pod or container."""
    with store.lock:
        pod = api.read(store, target)
    names = [item["name"] for item in pod["spec"]["containers"]]
    container = query.get("container") or names[0]
    if container not in names:
        raise ApiError(400, "BadRequest", f"container {container} is not valid for pod {target.name}")
    statuses = {item["name"]: item for item in pod.get("status", {}).get("containerStatuses", [])}
    status = statuses.get(container)
    attempts = status["restartCount"] if status else 0
    if query.get("previous") == "true":
        attempts -= 1
    file: Path = folder / pod["metadata"]["uid"] / f"{container}-{attempts}.log"
    if not file.exists():
        raise _no_log(target, container, status, previous=attempts < 0)
    return file


def _no_log(target: Target, container: str, status: Object | None, *, previous: bool) -> ApiError:
    who = f'container "{container}" in pod "{target.name}"'
    if previous:
        return ApiError(400, "BadRequest", f"previous terminated {who} not found")
    reason = ((status or {}).get("state", {}).get("waiting") or {}).get("reason", "ContainerCreating")
    return ApiError(400, "BadRequest", f"{who} is waiting to start: {reason}")
