"""A lab GPU node: a lab host with all that the emulation puts there before the product runs."""

import shutil
from pathlib import Path

from gpunode.lab import engines, gpu, images, kernel, layers, mirror, partial_archive, preinstalled, product
from gpunode.lab.host import LabHost, Prepare
from gpunode.lab.kubernetes import image, setup
from gpunode.lab.paths import CACHE

IMAGES = CACHE / "images"


def create_node(
    name: str,
    *,
    cluster: bool = True,
    devices: tuple[str, ...] = ("10de:2330",),
    engine: str = engines.FRESH,
    driver: str = "",
    suite: str = layers.FRESH,
    release: str = "",
    own_network: bool = False,
    compiler: bool = False,
    whole_archive: bool = False,
) -> LabHost:
    """Make a lab GPU node with the product on it, not yet booted; a host of that name goes first. Raises LabError.

    `cluster` says whether it is a node of a Kubernetes cluster; `devices` are its GPUs by PCI id; `engine` is its container
    engine, one of engines.ENGINES; `driver` is the version of one that it is delivered with. `suite` is its Debian release, and
    `release` the kernel that it seems to run, this machine's where it is empty. A host with `own_network` reaches itself alone.
    One with a `compiler` has it from the start: installing it is the longest part of an apply. Of Debian's archive a host sees the part
    that the lab has downloaded already, or the `whole_archive` by the network.
    """
    wanted = engines.engine(engine)
    base = layers.base(suite)
    debian = [base, layers.warm(base, suite)]
    debian += [layers.compiler(debian)] if compiler else []
    stack = [*debian, *engines.layer(engine, debian), *product.product(base, suite)]

    def emulated_gpus(root: Path, _address: str) -> None:
        gpu.prepare(root, devices)

    def emulated_cluster(root: Path, address: str) -> None:
        setup.prepare(root, address, images=sample_images(stack if suite == layers.FRESH else _fresh_stack()))

    def servers(root: Path, address: str) -> None:
        mirror.prepare(root, address, suite=suite)

    def part_of_the_archive(root: Path, _address: str) -> None:
        partial_archive.prepare(root)

    def delivered_driver(root: Path, _address: str) -> None:
        preinstalled.prepare(root, driver)

    def other_kernel(root: Path, _address: str) -> None:
        kernel.prepare(root, release)

    emulation: tuple[tuple[bool, Prepare], ...] = (
        (True, emulated_gpus),
        (True, servers),
        (True, _keep_containerd_default),
        (not whole_archive, part_of_the_archive),
        (bool(driver), delivered_driver),
        (bool(release), other_kernel),
        (cluster, emulated_cluster),
    )
    prepare = [part for asked, part in emulation if asked]
    alone = own_network or wanted.own_network
    return LabHost.create(name, layers=stack, prepare=prepare, private=wanted.private, own_network=alone)


def _fresh_stack() -> list[Path]:
    """What images are made of: they come from a registry, whatever the host that runs them."""
    base = layers.base()
    return [base, layers.warm(base, layers.FRESH), *product.product(base)]


def _keep_containerd_default(root: Path, _address: str) -> None:
    """A copy of the distribution's config.toml: what a configuration-management run puts back in its innocence."""
    folder = root / "usr/share/lab-containerd"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / "etc/containerd/config.toml", folder / "config.toml")


def sample_images(stack: list[Path]) -> list[Path]:
    """Archives of what a registry would hand out, were there one: NVIDIA's sample and device plugin, in name."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    return [images.cuda_vector_add(IMAGES), image.device_plugin(stack, IMAGES)]
