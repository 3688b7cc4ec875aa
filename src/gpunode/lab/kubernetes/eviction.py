"""Eviction: the deletion of a pod that its disruption budgets allow, with the real server's refusals."""

from __future__ import annotations

from gpunode.lab.kubernetes import errors, garbage
from gpunode.lab.kubernetes.errors import ApiError
from gpunode.lab.kubernetes.kinds import DISRUPTION_BUDGETS, PODS, Object
from gpunode.lab.kubernetes.selectors import label_selector_text, labels_match
from gpunode.lab.kubernetes.store import Store


def evict(store: Store, pod: Object, body: Object, *, dry_run: bool) -> Object:
    """Delete the pod as an Eviction's options say; raises ApiError (429) where a budget does not allow it."""
    if body.get("kind") != "Eviction" or body.get("apiVersion") != "policy/v1":
        raise errors.bad_request("the body of an eviction must be a policy/v1 Eviction")
    if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]:
        _require_allowed(store, pod)
    if not dry_run:
        garbage.delete(store, PODS, pod, body.get("deleteOptions", {}))
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _require_allowed(store: Store, pod: Object) -> None:
    namespace = pod["metadata"]["namespace"]
    budgets = [each for each in store.list(DISRUPTION_BUDGETS, namespace) if _selects(each, pod)]
    if len(budgets) > 1:
        text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise ApiError(500, "InternalError", text)
    for budget in budgets:
        healthy = sum(_is_healthy(each) for each in store.list(PODS, namespace) if _selects(budget, each))
        _require_enough(budget, healthy)


def _require_enough(budget: Object, healthy: int) -> None:
    """Only `minAvailable` as a number is known: the stand-in has no controllers that would say how many pods there should be."""
    name, needed = budget["metadata"]["name"], int(budget["spec"]["minAvailable"])
    if healthy > needed:
        return
    why = f"The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
    causes = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    text = "Cannot evict pod as it would violate the pod's disruption budget."
    raise ApiError(429, "TooManyRequests", text, causes)


def _selects(budget: Object, pod: Object) -> bool:
    return labels_match(label_selector_text(budget["spec"]["selector"]), pod["metadata"].get("labels", {}))


def _is_healthy(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
