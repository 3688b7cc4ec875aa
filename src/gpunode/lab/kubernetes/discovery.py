"""The documents by which clients learn what the server offers."""

from __future__ import annotations

from typing import Any

from gpunode.lab.kubernetes.kinds import KINDS, Kind, Object

GIT_VERSION = "v1.32.3"
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]

WRITE_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation", "force", "pretty")
"""Of the query, in requests that change something."""


def version() -> Object:
    """`/version`."""
    major, minor, _ = GIT_VERSION[1:].split(".")
    return {"major": major, "minor": minor, "gitVersion": GIT_VERSION, "platform": "linux/amd64", "goVersion": "go1.23"}


def core_versions(address: str) -> Object:
    """`/api`."""
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}


def groups() -> Object:
    """`/apis`."""
    found = []
    for api_version, group, short in sorted({(k.api_version, k.group, k.version) for k in KINDS if k.group}):
        one = {"groupVersion": api_version, "version": short}
        found.append({"name": group, "versions": [one], "preferredVersion": one})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def resources(prefix: str) -> Object | None:
    """`/api/v1` or `/apis/GROUP/VERSION`; None for a version that is not served."""
    kinds = [kind for kind in KINDS if kind.prefix == prefix]
    if not kinds:
        return None
    found = [entry for kind in kinds for entry in _entries(kind)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": kinds[0].api_version,
        "resources": found,
    }


def _entries(kind: Kind) -> list[Object]:
    entry: Object = {"name": kind.plural, "singularName": kind.kind.lower(), "namespaced": kind.namespaced}
    entry |= {"kind": kind.kind, "verbs": _VERBS, "shortNames": list(kind.short)}
    if kind.plural in {"pods", "daemonsets"}:
        entry["categories"] = ["all"]
    below = [
        {"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced, "kind": kind.kind}
        | {"verbs": ["get"] if name == "log" else ["get", "patch", "update"]}
        for name in kind.subresources
    ]
    return [entry, *below]


def openapi_index() -> Object:
    """`/openapi/v3`."""
    prefixes = sorted({kind.prefix for kind in KINDS})
    return {"paths": {prefix: {"serverRelativeURL": f"/openapi/v3/{prefix}"} for prefix in prefixes}}


def openapi_v3(prefix: str) -> Object:
    """One group version's document: the operations and their parameters, without the types' schemas."""
    paths: dict[str, Any] = {}
    for kind in KINDS:
        if kind.prefix == prefix:
            place = "namespaces/{namespace}/" if kind.namespaced else ""
            paths[f"/{prefix}/{place}{kind.plural}/{{name}}"] = {"patch": _patch_operation(kind)}
    info = {"title": "Kubernetes", "version": GIT_VERSION}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {}}}


def _patch_operation(kind: Kind) -> Object:
    gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in WRITE_PARAMETERS]
    operation: Object = {"operationId": f"patch{kind.kind}", "parameters": parameters, "responses": {}}
    return operation | {"x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": gvk}


def openapi_v2() -> Object:
    """`/openapi/v2`: present and empty, so that clients ask the server to validate."""
    return {"swagger": "2.0", "info": {"title": "Kubernetes", "version": GIT_VERSION}, "paths": {}, "definitions": {}}
