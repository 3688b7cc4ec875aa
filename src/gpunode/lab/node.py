"""A lab GPU node: a lab host with all that the emulation puts there before the product runs."""

from pathlib import Path

from gpunode.lab import gpu, layers, mirror, product
from gpunode.lab.host import LabHost, Prepare


def _emulated_gpu(root: Path, _address: str) -> None:
    gpu.prepare(root)


# What is written into a node's root before its first boot, in this order.
EMULATION: tuple[Prepare, ...] = (_emulated_gpu, mirror.prepare)


def create_node(name: str) -> LabHost:
    """Make a lab GPU node with the product on it, not yet booted; a host of that name goes first. Raises LabError."""
    base = layers.base()
    return LabHost.create(name, layers=[base, layers.warm(base), *product.product(base)], prepare=EMULATION)
