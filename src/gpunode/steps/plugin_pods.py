"""The pods of NVIDIA's device plugin (v0.20.0), after upstream's static manifest; named configurations and MPS, after its Helm chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpunode.host.kubectl import Object
from gpunode.profile.rules import DEFAULT_CONFIG
from gpunode.steps.plugin_config import (
    CONFIG,
    MPS_CAPABLE,
    PRESENT,
    by_cdi,
    by_mig,
    by_mps,
    config_annotations,
    configured,
    device_list,
)

if TYPE_CHECKING:
    from gpunode.profile.model import DevicePlugin, HostProfile

CONFIGS = "nvidia-device-plugin-configs"
ACCOUNT = "nvidia-device-plugin-service-account"
REPOSITORY = "nvcr.io/nvidia/k8s-device-plugin"
PLUGINS = "/var/lib/kubelet/device-plugins"
"""Where the plugin looks for the kubelet's socket inside its container, wherever the kubelet's folder is on the host."""
STATIC_CONFIG = "/etc/gpunode/device-plugin"
"""The host's folder with the configuration of a plugin that the kubelet runs from a file."""
MANAGED_BY = "app.kubernetes.io/managed-by"
"""The label by which a static pod's manifest is known for gpunode's."""
MPS_ROOT = "/run/nvidia/mps"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 (where MPS has its own shared memory mounted in a container)
DISCOVERED = (
    (PRESENT, "true"),
    ("feature.node.kubernetes.io/pci-10de.present", "true"),
    ("feature.node.kubernetes.io/cpu-model.vendor_id", "NVIDIA"),
)
"""What marks a node with GPUs: our label (GPU feature discovery's too), or node feature discovery's for PCI and for Tegra."""


def plugin_pod(profile: HostProfile, folder: str) -> Object:
    """The plugin's own pod. The runtime class lets it see the GPUs, also where those that it serves get theirs by CDI."""
    plugin = profile.device_plugin
    mounts, volumes = (
        [("kubelet-device-plugins-dir", PLUGINS)],
        [_host("kubelet-device-plugins-dir", folder, "Directory")],
    )
    if by_cdi(profile):
        mounts += [("driver-root", "/driver-root"), ("cdi-root", "/var/run/cdi")]
        volumes += [_host("driver-root", "/", "Directory"), _host("cdi-root", "/var/run/cdi", "DirectoryOrCreate")]
    if by_mps(plugin):
        mounts += [("mps-shm", SHARED_MEMORY), ("mps-root", "/mps")]
        volumes += _mps_volumes()
    container = {
        "name": "nvidia-device-plugin-ctr",
        "image": image(plugin),
        "env": _environment(profile),
        "securityContext": _security(profile),
        "volumeMounts": [_mount(*each) for each in mounts],
    }
    pod = _on_gpu_nodes(profile.containerd.runtime_name, [container], volumes)
    return _with_config(plugin, pod, container, "nvidia-device-plugin", process="nvidia-device-plugin")


def static_pod(profile: HostProfile, folder: str) -> Object:
    """The plugin's pod for the kubelet's folder of manifests. It may refer to no object: its configuration is a file of the host."""
    pod = plugin_pod(profile, folder)
    kept = {key: value for key, value in pod.items() if key not in ("affinity", "tolerations")}
    own = [_host("config", STATIC_CONFIG, "Directory") if each["name"] == "config" else each for each in pod["volumes"]]
    noted = config_annotations(profile.device_plugin)
    metadata: Object = {
        "name": "nvidia-device-plugin",
        "namespace": profile.device_plugin.namespace,
        "labels": {MANAGED_BY: "gpunode"},
        **({"annotations": noted} if noted else {}),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**kept, "volumes": own}}


def _environment(profile: HostProfile) -> list[Object]:
    plugin = profile.device_plugin
    found = {"FAIL_ON_INIT_ERROR": "false"}
    if device_list(profile) != "envvar":
        found["DEVICE_LIST_STRATEGY"] = device_list(profile)
    if by_cdi(profile):
        found["NVIDIA_DRIVER_ROOT"] = "/"
    if by_mps(plugin):
        found["MPS_ROOT"] = MPS_ROOT
    if by_mig(plugin):
        found["NVIDIA_MIG_MONITOR_DEVICES"] = "all"
    return [{"name": name, "value": value} for name, value in found.items()]


