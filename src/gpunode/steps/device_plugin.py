"""The device plugin: RuntimeClass and DaemonSet, as upstream names them, and its rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpunode.host.kubectl import Access, Object
from gpunode.resources.base import Resource
from gpunode.resources.kubernetes import KubeObject, Rollout
from gpunode.steps.base import Context, Step

if TYPE_CHECKING:
    from gpunode.profile.model import HostProfile

NAME = "nvidia-device-plugin-daemonset"
REPOSITORY = "nvcr.io/nvidia/k8s-device-plugin"
ELSEWHERE = "run this where you have access: gpunode render device-plugin | kubectl apply --server-side -f -"


def resources(context: Context) -> list[Resource]:
    """The objects, then the wait for them."""
    plugin = context.profile.device_plugin
    if skipped(context):
        return []
    access = access_of(context)
    runtime_class, daemonset = objects(context.profile, context.facts.flavour.device_plugins)
    return [
        KubeObject(access, runtime_class, "pods ask for the nvidia runtime by this name"),
        KubeObject(access, daemonset, "it offers nvidia.com/gpu to the kubelet"),
        Rollout(access, NAME, plugin.namespace, context.facts.flavour.device_plugins, plugin.rollout_timeout),
    ]


def access_of(context: Context) -> Access:
    """How this node reaches the API."""
    kubernetes = context.profile.kubernetes
    return Access(context.facts.flavour.kubectl, context.facts.kubeconfig, kubernetes.context, kubernetes.timeout)


def skipped(context: Context) -> str:
    """Where there is no cluster, or no way to it from here."""
    facts = context.facts
    if context.profile.device_plugin.mode == "none":
        return "the profile leaves the cluster alone"
    if not facts.kubectl:
        return f"no {' '.join(facts.flavour.kubectl)} on this host: {ELSEWHERE}"
    if facts.kubeconfig is None:
        return f"no kubeconfig that can be read at {context.profile.kubernetes.kubeconfig or facts.flavour.kubeconfig}: {ELSEWHERE}"
    return ""


def objects(profile: HostProfile, folder: str) -> list[Object]:
    """RuntimeClass and DaemonSet, as `render device-plugin` prints them; `folder` is the kubelet's for device plugins."""
    plugin, runtime = profile.device_plugin, profile.containerd.runtime_name
    image = plugin.image or f"{REPOSITORY}:{plugin.version}"
    return [_runtime_class(runtime), _daemonset(image, plugin.namespace, runtime, folder)]


def _runtime_class(runtime: str) -> Object:
    return {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": runtime}, "handler": runtime}


def _daemonset(image: str, namespace: str, runtime: str, folder: str) -> Object:
    """Upstream's static DaemonSet, names and labels as there, with the runtime class that lets it see the GPUs."""
    labels = {"name": "nvidia-device-plugin-ds"}
    container = {
        "name": "nvidia-device-plugin-ctr",
        "image": image,
        "env": [{"name": "FAIL_ON_INIT_ERROR", "value": "false"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "kubelet-device-plugins-dir", "mountPath": folder}],
    }
    pod = {
        "runtimeClassName": runtime,
        "priorityClassName": "system-node-critical",
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [container],
        "volumes": [{"name": "kubelet-device-plugins-dir", "hostPath": {"path": folder, "type": "Directory"}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


STEP = Step("device_plugin", "NVIDIA device plugin", resources, after=("containerd",), skipped=skipped)
