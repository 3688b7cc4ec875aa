"""Which pod may run on the node: selectors, affinity, taints and resources."""

from __future__ import annotations

from collections.abc import Iterable

from gpunode.lab.kubernetes.kinds import Object
from gpunode.lab.kubernetes.selectors import label_selector_text, labels_match

_FINISHED = ("Succeeded", "Failed")


def extended_limits(spec: Object) -> dict[str, int]:
    """The pod's limits of device resources, those with a domain in their name."""
    total: dict[str, int] = {}
    for container in spec["containers"]:
        for name, count in container.get("resources", {}).get("limits", {}).items():
            if "/" in name:
                total[name] = total.get(name, 0) + int(count)
    return total


def free(node: Object, pods: Iterable[Object]) -> dict[str, int]:
    """What is left of the node's device resources beside the pods that are bound to it."""
    allocatable = node.get("status", {}).get("allocatable", {})
    left = {name: int(count) for name, count in allocatable.items() if "/" in name}
    for pod in pods:
        if pod["spec"].get("nodeName") and pod["status"].get("phase") not in _FINISHED:
            for name, count in extended_limits(pod["spec"]).items():
                left[name] = left.get(name, 0) - count
    return left


def fits_node(spec: Object, node: Object) -> bool:
    """Whether selector and required affinity accept the node."""
    labels: dict[str, str] = node["metadata"].get("labels", {})
    if any(labels.get(key) != value for key, value in spec.get("nodeSelector", {}).items()):
        return False
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = required["nodeSelectorTerms"] if required else []
    return not terms or any(_term(term, labels) for term in terms)


def _term(term: Object, labels: dict[str, str]) -> bool:
    return labels_match(label_selector_text(term), labels)


def tolerates(spec: Object, node: Object) -> bool:
    """Whether the pod tolerates all of the node's taints that keep pods away."""
    taints = [taint for taint in node.get("spec", {}).get("taints", []) if taint["effect"] != "PreferNoSchedule"]
    if node.get("spec", {}).get("unschedulable"):
        taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    return all(any(_tolerates(item, taint) for item in spec.get("tolerations", [])) for taint in taints)


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    same: bool = toleration.get("key") == taint["key"]
    return same and toleration.get("value", "") == taint.get("value", "")


def refusal(pod: Object, node: Object, pods: Iterable[Object]) -> str | None:
    """Why the pod cannot run on the cluster's one node, in the scheduler's words; None when it can."""
    spec = pod["spec"]
    left = free(node, pods)
    short = [name for name, count in extended_limits(spec).items() if left.get(name, 0) < count]
    reasons = [f"1 Insufficient {name}" for name in short]
    if not tolerates(spec, node):
        reasons.insert(0, "1 node(s) had untolerated taint(s)")
    if not fits_node(spec, node):
        reasons = ["1 node(s) didn't match Pod's node affinity/selector"]
    return f"0/1 nodes are available: {', '.join(reasons)}." if reasons else None
