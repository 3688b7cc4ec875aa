"""Container engines other than the one of a fresh Debian 13: real daemons from Debian's archive, each in the lab under a name.

A containerd of another Debian release comes as that release's own packages (archive.py). They are installed in lab hosts (`layer`), never
on this machine: here they are unpacked, for `binary` alone.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpunode.lab import LabError, archive, layers
from gpunode.lab.machine import command, lock, run_in
from gpunode.lab.paths import CACHE

FETCHED = CACHE / "engines"
CONTAINERD = ("containerd", "runc")
# Debian's release by containerd's. What sid has moves on: `version` says what it is.
SUITES = {"1.4": "bullseye", "1.6": "bookworm", "1.7": "trixie", "2.1": "sid"}


@dataclass(frozen=True)
class Engine:
    """What a lab host with this engine has that a fresh one has not.

    `suite` is the Debian release whose containerd and runc it runs, `packages` are installed from its own release. `private` are folders
    that must not lie on an overlay. A host with `own_network` reaches itself alone: Docker and Podman change the kernel's network settings.
    """

    suite: str = "trixie"
    packages: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    own_network: bool = False


ENGINES = {
    **{f"containerd-{release}": Engine(suite) for release, suite in SUITES.items()},
    "docker": Engine(packages=("docker.io", "docker-cli"), private=("var/lib/docker",), own_network=True),
    "podman": Engine(packages=("podman", "nftables"), private=("var/lib/containers",), own_network=True),
}
"""By the name that `create_node` takes."""
FRESH = "containerd-1.7"
"""What a fresh Debian 13 has."""


def engine(name: str) -> Engine:
    """Return the engine of this name. Raises LabError where there is none."""
    if name not in ENGINES:
        raise LabError(f"the lab has no engine {name}; known are {', '.join(ENGINES)}")
    return ENGINES[name]


def layer(name: str, below: Sequence[Path]) -> list[Path]:
    """Return the layer that brings the engine onto a Debian 13 (`below`, bottom first); no layer where that has it already.

    Raises LabError when a package cannot be had, or the engine is unknown.
    """
    wanted = engine(name)
    if wanted.packages:
        return [_installed(name, wanted.packages, below)]
    return [] if name == FRESH else [_replaced(name, wanted.suite, below)]


def _installed(name: str, packages: tuple[str, ...], below: Sequence[Path]) -> Path:
    def make(root: Path) -> None:
        run_in(root, "apt-get", "--quiet", "--yes", "--no-install-recommends", "install", *packages)

    return layers.build(name, f"installing {name} (once)", packages, below, make)


def _replaced(name: str, suite: str, below: Sequence[Path]) -> Path:
    debs = packages(suite)

    def make(root: Path) -> None:
        run_in(root, "dpkg", "--install", *(str(deb) for deb in debs), binds=debs)

    return layers.build(name, f"installing {suite}'s containerd (once)", [deb.name for deb in debs], below, make)


def binary(release: str) -> Path:
    """Return the containerd program of a release ("1.4", "1.6", "1.7", "2.1"), unpacked; it runs on this machine.

    Raises LabError for another release, or when its package cannot be fetched.
    """
    if release not in SUITES:
        raise LabError(f"the lab has no containerd {release}; known are {', '.join(SUITES)}")
    suite = SUITES[release]
    debs = packages(suite)
    root = FETCHED / suite / "root"
    with lock(f"engines-{suite}"):
        if not root.is_dir():
            unpacking = root.with_name("root.new")
            shutil.rmtree(unpacking, ignore_errors=True)
            for deb in debs:
                command("dpkg-deb", "--extract", deb, unpacking)
            unpacking.rename(root)
    return root / "usr/bin/containerd"


def version(release: str) -> str:
    """Return what the program of this release says it is: `1.7.24`. Raises LabError."""
    said = command(binary(release), "--version")
    found = re.search(r"\b\d+\.\d+\.\d+\b", said)
    if found is None:
        raise LabError(f"containerd {release} names no version: {said.strip()}")
    return found[0]


def packages(suite: str) -> list[Path]:
    """Return the files of containerd's and runc's packages of a Debian release, fetched where they are not yet. Raises LabError."""
    return archive.packages(suite, CONTAINERD, FETCHED / suite / "debs")
