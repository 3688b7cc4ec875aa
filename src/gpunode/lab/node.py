"""A lab GPU node: a lab host with all that the emulation puts there before the product runs."""

import shutil
from pathlib import Path

from gpunode.lab import gpu, images, layers, mirror, product
from gpunode.lab.host import LabHost, Prepare
from gpunode.lab.kubernetes import image, setup
from gpunode.lab.paths import CACHE

IMAGES = CACHE / "images"


def create_node(name: str, *, cluster: bool = True, devices: tuple[str, ...] = ("10de:2330",)) -> LabHost:
    """Make a lab GPU node with the product on it, not yet booted; a host of that name goes first. Raises LabError.

    `cluster` says whether it is a node of a Kubernetes cluster; `devices` are its GPUs by PCI id.
    """
    base = layers.base()
    stack = [base, layers.warm(base), *product.product(base)]

    def emulated_gpus(root: Path, _address: str) -> None:
        gpu.prepare(root, devices)

    def emulated_cluster(root: Path, address: str) -> None:
        setup.prepare(root, address, images=_images(stack))

    emulation: list[Prepare] = [emulated_gpus, mirror.prepare, _keep_containerd_default]
    if cluster:
        emulation.append(emulated_cluster)
    return LabHost.create(name, layers=stack, prepare=emulation)


def _keep_containerd_default(root: Path, _address: str) -> None:
    """A copy of the distribution's config.toml: what a configuration-management run puts back in its innocence."""
    folder = root / "usr/share/lab-containerd"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / "etc/containerd/config.toml", folder / "config.toml")


def _images(stack: list[Path]) -> list[Path]:
    """What a registry would hand out, were there one: NVIDIA's sample and device plugin, in name."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    return [images.cuda_vector_add(IMAGES), image.device_plugin(stack, IMAGES)]
