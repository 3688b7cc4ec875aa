"""Hosts with the containerd of k3s, RKE2, MicroK8s or k0s. The containerd is real, the rest of those products is emulated.

The products themselves are not in Debian's archive. In their place stand scripts of the folder flavours/ which do what each product
does about its containerd, and nothing else: where program, configuration and socket lie, who writes which file when, how the daemon is
started, stopped and made to read its files again. There is no Kubernetes in it. A host has no containerd besides, as with the products.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from gpunode.lab import LabError, engines, gpu, layers, mirror, partial_archive, preinstalled, product
from gpunode.lab.host import LabHost, Prepare
from gpunode.lab.machine import run_in

PROGRAMS = ("usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr", "usr/sbin/runc")
REVISION = "8137"  # the snap's: its folders are named by it, and `current` leads there
MICROK8S_GROUP = 990


@dataclass(frozen=True)
class Flavour:
    """A Kubernetes distribution's containerd: its release, where things of it lie, and the client that its people use.

    `config` is what the daemon reads in the end, whoever wrote it. `data` is the daemon's own folder, which must not lie on an overlay.
    """

    release: str
    unit: str
    programs: str
    config: str
    data: str
    ctr: tuple[str, ...]
    lay: Callable[[Path], None]


def create_flavour(name: str, flavour: str, *, driver: str) -> LabHost:
    """Make a host with the containerd of a flavour (one of FLAVOURS), a GPU and a driver of this version, not yet booted.

    A host of that name goes first. Raises LabError.
    """
    if flavour not in FLAVOURS:
        raise LabError(f"the lab has no flavour {flavour}; known are {', '.join(FLAVOURS)}")
    wanted = FLAVOURS[flavour]
    base = layers.base()
    debian = [base, layers.warm(base, layers.FRESH)]
    stack = [*debian, _without_engine(debian), *product.product(base)]

    def emulated_gpus(root: Path, _address: str) -> None:
        gpu.prepare(root)

    def delivered_driver(root: Path, _address: str) -> None:
        preinstalled.prepare(root, driver)

    def emulated_flavour(root: Path, _address: str) -> None:
        _copy_programs(wanted, root)
        wanted.lay(root)

    def part_of_the_archive(root: Path, _address: str) -> None:
        partial_archive.prepare(root)

    servers: list[Prepare] = [part_of_the_archive, mirror.prepare]
    emulation: list[Prepare] = [emulated_gpus, *servers, delivered_driver, emulated_flavour]
    return LabHost.create(name, layers=stack, prepare=emulation, private=(wanted.data,))


def _without_engine(below: list[Path]) -> Path:
    def make(root: Path) -> None:
        run_in(root, "dpkg", "--purge", "containerd", "runc")

    return layers.build("no-engine", "taking Debian's own containerd out (once)", "purged", below, make)


def _copy_programs(flavour: Flavour, root: Path) -> None:
    source = engines.binary(flavour.release).parents[2]
    target = root / flavour.programs
    target.mkdir(parents=True)
    for program in PROGRAMS:
        shutil.copy(source / program, target)


def _lay_k3s(root: Path) -> None:
    """The programs of k3s lie in a folder named by their hash, to which a link leads."""
    (root / "var/lib/rancher/k3s/data/current").symlink_to("lab")
    _lay_rancher(root, "k3s", "k3s.service")


def _lay_rke2(root: Path) -> None:
    """The same with RKE2's, whose folder of programs is itself a link."""
    (root / "var/lib/rancher/rke2/bin").symlink_to("data/lab/bin")
    _lay_rancher(root, "rke2", "rke2-server.service")


def _lay_rancher(root: Path, name: str, unit: str) -> None:
    (root / f"etc/rancher/{name}").mkdir(parents=True)
    _lay(root, "k3s", f"usr/local/bin/{name}", 0o755)
    _enable(root, "k3s.service", unit, name=name)