def _security(profile: HostProfile) -> Object:
    """Nothing above a plain process, except what upstream needs to look after MIG, and for lists by volume mounts."""
    if by_mig(profile.device_plugin) or device_list(profile) == "volume-mounts":
        return {"capabilities": {"add": ["SYS_ADMIN"]}}
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def mps_pod(plugin: DevicePlugin, runtime: str) -> Object:
    """The daemons through which pods share a GPU at the same time. They find their own process by the host's numbers."""
    privileged = {"privileged": True}
    shared_memory = {
        "name": "mps-control-daemon-mounts",
        "image": image(plugin),
        "command": ["mps-control-daemon", "mount-shm"],
        "securityContext": privileged,
        "volumeMounts": [{**_mount("mps-root", "/mps"), "mountPropagation": "Bidirectional"}],
    }
    container = {
        "name": "mps-control-daemon-ctr",
        "image": image(plugin),
        "command": ["mps-control-daemon"],
        "env": [_node_name(), *_pairs(NVIDIA_VISIBLE_DEVICES="all", NVIDIA_DRIVER_CAPABILITIES="compute,utility")],
        "securityContext": privileged,
        "volumeMounts": [_mount("mps-shm", SHARED_MEMORY), _mount("mps-root", "/mps")],
    }
    pod = {**_on_gpu_nodes(runtime, [container], _mps_volumes()), "hostPID": True, "initContainers": [shared_memory]}
    pod["nodeSelector"] = {MPS_CAPABLE: "true"}
    return _with_config(plugin, pod, container, "mps-control-daemon", process="/usr/bin/mps-control-daemon")


def _on_gpu_nodes(runtime: str, containers: list[Object], volumes: list[Object]) -> Object:
    terms = [{"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]} for key, value in DISCOVERED]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {
        "runtimeClassName": runtime,
        "priorityClassName": "system-node-critical",
        "affinity": {"nodeAffinity": required},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "containers": containers,
        "volumes": volumes,
    }


def _with_config(plugin: DevicePlugin, pod: Object, container: Object, prefix: str, *, process: str) -> Object:
    """The pod with its configuration: a file of the ConfigMap, or the one that the node's label names, followed while it runs."""
    if not configured(plugin):
        return pod
    container["env"] = [*container["env"], *_pairs(CONFIG_FILE="/config/config.yaml")]
    container["volumeMounts"] = [*container["volumeMounts"], _mount("config", "/config")]
    source: Object = {"configMap": {"name": CONFIGS}}
    if not plugin.configs:
        return {**pod, "volumes": [*pod["volumes"], {"name": "config", **source}]}
    volumes = [{"name": "available-configs", **source}, {"name": "config", "emptyDir": {}}]
    own = {} if pod.get("hostPID") else {"shareProcessNamespace": True}
    return {
        **pod,
        **own,
        "serviceAccountName": ACCOUNT,
        "initContainers": [*pod.get("initContainers", []), _manager(plugin, f"{prefix}-init", process="")],
        "containers": [_manager(plugin, f"{prefix}-sidecar", process=process), *pod["containers"]],
        "volumes": [*pod["volumes"], *volumes],
    }


def _manager(plugin: DevicePlugin, name: str, *, process: str) -> Object:
    """Upstream's configuration manager: it copies the configuration once, or follows the label and signals `process`."""
    signal = (
        {"SEND_SIGNAL": "true", "SIGNAL": "1", "PROCESS_TO_SIGNAL": process} if process else {"SEND_SIGNAL": "false"}
    )
    environment = _pairs(
        ONESHOT="false" if process else "true",
        NODE_LABEL=CONFIG,
        CONFIG_FILE_SRCDIR="/available-configs",
        CONFIG_FILE_DST="/config/config.yaml",
        DEFAULT_CONFIG=DEFAULT_CONFIG,
        **signal,
    )
    return {
        "name": name,
        "image": image(plugin),
        "command": ["config-manager"],
        "env": [_node_name(), *environment],
        "volumeMounts": [_mount("available-configs", "/available-configs"), _mount("config", "/config")],
    }


def image(plugin: DevicePlugin) -> str:
    """The profile's image, else NVIDIA's of the release."""
    return plugin.image or f"{REPOSITORY}:{plugin.version}"


def _mps_volumes() -> list[Object]:
    return [_host("mps-root", MPS_ROOT, "DirectoryOrCreate"), _host("mps-shm", f"{MPS_ROOT}/shm", "")]


def _host(name: str, path: str, kind: str) -> Object:
    return {"name": name, "hostPath": {"path": path, **({"type": kind} if kind else {})}}


def _mount(name: str, path: str) -> Object:
    return {"name": name, "mountPath": path, **({"readOnly": True} if name == "driver-root" else {})}


def _node_name() -> Object:
    return {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}


def _pairs(**values: Any) -> list[Object]:
    return [{"name": name, "value": value} for name, value in values.items()]
