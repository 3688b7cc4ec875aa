"""The layers of a GPU node that are the cluster's: the plugin's socket, what the node offers, and what a pod really gets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gpunode.host import kubectl
from gpunode.host.trial import Trial
from gpunode.probes.base import PASSED, Findings, ProbeFailedError
from gpunode.profile.rules import GPU
from gpunode.steps.base import Context
from gpunode.steps.decisions_cluster import access_of, node_name
from gpunode.steps.plugin_config import by_cdi, resource_here, sharing_here

PUBLISH_SECONDS = 15
MIG_RESOURCES = "nvidia.com/mig-"
LISTED = re.compile(r"^(\s*)\S.*\(UUID: ((?:GPU|MIG)-[0-9A-Za-z/-]+)\)", re.MULTILINE)
"""A line of `nvidia-smi -L`; the instances that MIG has cut stand indented below their GPU."""


def plugin_socket(trial: Trial, context: Context, _found: Findings) -> str:
    """The plugin's socket beside the kubelet's."""
    folder = context.facts.flavour.device_plugins
    names = trial.listdir(folder)
    if "kubelet.sock" not in names:
        raise ProbeFailedError(
            f"no kubelet.sock in {folder}: the kubelet does not run", ("→ systemctl status kubelet",)
        )
    plugins = [name for name in names if name.startswith("nvidia") and name.endswith(".sock")]
    if not plugins:
        raise ProbeFailedError(f"no plugin socket in {folder}: the device plugin has not registered")
    return ", ".join(plugins)


def capacity(trial: Trial, context: Context, _found: Findings) -> str:
    """What the kubelet offers the scheduler: of GPUs as many as there are, times the pods that share one."""
    wanted, deadline = promised(context), trial.now() + PUBLISH_SECONDS
    offered = _offered(trial, context)
    while not _is_kept(wanted, offered) and trial.now() < deadline:
        trial.wait(0.5)  # the kubelet publishes with delay
        offered = _offered(trial, context)
    if not _is_kept(wanted, offered):
        told = "; ".join(f"{name}: {had} capacity, {free} allocatable" for name, (had, free) in offered.items())
        raise ProbeFailedError(f"{told or 'nothing of nvidia.com is offered'}; {_words(wanted, context)}")
    name, (had, free) = next((name, each) for name, each in offered.items() if each[1])
    return f"{name}: {had} capacity, {free} allocatable on {node_name(context)}"


def promised(context: Context) -> dict[str, int]:
    """How many devices of which resource the node should offer; empty where that hangs on how MIG has cut the GPUs."""
    sharing, name = sharing_here(context.profile.device_plugin), resource_here(context.profile.device_plugin)
    if sharing.mig != "none":
        return {}
    return {name: len(context.facts.gpus) * sharing.replicas.get(GPU, 1)}


def _words(wanted: dict[str, int], context: Context) -> str:
    if not wanted:
        return "at least one instance of MIG is wanted"
    each = sharing_here(context.profile.device_plugin).replicas.get(GPU, 1)
    shared = f", {each} pods on each" if each > 1 else ""
    return "; ".join(
        f"{name}: {count} are wanted, for {len(context.facts.gpus)} GPUs on PCI{shared}"
        for name, count in wanted.items()
    )


def _is_kept(wanted: dict[str, int], offered: dict[str, tuple[int, int]]) -> bool:
    if not wanted:
        return any(free for _, free in offered.values())
    return all(offered.get(name) == (count, count) for name, count in wanted.items())


def _offered(trial: Trial, context: Context) -> dict[str, tuple[int, int]]:
    """Capacity and what of it is allocatable, for whole GPUs under the name that the profile gives them and for MIG's instances."""
    node = kubectl.get(trial, access_of(context), "node", node_name(context))
    if node is None:
        raise ProbeFailedError(
            f"the cluster has no node {node_name(context)}", ("→ kubernetes.node_name in the profile names it",)
        )
    status = node.get("status", {})
    had, free = status.get("capacity", {}), status.get("allocatable", {})
    ours = resource_here(context.profile.device_plugin)
    names = [name for name in had if name == ours or name.startswith(MIG_RESOURCES)]
    return {name: (int(had[name]), int(free.get(name, 0))) for name in names}


def pod(trial: Trial, context: Context, found: Findings) -> str:
    """The classic cuda-vector-add pod on this node, then what a pod with one GPU sees of them. Both are taken away afterwards."""
    resource = next((name for name, each in _offered(trial, context).items() if each[1]), GPU)
    log = _run(trial, context, pod_manifest(context, "cuda-vector-add", resource))
    if PASSED not in log:
        raise ProbeFailedError(f"the pod succeeded without `{PASSED}`", tuple(log.splitlines()[-6:]))
    listed = _run(trial, context, pod_manifest(context, "gpu-identity", resource, "nvidia-smi", "-L"))
    return f"{PASSED}; a pod with {resource}: 1 sees {one_of_ours(listed, [gpu['uuid'] for gpu in found.gpus])} and no other"


def one_of_ours(listed: str, ours: Sequence[str]) -> str:
    """The UUID of the one device that `nvidia-smi -L` shows in a pod which asked for one. Raises ProbeFailedError."""
    lines: list[tuple[str, str]] = LISTED.findall(listed)
    gpus = [uuid for below, uuid in lines if not below]
    # With MIG the GPU is shown around the instance, which is what was asked for.
    devices = [uuid for below, uuid in lines if below] or gpus
    evidence = tuple(listed.splitlines()[:8])
    if not devices:
        raise ProbeFailedError("the pod sees no GPU: `nvidia-smi -L` lists none", evidence)
    if len(devices) > 1 or len(gpus) > 1:
        raise ProbeFailedError(f"the pod asked for one GPU and sees {len(devices)}: {', '.join(devices)}", evidence)
    strangers = [uuid for uuid in gpus if uuid not in ours]
    if strangers:
        raise ProbeFailedError(f"the pod sees {strangers[0]}, which NVML does not show on this host", evidence)
    return devices[0]


def _run(trial: Trial, context: Context, manifest: dict[str, Any]) -> str:
    """A pod's log. Raises ProbeFailedError when it fails."""
    ended, log = trial.run_pod(access_of(context), manifest, timeout=context.profile.verify.timeout)
    phase = ended["status"]["phase"]
    if phase != "Succeeded":
        states = (each.get("state", {}).get("terminated", {}) for each in ended["status"].get("containerStatuses", []))
        said = tuple(state["message"] for state in states if state.get("message"))
        raise ProbeFailedError(
            f"the pod {manifest['metadata']['name']} ended as {phase}", (*said, *log.splitlines()[-6:])
        )
    return log


def namespace_of(context: Context) -> str:
    """A name space of this node's own, so that two nodes can be tried at once."""
    return f"gpunode-verify-{node_name(context).replace('.', '-')}"[:63].rstrip("-")


def pod_manifest(context: Context, name: str, resource: str, *command: str) -> dict[str, Any]:
    """A pod with one GPU on this node, once. By the runtime's class, except where CDI brings the GPU: the image would ask it for all."""
    container: dict[str, Any] = {
        "name": name,
        "image": context.profile.verify.pod_image,
        "resources": {"limits": {resource: 1}},
    }
    if command:
        container["command"] = list(command)
    runtime = {} if by_cdi(context.profile) else {"runtimeClassName": context.profile.containerd.runtime_name}
    spec = {
        "restartPolicy": "Never",
        **runtime,
        "nodeSelector": {"kubernetes.io/hostname": node_name(context)},
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
    }
    metadata = {"name": name, "namespace": namespace_of(context)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
