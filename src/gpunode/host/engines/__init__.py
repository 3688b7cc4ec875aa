"""The container engines, one file each behind one interface (base.py): the next engine is one file and a line here."""

from __future__ import annotations

from gpunode.catalog.model import Flavour
from gpunode.host.engines.base import ContainerEngine, FoundEngine
from gpunode.host.engines.containerd import Containerd
from gpunode.host.engines.crio import Crio
from gpunode.host.engines.docker import Docker
from gpunode.host.engines.k0s import K0s
from gpunode.host.engines.podman import Podman
from gpunode.host.reader import Reader

ENGINES: dict[str, ContainerEngine] = {
    engine.name: engine for engine in (Containerd(), K0s(), Docker(), Crio(), Podman())
}

CRI = ("containerd", "k0s")
"""Those that are a kubelet's containerd, of which a host has one."""


def found(host: Reader, flavour: Flavour) -> dict[str, FoundEngine]:
    """Every container engine on the host, by name."""
    looked = ((name, engine.find(host, flavour)) for name, engine in ENGINES.items())
    return {name: each for name, each in looked if each}
