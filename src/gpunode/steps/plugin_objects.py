"""The Kubernetes objects of NVIDIA's device plugin, from the profile alone: names, labels and selectors are upstream's (v0.20.0)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpunode.host.kubectl import Object
from gpunode.steps.plugin_config import by_mps, config_annotations, config_files, configured
from gpunode.steps.plugin_pods import ACCOUNT, CONFIGS, PLUGINS, mps_pod, plugin_pod

if TYPE_CHECKING:
    from gpunode.profile.model import DevicePlugin, HostProfile

NAME = "nvidia-device-plugin-daemonset"
MPS_NAME = "nvidia-device-plugin-mps-control-daemon"
ROLE = "nvidia-device-plugin-role"
BINDING = "nvidia-device-plugin-role-binding"
RBAC = "rbac.authorization.k8s.io"


def objects(profile: HostProfile, folder: str) -> list[Object]:
    """All of them, in the order in which they are applied; `folder` is the kubelet's for device plugins on the host.

    A plugin that the kubelet runs from a file needs of the cluster its RuntimeClass alone.
    """
    plugin, runtime = profile.device_plugin, profile.containerd.runtime_name
    found = [_runtime_class(runtime)]
    if plugin.mode == "static-pod":
        return found
    if configured(plugin):
        found.append(_config_map(plugin))
    if plugin.configs:
        found += _access(plugin.namespace)
    found.append(
        _daemonset(
            NAME, "nvidia-device-plugin-ds", plugin.namespace, plugin_pod(profile, folder), config_annotations(plugin)
        )
    )
    if by_mps(plugin):
        pod = mps_pod(plugin, runtime)
        found.append(_daemonset(MPS_NAME, MPS_NAME, plugin.namespace, pod, config_annotations(plugin)))
    return found


def droppable(profile: HostProfile) -> list[Object]:
    """Bare manifests of the objects that another profile has and this one does not: gpunode's own of them are taken away.

    For a profile by which the plugin is a DaemonSet: one by which the kubelet runs it from a file speaks for its own node alone.
    """
    namespace = profile.device_plugin.namespace
    every = (
        ("apps/v1", "DaemonSet", NAME, namespace),
        ("apps/v1", "DaemonSet", MPS_NAME, namespace),
        ("v1", "ConfigMap", CONFIGS, namespace),
        (f"{RBAC}/v1", "ClusterRoleBinding", BINDING, ""),
        (f"{RBAC}/v1", "ClusterRole", ROLE, ""),
        ("v1", "ServiceAccount", ACCOUNT, namespace),
    )
    kept = {(each["kind"], each["metadata"]["name"]) for each in objects(profile, PLUGINS)}
    return [_object(*each) for each in every if each[1:3] not in kept]


def _config_map(plugin: DevicePlugin) -> Object:
    return {**_object("v1", "ConfigMap", CONFIGS, plugin.namespace), "data": config_files(plugin)}


def _access(namespace: str) -> list[Object]:
    """What the configuration manager needs to see its node's label."""
    rules = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}]
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": ROLE}
    # An object of which gpunode owns no field could not be told from somebody else's: the default is said.
    account = {**_object("v1", "ServiceAccount", ACCOUNT, namespace), "automountServiceAccountToken": True}
    return [
        account,
        {**_object(f"{RBAC}/v1", "ClusterRole", ROLE), "rules": rules},
        {**_object(f"{RBAC}/v1", "ClusterRoleBinding", BINDING), "subjects": [subject], "roleRef": role},
    ]


def _runtime_class(runtime: str) -> Object:
    return {**_object("node.k8s.io/v1", "RuntimeClass", runtime), "handler": runtime}


def _daemonset(name: str, label: str, namespace: str, pod: Object, annotations: dict[str, str]) -> Object:
    labels = {"name": label}
    metadata: Object = {"labels": labels, **({"annotations": annotations} if annotations else {})}
    spec = {
        "selector": {"matchLabels": labels},
        "updateStrategy": {"type": "RollingUpdate"},
        "template": {"metadata": metadata, "spec": pod},
    }
    return {**_object("apps/v1", "DaemonSet", name, namespace), "spec": spec}


def _object(api: str, kind: str, name: str, namespace: str = "") -> Object:
    place = {"namespace": namespace} if namespace else {}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, **place}}
