"""The device plugin: its objects in the cluster, and its rollout."""

from __future__ import annotations

from collections.abc import Sequence

from gpunode.catalog.mig import mig_gpu, mig_resources, open_generations
from gpunode.formats.manifests import to_yaml
from gpunode.host.kubectl import Access, Address, Object
from gpunode.host.verbs.objects import address
from gpunode.resources.base import Resource
from gpunode.resources.cluster import DroppedObjects, NodeLabels
from gpunode.resources.files import Absent, File
from gpunode.resources.kubernetes import KubeObject, PluginSocket, Rollout
from gpunode.resources.plugin_owner import OthersPlugin, UnlessOthers
from gpunode.steps.base import Context, Step
from gpunode.steps.decisions_cluster import access_of, no_access, node_name
from gpunode.steps.plugin_config import PRESENT, config_text, configured, node_labels, sharing_here
from gpunode.steps.plugin_objects import NAME, droppable, objects
from gpunode.steps.plugin_pods import MANAGED_BY, STATIC_CONFIG, static_pod

WHY = {
    "RuntimeClass": "pods ask for the nvidia runtime by this name",
    "ConfigMap": "it says how the GPUs are shared",
    "ServiceAccount": "the plugin's configuration manager reads its node's label as this account",
    "ClusterRole": "the plugin's configuration manager reads its node's label",
    "ClusterRoleBinding": "the plugin's configuration manager reads its node's label",
    "DaemonSet": "it offers the GPUs to the kubelet",
}
STATIC_MANIFEST = "nvidia-device-plugin.yaml"
ELSEWHERE = "run this where you have access: gpunode render device-plugin | kubectl apply --server-side -f -"


def resources(context: Context) -> list[Resource]:
    """The node's labels, the objects, what the profile has no more, then the wait for the pods; nothing where others have a plugin."""
    if skipped(context):
        return []
    if context.profile.device_plugin.mode == "static-pod":
        return _static(context)
    profile, folder, access = context.profile, context.facts.flavour.device_plugins, access_of(context)
    plugin, wanted, dropped = profile.device_plugin, objects(profile, folder), tuple(droppable(profile))
    node = node_name(context)
    beside = (*(address(each) for each in (*wanted, *dropped)), ("node", node, ""))
    own: list[Resource] = [
        NodeLabels(access, node, node_labels(plugin), beside),
        *_applied(access, wanted, beside),
        DroppedObjects(access, dropped, beside),
        Rollout(access, NAME, plugin.namespace, folder, plugin.rollout_timeout, beside),
    ]
    return [*_no_static(context), OthersPlugin(access), *(UnlessOthers(access, each) for each in own)]


def _static(context: Context) -> list[Resource]:
    """The kubelet's own pod of the plugin, and the RuntimeClass where the cluster can be reached: its other objects are other nodes'."""
    own = _static_files(context)
    if unreachable(context):
        return own
    access, wanted = access_of(context), objects(context.profile, context.facts.flavour.device_plugins)
    beside = tuple(address(each) for each in wanted)
    return [OthersPlugin(access), *(UnlessOthers(access, each) for each in (*_applied(access, wanted, beside), *own))]


def _static_files(context: Context) -> list[Resource]:
    """What the kubelet reads, the configuration first, and the wait for the plugin."""
    profile, flavour, plugin = context.profile, context.facts.flavour, context.profile.device_plugin
    found: list[Resource] = []
    if configured(plugin):
        why = "it says how the GPUs are shared"
        found.append(File(f"{STATIC_CONFIG}/config.yaml", config_text(plugin.sharing), why))
    manifest = to_yaml(static_pod(profile, flavour.device_plugins))
    path = f"{flavour.static_pods}/{STATIC_MANIFEST}"
    found.append(File(path, manifest, "the kubelet runs the device plugin that stands here"))
    return [*found, PluginSocket(flavour.device_plugins, plugin.rollout_timeout)]


def _no_static(context: Context) -> list[Resource]:
    """No static pod of gpunode's beside a DaemonSet: it goes first, or the two would fight over one socket."""
    folder = context.facts.flavour.static_pods
    why = "the DaemonSet takes its place"
    return [Absent(folder, (STATIC_MANIFEST,), f"{MANAGED_BY}: gpunode", keep="", why=why)] if folder else []


def _applied(access: Access, manifests: Sequence[Object], beside: tuple[Address, ...]) -> list[Resource]:
    """The objects, asked for in one question with all others `beside`."""
    return [KubeObject(access, each, WHY[each["kind"]], beside) for each in manifests]


def skipped(context: Context) -> str:
    """Where there is no cluster, or no way to it from here. A plugin that the kubelet runs from a file needs no way to it."""
    mode = context.profile.device_plugin.mode
    if mode == "none":
        return "the profile leaves the cluster alone"
    return "" if mode == "static-pod" else unreachable(context)


def unreachable(context: Context) -> str:
    """Why the cluster cannot be asked from this host; empty where it can."""
    why = no_access(context)
    return f"{why}: {ELSEWHERE}" if why else ""


def refusals(context: Context) -> list[str]:
    """MIG where no GPU of this host can be cut, or into what its GPUs cannot be cut."""
    plugin = context.profile.device_plugin
    if plugin.mode == "static-pod" and not context.facts.flavour.static_pods:
        return [f'{context.facts.flavour.name} reads no manifests from a folder: set device_plugin.mode to "daemonset"']
    if plugin.mode == "none" or not context.facts.gpus or not _is_known(context):
        return []
    kinds = [kind for gpu in context.facts.gpus if (kind := mig_gpu(gpu.device))]
    shared, key = sharing_here(plugin), f"device_plugin.{f'configs.{plugin.config}' if plugin.config else 'sharing'}"
    names = ", ".join(sorted({context.catalog.gpu_name(gpu.device) for gpu in context.facts.gpus}))
    if shared.mig != "none" and not kinds:
        return [f'{key}.mig is "{shared.mig}", and MIG cannot cut this host\'s {names}: set it to "none"']
    had = sorted({profile for kind in kinds for profile in kind.profiles})
    return [
        f"{key}.replicas: {names} has no MIG profile {mig_resources()[name]}: it has {', '.join(had)}"
        for name in shared.replicas
        if name in mig_resources() and mig_resources()[name] not in had
    ]


def _is_known(context: Context) -> bool:
    """Whether the catalogue can say of every GPU here what MIG makes of it."""
    generations = (context.catalog.generation(gpu.device) for gpu in context.facts.gpus if not mig_gpu(gpu.device))
    return all(each and each.name not in open_generations() for each in generations)


def notes(context: Context) -> list[str]:
    """What a plugin that the kubelet runs from a file leaves to a person: what gpunode cannot apply, and what it must not take away."""
    if context.profile.device_plugin.mode != "static-pod":
        return []
    if unreachable(context):
        name = context.profile.containerd.runtime_name
        return [f"the cluster needs the RuntimeClass {name}, which this host cannot apply; {ELSEWHERE}"]
    command = f"{' '.join(context.facts.flavour.kubectl)} label node {node_name(context)} {PRESENT}-"
    return [f"a DaemonSet of the plugin stays for the other nodes; take this one out of it by its label: {command}"]


STEP = Step(
    "device_plugin",
    "NVIDIA device plugin",
    resources,
    after=("containerd",),
    refusals=refusals,
    notes=notes,
    skipped=skipped,
)
