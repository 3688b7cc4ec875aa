"""A booted host that reaches nobody, made a verified GPU node from a bundle alone, and taken back.

The bundle is made on a second host, while NVIDIA's mirror and Debian's archive answer there. The node has a network name space
with a loopback in it and nothing else; NVIDIA's mirror and what apt had fetched before are taken off it.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.mirror import TREE
from gpunode.lab.node import create_node
from lab.commands import gpunode

BUNDLE, TAMPERED = "/srv/gpu.bundle", "/srv/tampered.bundle"
STATUS = "var/lib/dpkg/status"
SOURCES = "etc/apt/sources.list.d"
IMAGES = "usr/lib/lab-images"
UNITS = "etc/systemd/system"
MIRROR = (
    *(f"{UNITS}/lab-mirror.service", f"{UNITS}/sysinit.target.wants/lab-mirror.service"),
    f"{SOURCES}/lab-debian-local.list",
)
LOADED = {
    "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0",
    "nvcr.io/nvidia/k8s-device-plugin:v0.20.0",
}
TOOLS = "apt-get --quiet --yes --no-install-recommends install gpg gpg-agent"
NEW_KEY = "gpg --batch --quiet --passphrase '' --quick-generate-key 'Bundles <bundles@example.com>'"
PROFILE = """\
[driver]
source = "local"

[cuda]
version = "13.0"

[bundle]
path = "{path}"
fingerprints = ["{key}"]
"""
MTIMES = (
    "find /etc /usr /opt /root /boot /srv /var/lib/dpkg /var/lib/apt /var/lib/gpunode /var/lib/gpunode-bundle -type f"
    " ! -path /var/lib/gpunode/lock -printf '%p %T@\\n' | sort"
)
FETCH = "import urllib.request; urllib.request.urlopen('https://developer.download.nvidia.com/', timeout=5)"


@dataclass
class Island:
    """A host without network that a bundle was brought to, and what it was like before."""

    host: LabHost
    key: str
    made: dict[str, Any]
    before: Snapshot

    def images(self) -> list[str]:
        """Every image that containerd has, for the kubelet and for `ctr` itself, by all its names."""
        names = [
            self.host.run("ctr", "--namespace", each, "images", "ls", "-q").stdout for each in ("k8s.io", "default")
        ]
        return "".join(names).split()

    def changes(self) -> str:
        """What differs from before; empty where nothing does."""
        found = Snapshot.compare(self.before, Snapshot.take(self.host))
        return report(found) if found else ""


@pytest.fixture(scope="module")
def island() -> Iterator[Island]:
    with create_node("bundle-island", own_network=True, whole_archive=True) as host:
        cut_off(host)
        key, made = bring_bundle(host)
        shutil.copyfile(host.root / BUNDLE[1:], host.root / TAMPERED[1:])
        tamper(host.root / TAMPERED[1:], "apt/nvidia-open_580.159.04-1_amd64.deb")
        host.write("/etc/gpunode/profile.toml", PROFILE.format(path=BUNDLE, key=key))
        host.write("/root/tampered.toml", PROFILE.format(path=TAMPERED, key=key))
        host.write("/root/another.toml", PROFILE.format(path=BUNDLE, key=key).replace("13.0", "12.8"))
        host.boot()
        yield Island(host, key, made, Snapshot.take(host))


def cut_off(host: LabHost) -> None:
    """Take NVIDIA's mirror off a host, and all that its apt has fetched from anywhere; its network it has not to begin with."""
    shutil.rmtree(host.root / TREE)
    for name in MIRROR:
        (host.root / name).unlink()
    for pattern in ("var/lib/apt/lists/*_*", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb"):
        for file in host.root.glob(pattern):
            file.unlink()


def bring_bundle(target: LabHost) -> tuple[str, dict[str, Any]]:
    """Make a bundle for a host on another, which has a network, and put it there; returns who signed it and what create said.

    The images move: the target has none of them.
    """
    with create_node("bundle-maker", cluster=False, whole_archive=True) as maker:
        images = [shutil.move(file, maker.root / "srv") for file in (target.root / IMAGES).glob("*.tar")]
        shutil.copyfile(target.root / STATUS, maker.root / "srv/status")
        maker.boot()
        maker.shell(f"{TOOLS} && {NEW_KEY}")
        listing = maker.run("gpg", "--with-colons", "--list-secret-keys").stdout.splitlines()
        key = next(line.split(":")[9] for line in listing if line.startswith("fpr:"))
        maker.write("/root/profile.toml", PROFILE.format(path=BUNDLE, key=key))
        words = ["--profile", "/root/profile.toml", "--output", BUNDLE, "--status", "/srv/status", "--sign-with", key]
        words += ["--kernel", maker.run("uname", "-r").stdout.strip()]
        words += [word for file in images for word in ("--image", f"/srv/{Path(file).name}")]
        made: dict[str, Any] = json.loads(
            maker.run("gpunode", "bundle", "create", *words, "--json", timeout=300).stdout
        )
        shutil.copyfile(maker.root / BUNDLE[1:], target.root / BUNDLE[1:])
    return key, made


def tamper(bundle: Path, name: str) -> None:
    """Turn one bit in the middle of a file of the bundle."""
    with tarfile.open(bundle) as archive:
        member = archive.getmember(name)
    with bundle.open("r+b") as file:
        file.seek(member.offset_data + member.size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


def test_the_host_reaches_nobody(island: Island) -> None:
    assert [line.split()[0] for line in island.host.run("ip", "-brief", "address").stdout.splitlines()] == ["lo"]
    update = ("apt-get", "update", "--error-on=any", "--option=Acquire::Retries=0")
    assert island.host.run(*update, check=False).returncode == 100
    assert "urlopen error" in island.host.run("python3", "-c", FETCH, check=False).stderr
    assert island.images() == []


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("tampered", f"{TAMPERED}: apt/nvidia-open_580.159.04-1_amd64.deb: its sha256 is "),
        ("another", f"{BUNDLE}: the bundle does not have cuda-toolkit-12-8"),
    ],
)
def test_a_bundle_that_will_not_do_is_refused_before_anything_changes(island: Island, profile: str, words: str) -> None:
    refused = island.host.run("gpunode", "apply", "--yes", "--profile", f"/root/{profile}.toml", check=False)
    assert refused.returncode == 1
    assert words in refused.stderr
    assert not island.changes()


