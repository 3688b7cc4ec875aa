"""The kinds that the API server stand-in serves, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as decoded JSON."""


@dataclass(frozen=True)
class Kind:
    """One resource type: `kind` is the object's name for it, `plural` the path's."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    short: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """`v1` for the core group, `group/version` for the others."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> str:
        """The path under which the group's version is served, without a leading slash."""
        return f"apis/{self.api_version}" if self.group else f"api/{self.version}"

    @property
    def qualified(self) -> str:
        """The name that error messages use: `daemonsets.apps`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


KINDS = (
    Kind("", "v1", "namespaces", "Namespace", False, ("ns",), ("status",)),
    Kind("", "v1", "nodes", "Node", False, ("no",), ("status",)),
    Kind("", "v1", "pods", "Pod", True, ("po",), ("status", "log", "eviction")),
    Kind("", "v1", "events", "Event", True, ("ev",)),
    Kind("", "v1", "configmaps", "ConfigMap", True, ("cm",)),
    Kind("", "v1", "serviceaccounts", "ServiceAccount", True, ("sa",)),
    Kind("", "v1", "secrets", "Secret", True),
    Kind("apps", "v1", "daemonsets", "DaemonSet", True, ("ds",), ("status",)),
    Kind("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", False),
    Kind("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False),
    Kind("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", False),
    Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True, ("pdb",), ("status",)),
    Kind("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False, ("pc",)),
)


def find(plural: str, group: str = "") -> Kind:
    """The kind served under `plural`; raises KeyError when there is none."""
    for kind in KINDS:
        if (kind.plural, kind.group) == (plural, group):
            return kind
    raise KeyError(plural)


PODS, NODES, NAMESPACES, EVENTS = find("pods"), find("nodes"), find("namespaces"), find("events")
CONFIG_MAPS, DAEMON_SETS = find("configmaps"), find("daemonsets", "apps")
RUNTIME_CLASSES = find("runtimeclasses", "node.k8s.io")
DISRUPTION_BUDGETS = find("poddisruptionbudgets", "policy")
PRIORITY_CLASSES = find("priorityclasses", "scheduling.k8s.io")
