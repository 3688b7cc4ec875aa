"""The device plugin: no pod for it, a pod that the nvidia runtime did not start, no registration, and what comes of that: no GPU "
"on offer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gpunode.findings.binaries import default_runtime
from gpunode.findings.containerd import effective_runtimes
from gpunode.findings.containers import KUBELET_SOCKET
from gpunode.findings.evidence import Evidence, clock
from gpunode.findings.model import Known, Proof
from gpunode.steps.plugin_objects import NAME

APPLY = "gpunode apply --step device_plugin"
INCOMPATIBLE = re.compile(r"Incompatible (?:strategy|platform) detected|NVML not detected|Detected non-NVML platform")
NO_WATCH = re.compile(r"failed to create (?:FS|fsnotify) watcher: too many open files")
MIXED = re.compile(
    r"More than one MIG device type present on node|has an invalid MIG configuration|has no MIG devices configured"
)
PATCH = (
    f"kubectl -n {{namespace}} patch daemonset {NAME} --type merge "
    '-p \'{"spec":{"template":{"spec":{"runtimeClassName":"nvidia"}}}}\''
)
PLUGIN_PROCESS = "nvidia-device-p"
SETTLE_SECONDS = 10.0
FULL = 0.95
TAINTS_IN_THE_WAY = ("NoSchedule", "NoExecute")
OWN_TAINTS = "node.kubernetes.io/"
"""Taints that the DaemonSet controller has its pods tolerate."""


def _log_lines(evidence: Evidence, pattern: re.Pattern[str]) -> list[str]:
    log = evidence.plugin.log
    found = [line for line in log.text.splitlines() if pattern.search(line)] if log else []
    return [f"{log.path}: {found[-1].strip()}"] if log and found else []


def _not_default(evidence: Evidence) -> Proof | None:
    """Only where the pod wrote its log after containerd was started: before that it could not know the runtime."""
    log, engine, own = evidence.plugin.log, evidence.engine, evidence.context.profile.containerd.runtime_name
    listed, default = effective_runtimes(evidence), default_runtime(evidence)
    said = _log_lines(evidence, INCOMPATIBLE)
    if not said or log is None or not listed or own not in listed or default == own or evidence.plugin.serving:
        return None
    if engine is None or engine.started is None or log.modified < engine.started or evidence.config.stale:
        return None
    lines = (
        f"{evidence.config.path}: runtime {own} is listed, default_runtime_name is {default or 'absent (runc)'}",
        *said,
    )
    return Proof(lines, {"runtime": own, "namespace": evidence.context.profile.device_plugin.namespace})


def _no_resource(evidence: Evidence) -> Proof | None:
    plugin = evidence.plugin
    if not plugin.kubelet or plugin.serving or not plugin.expected or not evidence.gpus:
        return None
    lines = [
        f"{plugin.folder}: {', '.join(sorted(plugin.sockets))}, wanted a socket of the plugin beside the kubelet's"
    ]
    if plugin.checkpoint and plugin.registered is not None:
        devices = ", ".join(f"{name}: {count}" for name, count in plugin.registered.items()) or "none of nvidia.com"
        lines.append(f"{plugin.checkpoint.path}: devices registered: {devices}")
    lines += [f"{plugin.log.path}: {line.strip()}" for line in plugin.log.text.splitlines()[-2:]] if plugin.log else []
    return Proof(tuple(lines))


def _not_registered(evidence: Evidence) -> Proof | None:
    plugin, processes = evidence.plugin, evidence.asked.matching(PLUGIN_PROCESS)
    kubelet = plugin.sockets.get(KUBELET_SOCKET)
    if kubelet is None or not processes or plugin.serving or evidence.context.facts.now - kubelet < SETTLE_SECONDS:
        return None
    lines = [f"/proc/{each.pid}: {each.name} runs" for each in processes]
    lines.append(f"{plugin.folder}/{KUBELET_SOCKET}: of {clock(kubelet)}")
    lines += [f"{plugin.folder}/{name}: of {clock(when)}" for name, when in plugin.own_sockets.items()]
    if not plugin.own_sockets:
        lines.append(f"{plugin.folder}: no socket of the plugin, wanted one")
    return Proof(
        tuple(lines), {"started": clock(kubelet), "namespace": evidence.context.profile.device_plugin.namespace}
    )


def _not_scheduled(evidence: Evidence) -> Proof | None:
    node, daemonset = evidence.plugin.node, evidence.plugin.daemonset
    if node is None or daemonset is None:
        return None
    spec = daemonset.get("spec", {}).get("template", {}).get("spec", {})
    labels = node.get("metadata", {}).get("labels") or {}
    lines, what = [], []
    for taint in _untolerated(node.get("spec", {}).get("taints") or (), spec.get("tolerations") or ()):
        lines.append(f"node: taint {taint}, which the DaemonSet {NAME} does not tolerate")
        what.append(f"the taint {taint}")
    for key, value in (spec.get("nodeSelector") or {}).items():
        if labels.get(key) != value:
            lines.append(f"node: label {key} is {labels.get(key, 'absent')}, wanted {value} by the DaemonSet {NAME}")
            what.append(f"no label {key}={value}")
    return Proof(tuple(lines), {"what": " and ".join(what)}) if lines else None


def _untolerated(taints: Sequence[Mapping[str, Any]], tolerations: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{taint.get('key')}={taint.get('value', '')}:{taint.get('effect')}"
        for taint in taints
        if taint.get("effect") in TAINTS_IN_THE_WAY
        and not str(taint.get("key", "")).startswith(OWN_TAINTS)
        and not any(_tolerates(each, taint) for each in tolerations)
    ]


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """As the scheduler compares: Exists takes any value, and any key where it names none; Equal, the default, compares the value."""
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint.get("key"))
    return toleration.get("key") == taint.get("key") and toleration.get("value", "") == taint.get("value", "")


def _no_watch(evidence: Evidence) -> Proof | None:
    said, found = _log_lines(evidence, NO_WATCH), evidence.plugin.inotify
    if evidence.plugin.serving or not (said or (found and found[0] >= FULL * found[1])):
        return None
    used = [f"/proc/*/fd: {found[0]} inotify instances of root, of {found[1]} that a user may have"] if found else []
    return Proof((*used, *said), {"limit": f"the {found[1]}" if found else "the"})


def _mig_layout(evidence: Evidence) -> Proof | None:
    said, nvml = _log_lines(evidence, MIXED), evidence.asked.nvml
    on = [gpu.label for gpu in nvml.gpus if gpu.mig and gpu.mig[0]] if nvml else []
    if not said or evidence.plugin.serving or not on:
        return None
    return Proof((f"NVML: MIG is on: {', '.join(on)}", *said))


FINDINGS = (
    Known(
        id="inotify-exhausted",
        step="device_plugin",
        severity="error",
        title="The host has no inotify instance left",
        sees="`Error: failed to create FS watcher: too many open files`",
        proof="the plugin's log says so, or root has 95 of 100 of the instances in use that `fs.inotify.max_user_instances` "
        "allows, while no "
        "plugin is registered",
        cause="Root has used up {limit} inotify instances that the kernel gives a user, and the plugin wants one to watch the kubelet.",
        mend=("printf 'fs.inotify.max_user_instances = 8192\\n' > /etc/sysctl.d/90-inotify.conf", "sysctl --system"),
        look=_no_watch,
        explains=("plugin-no-resource", "plugin-not-registered"),
        references=("NVIDIA/gpu-operator#441", "apecloud/kubeblocks#8460", "samuelcolvin/watchfiles#320"),
        patterns=(
            r"failed to create (?:FS|fsnotify) watcher: too many open files",
            r"/proc/sys/fs/inotify/max_user_instances",
        ),
    ),
    Known(
        id="mig-layout-mismatch",
        step="device_plugin",
        severity="error",
        title="The GPUs' MIG devices do not fit the plugin's strategy",
        sees="`More than one MIG device type present on node`; `device … has an invalid MIG configuration`; `nvidia.com/gpu: 0`",
        proof="the plugin's log says so, MIG is on, and no plugin is registered",
        cause="The plugin is told to offer MIG devices of one kind, and the GPUs have several kinds, or none.",
        mend=(
            "nvidia-smi mig -lgi  # what there is: make it alike on all GPUs, or set the plugin's strategy to mixed",
        ),
        look=_mig_layout,
        explains=("plugin-no-resource",),
        references=("NVIDIA/gpu-operator#460", "nebuly-ai/nos#25", "NVIDIA/k8s-device-plugin#806"),
        patterns=(
            r"More than one MIG device type present on node",
            r"has an invalid MIG configuration|has no MIG devices configured",
        ),
    ),
    Known(
        id="runtime-not-default",
        step="device_plugin",
        severity="error",
        title="The device plugin's pod is not started by the nvidia runtime",
        sees="`Incompatible strategy detected auto`, `Detected non-NVML platform: could not load NVML library`; "
        "`nvidia-smi: executable file not found in $PATH` in pods",
        proof="the plugin's log, written since containerd was started, says that it sees no driver; the nvidia runtime is in "
        "effect and not the "
        "default, and no plugin is registered",
        cause="containerd has the runtime {runtime} and starts the plugin's pod by another, because neither the pod nor the "
        "default names it.",
        mend=(PATCH, APPLY),
        look=_not_default,
        explains=("plugin-no-resource",),
        references=("NVIDIA/k8s-device-plugin#1220", "NVIDIA/k8s-device-plugin#406", "NVIDIA/k8s-device-plugin#314"),
        patterns=(
            r"Incompatible (?:strategy|platform) detected(?: auto)?",
            r"Detected non-NVML platform: could not load NVML library",
            r"NVML not detected: could not load NVML library",
            r"Failed to (?:start nvml with error|initialize NVML): +could not load NVML library",
            r'exec: "?\\?"?nvidia-smi\\?"?: executable file not found in \$PATH',
        ),
    ),
    Known(
        id="plugin-not-scheduled",
        step="device_plugin",
        severity="error",
        title="The plugin's DaemonSet has no pod for this node",
        sees="`Desired Number of Nodes Scheduled: 0`; `had untolerated taint {…}`; `node(s) didn't match Pod's node affinity/selector`",
        proof="the node's object has a taint that the DaemonSet does not tolerate, or lacks a label of its node selector; asked "
        "only where no "
        "plugin is registered and the cluster can be reached from here",
        cause="The node has {what}, so that the DaemonSet makes no pod for it.",
        mend=(APPLY,),
        look=_not_scheduled,
        explains=("plugin-no-resource",),
        references=("NVIDIA/k8s-device-plugin#1934", "NVIDIA/nvkind#20", "NVIDIA/k8s-device-plugin#421"),
        patterns=(r"had untolerated taint \{(?P<taint>[^}]*)\}", r"Desired Number of Nodes Scheduled: 0"),
    ),
    Known(
        id="plugin-not-registered",
        step="device_plugin",
        severity="error",
        title="The plugin runs and the kubelet does not know it",
        sees="`Could not register device plugin: context deadline exceeded`; GPUs gone after a restart of the kubelet; "
        "`ListAndWatch ended unexpectedly for device plugin`",
        proof="a process of the plugin runs, the kubelet's socket is older than ten seconds, and there is no socket of the "
        "plugin, or the kubelet's "
        "checkpoint has no devices of it",
        cause="The kubelet takes registrations since {started}, and the plugin that runs has not registered with it.",
        mend=(
            f"kubectl -n {{namespace}} rollout restart daemonset {NAME}",
            f"{APPLY}  # where it watches another folder",
        ),
        look=_not_registered,
        explains=("plugin-no-resource",),
        references=("NVIDIA/k8s-device-plugin#82", "bottlerocket-os/bottlerocket#4250", "kubernetes/kubernetes#116125"),
        patterns=(
            r"Could not (?:register|start) device plugin",
            r"Could not contact Kubelet, retrying",
            r"ListAndWatch ended unexpectedly for device plugin",
        ),
    ),
    Known(
        id="plugin-no-resource",
        step="device_plugin",
        severity="error",
        title="The node offers no GPU",
        sees="`0/1 nodes are available: 1 Insufficient nvidia.com/gpu`; `kubectl describe node` has `nvidia.com/gpu: 0`, or none",
        proof="a kubelet takes registrations, there is or was a device plugin for this node, and none of its sockets is there or "
        "the kubelet's "
        "checkpoint has no devices of it",
        cause="No device plugin has registered GPUs with this node's kubelet.",
        mend=(APPLY,),
        look=_no_resource,
        references=("NVIDIA/k8s-device-plugin#285", "NVIDIA/k8s-device-plugin#585", "NVIDIA/k8s-device-plugin#98"),
        patterns=(
            r"\d+ Insufficient nvidia\.com/(?P<resource>[\w.-]+)",
            r'nvidia\.com/gpu: +"?0"?\s*$',
            r"No devices found\. Waiting indefinitely",
        ),
    ),
)