@pytest.fixture(scope="module")
def applied(island: Island) -> dict[str, Any]:
    return gpunode(island.host, "apply", "--yes")


def test_apply_makes_it_a_verified_node(island: Island, applied: dict[str, Any]) -> None:
    assert applied["result"] == "changed"
    steps = {step["name"]: step for step in applied["steps"]}
    assert [name for name, step in steps.items() if step["differences"]] == [
        *("driver", "cuda", "container_toolkit", "containerd", "device_plugin")
    ]
    assert [probe["state"] for probe in steps["verify"]["probes"]] == ["passed"] * 9
    assert set(island.images()) >= LOADED


def test_every_package_that_came_is_the_bundles(island: Island, applied: dict[str, Any]) -> None:
    assert applied["result"] == "changed"
    had = {name.partition(":")[0] for name in island.before.sections["package"]}
    listing = island.host.run("dpkg-query", "--show", "--showformat=${Package} ${Version}\\n").stdout.splitlines()
    known = dict(line.split() for line in listing)
    assert {name: version for name, version in known.items() if name not in had} == island.made["packages"]


def test_a_second_apply_changes_no_files_time(island: Island, applied: dict[str, Any]) -> None:
    assert applied["result"] == "changed"
    times = island.host.shell(MTIMES).stdout
    again = gpunode(island.host, "apply", "--yes")
    assert (again["result"], again["run"]) == ("in-sync", None)
    assert gpunode(island.host, "check")["result"] == "in-sync"
    assert island.host.shell(MTIMES).stdout == times


def test_the_file_is_not_needed_any_more(island: Island, applied: dict[str, Any]) -> None:
    assert applied["result"] == "changed"
    island.host.run("mv", BUNDLE, f"{BUNDLE}.away")
    assert gpunode(island.host, "check")["result"] == "in-sync"
    island.host.run("mv", f"{BUNDLE}.away", BUNDLE)


def test_a_rollback_leaves_nothing_of_the_bundle(island: Island, applied: dict[str, Any]) -> None:
    assert applied["result"] == "changed"
    undone = gpunode(island.host, "rollback", "--yes")
    assert (undone["result"], undone["left"]) == ("undone", [])
    assert not island.changes()
    assert island.images() == []
