"""Gathering what lies between driver and pod: Docker's file, the programs that configurations name, the device plugin's traces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gpunode.findings.containers import DockerFile, Plugin, binaries_of
from gpunode.findings.evidence import EngineConfig, TextFile
from gpunode.findings.reading import exists, glob, known, names, read_file, understood
from gpunode.formats.toml_data import lookup, parse
from gpunode.host import kubectl
from gpunode.host.processes import inotify_instances
from gpunode.host.reader import Reader
from gpunode.steps.base import Context
from gpunode.steps.decisions_cluster import access_of, node_name
from gpunode.steps.plugin_objects import NAME

CHECKPOINT = "kubelet_internal_checkpoint"
POD_LOGS = "/var/log/pods"
RESOURCE = "nvidia.com/"
LOG_TAIL = 20_000
API_SECONDS = 3
DOCKER_HOOKS = ("nvidia-container-runtime-hook", "nvidia-container-toolkit")
ALWAYS = (
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/usr/bin/nvidia-modprobe",
    "/run/nvidia-persistenced/socket",
    "/run/nvidia/driver/usr",
    "/run/nvidia/validations",
    "/snap/docker/current",
    "/sys/fs/cgroup/cgroup.controllers",
    "/sys/module/nvidia_uvm",
    *(f"/usr/bin/{name}" for name in DOCKER_HOOKS),
)
TOOLKIT_LDCONFIG = ("nvidia-container-cli", "ldconfig")


def docker_file(host: Reader, context: Context) -> DockerFile | None:
    """Docker's own configuration; None where there is no Docker."""
    found = context.facts.engines.get("docker")
    if found is None:
        return None
    here = read_file(host, found.config)
    data, error = _json(here)
    if error:
        host.note_unknown(found.config, f"{found.config} cannot be understood: {error}")
    return DockerFile(found.config, here, data, error)


def _json(here: TextFile | None) -> tuple[Mapping[str, Any], str]:
    """The file's settings, and why they cannot be read."""
    try:
        data = json.loads(here.text) if here and here.text.strip() else {}
    except ValueError as error:
        return {}, str(error)
    return (data, "") if isinstance(data, Mapping) else ({}, "it is no JSON object")


def paths(
    host: Reader, context: Context, config: EngineConfig, docker: DockerFile | None, toolkit: TextFile | None
) -> dict[str, bool | None]:
    """Of the paths that configurations name or a look asks for, whether each is there."""
    named = {*ALWAYS, context.catalog.toolkit.runtime, *binaries_of(config, context).values()}
    named |= set(docker.runtime_paths.values()) if docker else set()
    named |= {f"/dev/nvidia{minor}" for minor in range(len(context.facts.gpus))}
    if toolkit:
        understood(None, host, toolkit.path, lambda: parse(toolkit.text))
    named |= {ldconfig_of(toolkit).lstrip("@")}
    return {path: exists(host, path) for path in sorted(named) if path.startswith("/")}


def ldconfig_of(toolkit: TextFile | None) -> str:
    """What the toolkit's configuration says of ldconfig: `@/path` is the host's; empty where it says nothing."""
    found = known(None, lambda: lookup(parse(toolkit.text), TOOLKIT_LDCONFIG) if toolkit else None)
    return found if isinstance(found, str) else ""


def plugin(host: Reader, context: Context, *, thorough: bool) -> Plugin:
    """What the kubelet and the plugin have left in files; where no plugin is registered, what the cluster says too."""
    folder = context.facts.flavour.device_plugins
    sockets = {name: stat.mtime for name in names(host, folder) if (stat := _stat(host, f"{folder}/{name}"))}
    checkpoint = read_file(host, f"{folder}/{CHECKPOINT}")
    found = Plugin(
        folder=folder,
        sockets={name: when for name, when in sockets.items() if name.endswith(".sock")},
        checkpoint=checkpoint,
        registered=understood(None, host, f"{folder}/{CHECKPOINT}", _registered, checkpoint),
        allocated=checkpoint is not None and RESOURCE in checkpoint.text,
        log=_newest_log(host),
    )
    if not thorough or found.serving or not found.kubelet:
        return found
    return found.with_cluster(
        node=known(None, _node, host, context),
        daemonset=known(None, _daemonset, host, context),
        inotify=known(None, inotify_instances, host),
    )


def _stat(host: Reader, path: str) -> Any:
    return known(None, host.lstat, path)


def _registered(checkpoint: TextFile | None) -> dict[str, int] | None:
    """How many devices the kubelet knows of each of NVIDIA's resources, by its own checkpoint."""
    if checkpoint is None:
        return None
    devices = json.loads(checkpoint.text)["Data"]["RegisteredDevices"] or {}
    return {name: len(listed or ()) for name, listed in devices.items() if name.startswith(RESOURCE)}


def _newest_log(host: Reader) -> TextFile | None:
    """The end of the newest log of a device plugin's container."""
    found = [each for path in _plugin_logs(host) if (each := read_file(host, path))]
    newest = max(found, key=lambda each: each.modified, default=None)
    return TextFile(newest.path, newest.text[-LOG_TAIL:], newest.modified) if newest else None


def _plugin_logs(host: Reader) -> Iterator[str]:
    """`/var/log/pods/NAMESPACE_POD_UID/CONTAINER/N.log`."""
    for pod in glob(host, POD_LOGS, "*nvidia-device-plugin*"):
        for container in names(host, pod):
            yield from glob(host, f"{pod}/{container}", "*.log")


def _node(host: Reader, context: Context) -> Mapping[str, Any] | None:
    if not context.facts.kubectl or not context.facts.kubeconfig:
        return None
    name = node_name(context)
    return kubectl.get(host, _quick(context), "node", name)


def _daemonset(host: Reader, context: Context) -> Mapping[str, Any] | None:
    if not context.facts.kubectl or not context.facts.kubeconfig:
        return None
    return kubectl.get(host, _quick(context), "daemonset", NAME, context.profile.device_plugin.namespace)


def _quick(context: Context) -> kubectl.Access:
    """A look waits for no API server longer than this."""
    access = access_of(context)
    return kubectl.Access(access.command, access.kubeconfig, access.context, min(access.timeout, API_SECONDS))
