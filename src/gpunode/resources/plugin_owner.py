"""Somebody else who runs NVIDIA's device plugin in the cluster: two on one node fight over one socket, so gpunode then only looks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gpunode.errors import HostError
from gpunode.host import kubectl
from gpunode.host.kubectl import Access, Object
from gpunode.host.reader import Reader
from gpunode.host.verbs.objects import owned_manifest
from gpunode.host.writer import Writer
from gpunode.resources.base import NO_CONSEQUENCES, BootNeed, Consequences, Difference, Local, Resource

PLUGINS = ("k8s-device-plugin", "nvidia-gpu-device-plugin")
"""What the images of NVIDIA's plugin, and of Google's for the same resource, are called."""
OTHER_PROGRAMS = frozenset(("gpu-feature-discovery", "mps-control-daemon", "config-manager"))
"""Programs beside the plugin in NVIDIA's image: its Helm chart and the GPU Operator run them from it in DaemonSets of their own."""


@dataclass(frozen=True)
class OtherPlugin:
    """A device plugin's DaemonSet that is not gpunode's, who manages it, and its pods."""

    manager: str
    name: str
    desired: int
    ready: int


def other_plugins(host: Reader, access: Access) -> tuple[OtherPlugin, ...]:
    """All there are, asked of the cluster once until something changes. Raises CommandError when it cannot be asked."""
    output = kubectl.ask_once(host, access, "daemonsets", "--all-namespaces")
    if not output.ok:
        raise kubectl.error(output)
    items: list[Object] = json.loads(output.stdout)["items"]
    return tuple(_other(each) for each in items if _is_plugin(each) and owned_manifest(each) is None)


def _is_plugin(daemonset: Object) -> bool:
    return any(_runs_plugin(each) for each in daemonset["spec"]["template"]["spec"].get("containers", []))


def _runs_plugin(container: Object) -> bool:
    """Whether it has the plugin's image, and does not run another program from it."""
    image = str(container.get("image", "")).partition("@")[0].rpartition("/")[2].partition(":")[0]
    said = [*(container.get("command") or ()), *(container.get("args") or ())]
    words = {word.rpartition("/")[2] for text in said for word in str(text).split()}
    return image in PLUGINS and not words & OTHER_PROGRAMS


def _other(daemonset: Object) -> OtherPlugin:
    metadata, status = daemonset["metadata"], daemonset.get("status", {})
    name = f"{metadata.get('namespace', 'default')}/{metadata['name']}"
    desired, ready = (int(status.get(key, 0)) for key in ("desiredNumberScheduled", "numberReady"))
    return OtherPlugin(_manager(metadata), name, desired, ready)


def _manager(metadata: Object) -> str:
    """Who looks after an object, from its owner, its Helm release, or the name that the API server was given."""
    if any(owner.get("kind") == "ClusterPolicy" for owner in metadata.get("ownerReferences", [])):
        return "the GPU Operator"
    release = metadata.get("annotations", {}).get("meta.helm.sh/release-name")
    if release or metadata.get("labels", {}).get("app.kubernetes.io/managed-by") == "Helm":
        return f"Helm (release {release})" if release else "Helm"
    entries = [each for each in metadata.get("managedFields", []) if not each.get("subresource")]
    return str(entries[0].get("manager")) if entries else "somebody else"


@dataclass(frozen=True)
class OthersPlugin(Local):
    """The plugin of another manager, where there is one: looked at, never touched."""

    access: Access

    @property
    def id(self) -> str:
        """`plugin:others`."""
        return "plugin:others"

    def observe(self, host: Reader) -> tuple[OtherPlugin, ...]:
        """Those there are. Raises CommandError when the cluster cannot be asked."""
        return other_plugins(host, self.access)

    def differences(self, state: tuple[OtherPlugin, ...]) -> list[Difference]:
        """Pods of theirs that are not ready. One with none to run is as it should be: the MPS daemon's where nothing is shared."""
        return [
            Difference(each.name, f"{each.ready} of {each.desired} pods ready", "all ready", f"{each.manager} runs it")
            for each in state
            if each.ready < each.desired
        ]

    def remarks(self, state: tuple[OtherPlugin, ...]) -> tuple[str, ...]:
        """Who manages it."""
        return tuple(f"{each.manager} manages the device plugin ({each.name}): gpunode applies none" for each in state)

    def converge(self, _host: Writer, state: tuple[OtherPlugin, ...]) -> None:
        """Not gpunode's to mend. Raises HostError that says whose it is."""
        first = next(each for each in state if each.ready < each.desired)
        raise HostError(
            f"{first.manager} manages the device plugin {first.name}, and its pods are not ready",
            hint=f"see to it there; gpunode brings its own once {first.name} is gone",
        )


@dataclass(frozen=True)
class UnlessOthers:
    """A resource of gpunode's own plugin, which is nothing to wish for where another manager has one."""

    access: Access
    inner: Resource

    @property
    def id(self) -> str:
        """The inner resource's."""
        return self.inner.id

    def observe(self, host: Reader) -> Any:
        """The inner resource's state; None where another manager has a plugin. Raises HostError."""
        return None if other_plugins(host, self.access) else self.inner.observe(host)

    def differences(self, state: Any) -> list[Difference]:
        """The inner resource's, or none."""
        return [] if state is None else self.inner.differences(state)

    def consequences(self, state: Any) -> Consequences:
        """The inner resource's, or none."""
        return NO_CONSEQUENCES if state is None else self.inner.consequences(state)

    def remarks(self, state: Any) -> tuple[str, ...]:
        """The inner resource's, or none."""
        return () if state is None else self.inner.remarks(state)

    def boot_need(self, host: Reader, state: Any) -> BootNeed | None:
        """The inner resource's, or none."""
        return None if state is None else self.inner.boot_need(host, state)

    def foresee(self, host: Reader, state: Any) -> None:
        """Try what the inner resource tries; called only where it differs. Raises HostError."""
        self.inner.foresee(host, state)

    def converge(self, host: Writer, state: Any) -> None:
        """Converge the inner resource. Raises HostError."""
        self.inner.converge(host, state)
