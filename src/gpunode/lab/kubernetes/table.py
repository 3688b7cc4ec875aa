"""Server-side printing: the columns that `kubectl get` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpunode.lab.kubernetes.clock import age
from gpunode.lab.kubernetes.kinds import Kind, Object

_Row = Callable[[Object], list[Any]]


def _pod_reason(body: Object) -> str:
    status = body.get("status", {})
    reason: str = status.get("reason") or status.get("phase", "Unknown")
    for container in status.get("containerStatuses", []):
        state = container.get("state", {})
        waiting = state.get("waiting") or state.get("terminated") or {}
        reason = waiting.get("reason") or reason
    return "Terminating" if "deletionTimestamp" in body["metadata"] else reason


def _pod(body: Object) -> list[Any]:
    states = body.get("status", {}).get("containerStatuses", [])
    ready = f"{sum(bool(state['ready']) for state in states)}/{len(body['spec']['containers'])}"
    return [ready, _pod_reason(body), sum(state["restartCount"] for state in states)]


def _node(body: Object) -> list[Any]:
    status = body.get("status", {})
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions", []))
    words = "Ready" if ready else "NotReady"
    if body.get("spec", {}).get("unschedulable"):
        words += ",SchedulingDisabled"
    marks = [key.rpartition("/")[2] for key in body["metadata"].get("labels", {}) if "node-role.kubernetes.io/" in key]
    return [words, ",".join(marks) or "<none>", status.get("nodeInfo", {}).get("kubeletVersion", "")]


def _daemon_set(body: Object) -> list[Any]:
    status = body.get("status", {})
    names = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled")
    counts = [status.get(name, 0) for name in (*names, "numberAvailable")]
    selector = body["spec"]["template"]["spec"].get("nodeSelector", {})
    return [*counts, ",".join(f"{key}={value}" for key, value in selector.items()) or "<none>"]


def _event(body: Object) -> list[Any]:
    involved = body.get("involvedObject", {})
    who = f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"
    return [body.get("type", ""), body.get("reason", ""), who, body.get("message", "")]


_COLUMNS: dict[str, tuple[tuple[str, ...], _Row]] = {
    "Pod": (("Ready", "Status", "Restarts"), _pod),
    "Node": (("Status", "Roles", "Version"), _node),
    "DaemonSet": (("Desired", "Current", "Ready", "Up-to-date", "Available", "Node Selector"), _daemon_set),
    "Event": (("Type", "Reason", "Object", "Message"), _event),
    "ConfigMap": (("Data",), lambda body: [len(body.get("data", {}))]),
    "Secret": (("Type", "Data"), lambda body: [body["type"], len(body.get("data", {}))]),
    "Namespace": (("Status",), lambda body: [body["status"]["phase"]]),
    "RuntimeClass": (("Handler",), lambda body: [body["handler"]]),
    "PriorityClass": (("Value", "Global-Default"), lambda body: [body["value"], body.get("globalDefault", False)]),
}


def table(kind: Kind, bodies: list[Object], version: str) -> Object:
    """The objects as a `Table`, with each object's metadata beside its row."""
    titles, row = _COLUMNS.get(kind.kind, ((), lambda _body: []))
    columns = [{"name": title, "type": "string", "format": "", "priority": 0} for title in ("Name", *titles, "Age")]
    columns[0]["format"] = "name"
    rows = [
        {
            "cells": [body["metadata"]["name"], *row(body), age(body["metadata"]["creationTimestamp"])],
            "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": body["metadata"]},
        }
        for body in bodies
    ]
    head: Object = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version}}
    return head | {"columnDefinitions": columns, "rows": rows}
