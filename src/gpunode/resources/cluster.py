"""What a cluster has beside gpunode's own objects: the labels of this node, and objects that the profile no longer has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpunode.errors import CommandError
from gpunode.host import kubectl
from gpunode.host.kubectl import Access, Address, Object
from gpunode.host.reader import Reader
from gpunode.host.verbs.objects import address, owned_manifest
from gpunode.host.writer import Writer
from gpunode.resources.base import Difference, Local


@dataclass(frozen=True)
class LabelState:
    """A node's labels, and the names of those that gpunode has set."""

    labels: Mapping[str, str]
    ours: frozenset[str]


@dataclass(frozen=True)
class NodeLabels(Local):
    """Labels on a node that is in the cluster already: gpunode makes no nodes. `beside` is as in KubeObject."""

    access: Access
    node: str
    labels: Mapping[str, str]
    beside: tuple[Address, ...]

    @property
    def id(self) -> str:
        """`labels:node/NAME`."""
        return f"labels:node/{self.node}"

    def observe(self, host: Reader) -> LabelState:
        """The node's labels. Raises CommandError where the cluster has no such node, or cannot be asked."""
        live = kubectl.get_of(host, self.access, self.beside, ("node", self.node, ""))
        if live is None:
            raise CommandError(
                f"the cluster has no node {self.node}",
                hint="join it first (kubeadm join), or say its name by kubernetes.node_name in the profile",
            )
        owned = owned_manifest(live) or {"metadata": {}}
        return LabelState(live["metadata"].get("labels") or {}, frozenset(owned["metadata"].get("labels") or ()))

    def differences(self, state: LabelState) -> list[Difference]:
        """Labels that are absent, have another value, or are left of an earlier profile."""
        why = "the device plugin's pods and their configuration find the node by it"
        wanted = [
            Difference(name, state.labels.get(name, "absent"), value, why)
            for name, value in self.labels.items()
            if state.labels.get(name) != value
        ]
        left = sorted(state.ours - self.labels.keys())
        return wanted + [
            Difference(name, state.labels[name], "absent", "the profile asks for it no more") for name in left
        ]

    def converge(self, host: Writer, _state: LabelState) -> None:
        """Set them, and give up those that gpunode had set and no longer wants."""
        metadata = {"name": self.node, "labels": dict(self.labels)}
        host.apply_object(self.access, {"apiVersion": "v1", "kind": "Node", "metadata": metadata})


@dataclass(frozen=True)
class DroppedObjects(Local):
    """Objects that an earlier profile had and this one has not. Looked for by name; touched only where gpunode has applied them.

    `beside` is as in KubeObject.
    """

    access: Access
    manifests: tuple[Object, ...]
    beside: tuple[Address, ...]

    @property
    def id(self) -> str:
        """`object:dropped`."""
        return "object:dropped"

    def observe(self, host: Reader) -> tuple[Object, ...]:
        """Those that are still there, with fields of gpunode's. Raises CommandError when the cluster cannot be asked."""
        found = (kubectl.get_of(host, self.access, self.beside, address(each)) for each in self.manifests)
        return tuple(each for each in found if each is not None and owned_manifest(each) is not None)

    def differences(self, state: tuple[Object, ...]) -> list[Difference]:
        """One for each of them."""
        return [
            Difference("/".join(address(each)[:2]), "applied by gpunode", "absent", "the profile has it no more")
            for each in state
        ]

    def converge(self, host: Writer, state: tuple[Object, ...]) -> None:
        """Take them away, those that need others before the others."""
        for live in state:
            host.drop_object(self.access, live)
