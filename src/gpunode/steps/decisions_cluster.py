"""How this host reaches its cluster, and what it is called there: decisions that several steps share."""

from __future__ import annotations

from gpunode.host.kubectl import Access
from gpunode.steps.base import Context


def access_of(context: Context) -> Access:
    """How this node reaches the API."""
    kubernetes = context.profile.kubernetes
    return Access(context.facts.flavour.kubectl, context.facts.kubeconfig, kubernetes.context, kubernetes.timeout)


def node_name(context: Context) -> str:
    """The node's name in the cluster: the profile's, else the host's own, in lower case as the kubelet registers it."""
    return context.profile.kubernetes.node_name or context.facts.hostname.lower()


def no_access(context: Context) -> str:
    """Why there is no way to the cluster's API from this host; empty where there is one, be it up or not."""
    facts = context.facts
    if not facts.kubectl:
        return f"no {' '.join(facts.flavour.kubectl)} on this host"
    if facts.kubeconfig is None:
        own = context.profile.kubernetes.kubeconfig
        where = (
            own
            or f"{facts.flavour.kubeconfig}, nor in root's .kube, nor in that of who logged in (none that runs a program)"
        )
        return f"no kubeconfig that can be read at {where}"
    return ""
