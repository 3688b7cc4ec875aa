"""What the profile asks of NVIDIA's device plugin: how it shares the GPUs, how it hands them out, on which nodes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from gpunode.formats.manifests import to_yaml
from gpunode.host.kubectl import Object
from gpunode.profile.rules import DEFAULT_CONFIG, GPU

if TYPE_CHECKING:
    from gpunode.profile.model import DevicePlugin, HostProfile, Sharing

PRESENT, CONFIG, MPS_CAPABLE = "nvidia.com/gpu.present", "nvidia.com/device-plugin.config", "nvidia.com/mps.capable"
"""Labels of a node: it has GPUs, it asks for a configuration, its GPUs are shared by MPS."""


def node_labels(plugin: DevicePlugin) -> dict[str, str]:
    """The labels by which the objects find this node."""
    labels = {PRESENT: "true"}
    if plugin.config:
        labels[CONFIG] = plugin.config
    if sharing_here(plugin).strategy == "mps":
        labels[MPS_CAPABLE] = "true"
    return labels


def sharing_here(plugin: DevicePlugin) -> Sharing:
    """How GPUs are shared on this node."""
    return plugin.configs[plugin.config] if plugin.config else plugin.sharing


def resource_here(plugin: DevicePlugin) -> str:
    """The resource by which a pod asks for a GPU of this node, where MIG does not name it by a profile."""
    sharing = sharing_here(plugin)
    return f"{GPU}.shared" if sharing.rename and GPU in sharing.replicas else GPU


def sharings(plugin: DevicePlugin) -> dict[str, Sharing]:
    """Every configuration by its name, the one of nodes that ask for none first."""
    return {DEFAULT_CONFIG: plugin.sharing, **plugin.configs}


def by_mps(plugin: DevicePlugin) -> bool:
    """Whether GPUs of any node are shared by MPS."""
    return any(each.strategy == "mps" for each in sharings(plugin).values())


def by_mig(plugin: DevicePlugin) -> bool:
    """Whether instances of MIG are offered on any node."""
    return any(each.mig != "none" for each in sharings(plugin).values())


def configured(plugin: DevicePlugin) -> bool:
    """Whether the plugin is told anything by a configuration file."""
    return bool(plugin.configs) or plugin.sharing.strategy != "none" or plugin.sharing.mig != "none"


def device_list(profile: HostProfile) -> str:
    """Upstream's `deviceListStrategy`. Only CDI where the containerd step turns it on: else the runtime reads an environment variable."""
    wanted = profile.device_plugin.device_list
    if wanted != "auto":
        return wanted
    return "cdi-cri" if profile.containerd.cdi else "envvar"


def by_cdi(profile: HostProfile) -> bool:
    """Whether containers get their GPUs by CDI, and no longer by the nvidia runtime."""
    return device_list(profile).startswith("cdi-")


def config_text(sharing: Sharing) -> str:
    """The plugin's configuration file of one kind of node."""
    config: Object = {"version": "v1", "flags": {"migStrategy": sharing.mig}}
    if sharing.strategy != "none":
        shared = {
            "renameByDefault": sharing.rename,
            "failRequestsGreaterThanOne": sharing.fail_requests_greater_than_one,
            "resources": [{"name": name, "replicas": count} for name, count in sharing.replicas.items()],
        }
        config["sharing"] = {"mps" if sharing.strategy == "mps" else "timeSlicing": shared}
    return to_yaml(config)


def config_files(plugin: DevicePlugin) -> dict[str, str]:
    """The plugin's configuration files of every kind of node, by their names."""
    named = sharings(plugin) if plugin.configs else {"config.yaml": plugin.sharing}
    return {name: config_text(each) for name, each in named.items()}


def config_annotations(plugin: DevicePlugin) -> dict[str, str]:
    """A pod's annotations: with its configuration's sum it is made anew when that changes, for the plugin reads it once."""
    if not configured(plugin):
        return {}
    text = json.dumps(config_files(plugin), sort_keys=True)
    return {"checksum/config": hashlib.sha256(text.encode()).hexdigest()}