def _lay_microk8s(root: Path) -> None:
    snap, data = root / "snap/microk8s", root / "var/snap/microk8s"
    (snap / "current").symlink_to(REVISION)
    (data / REVISION / "args").mkdir(parents=True)
    (data / "current").symlink_to(REVISION)
    (data / "common/run").mkdir(parents=True)
    _lay(root, "microk8s", "snap/bin/microk8s", 0o755)
    _lay(root, "snap", "usr/bin/snap", 0o755)
    _lay(root, "microk8s-run-containerd", f"snap/microk8s/{REVISION}/run-containerd-with-args", 0o755)
    arguments = f"var/snap/microk8s/{REVISION}/args"
    _lay(root, "microk8s-args", f"{arguments}/containerd", 0o660)
    _lay(root, "microk8s-template.toml", f"{arguments}/containerd-template.toml", 0o660)
    _give_to_group(root, root / arguments)
    _enable(root, "snap.microk8s.daemon-containerd.service", "snap.microk8s.daemon-containerd.service")


def _give_to_group(root: Path, folder: Path) -> None:
    """The members of microk8s may read and write the arguments, and others may not."""
    with (root / "etc/group").open("a") as groups:
        groups.write(f"microk8s:x:{MICROK8S_GROUP}:\n")
    folder.chmod(0o770)
    for path in (folder, *folder.iterdir()):
        os.chown(path, 0, MICROK8S_GROUP)


def _lay_k0s(root: Path) -> None:
    (root / "etc/k0s").mkdir()
    _lay(root, "k0s", "usr/local/bin/k0s", 0o755)
    _enable(root, "k0sworker.service", "k0sworker.service")


def _lay(root: Path, source: str, target: str, mode: int) -> None:
    path = root / target
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_source(source))
    path.chmod(mode)


def _enable(root: Path, source: str, unit: str, **words: str) -> None:
    units = root / "etc/systemd/system"
    text = _source(source).decode()
    for word, meaning in words.items():
        text = text.replace(f"{{{word}}}", meaning)
    (units / unit).write_text(text)
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / unit).symlink_to(f"/etc/systemd/system/{unit}")


def _source(name: str) -> bytes:
    return (files("gpunode.lab") / "flavours" / name).read_bytes()


def _k0s(release: str) -> Flavour:
    return Flavour(
        release=release,
        unit="k0sworker.service",
        programs="var/lib/k0s/bin",
        config="/etc/k0s/containerd.toml",
        data="var/lib/k0s/containerd",
        ctr=("k0s", "ctr"),
        lay=_lay_k0s,
    )


FLAVOURS = {
    "k3s": Flavour(
        release="2.1",
        unit="k3s.service",
        programs="var/lib/rancher/k3s/data/lab/bin",
        config="/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        data="var/lib/rancher/k3s/agent/containerd",
        ctr=("k3s", "ctr"),
        lay=_lay_k3s,
    ),
    "rke2": Flavour(
        release="1.7",
        unit="rke2-server.service",
        programs="var/lib/rancher/rke2/data/lab/bin",
        config="/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
        data="var/lib/rancher/rke2/agent/containerd",
        ctr=(
            *("/var/lib/rancher/rke2/bin/ctr", "--address", "/run/k3s/containerd/containerd.sock"),
            *("--namespace", "k8s.io"),
        ),
        lay=_lay_rke2,
    ),
    "microk8s": Flavour(
        release="1.7",
        unit="snap.microk8s.daemon-containerd.service",
        programs=f"snap/microk8s/{REVISION}/bin",
        config="/var/snap/microk8s/current/args/containerd.toml",
        data="var/snap/microk8s/common/var/lib/containerd",
        ctr=("/snap/bin/microk8s", "ctr"),
        lay=_lay_microk8s,
    ),
    "k0s-1.7": _k0s("1.7"),
    "k0s-2.1": _k0s("2.1"),
}
"""By the name that `create_flavour` takes: k0s as it was up to 1.35, with containerd 1.7, and as it is from 1.36 on, with 2.x."""
