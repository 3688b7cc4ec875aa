"""The main job on real Debian 11 and 12: their own apt, dpkg, systemd, containerd and kubectl; other versions and back, and taken back.

Debian 13 has a file of its own (test_main_job.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node
from lab.commands import gpunode

PROFILE = "/etc/gpunode/profile.toml"
OLD, MIDDLE, NEW = "580.126.20", "580.159.04", "580.178.01"
PACKAGES = ("nvidia-open", "nvidia-kernel-open-dkms", "libcuda1", "libnvidia-ml1", "nvidia-smi", "nvidia-persistenced")
MTIMES = (
    "find /etc /usr /opt /root /boot /var/lib/dpkg /var/lib/apt /var/lib/gpunode -xdev -type f"
    " ! -path /var/lib/gpunode/lock -printf '%p %T@\\n' | sort"
)


def ask_for(host: LabHost, table: str, version: str) -> None:
    """Have the profile's table ask for a version."""
    host.shell(f"sed -i '/^\\[{table}\\]/,/^\\[/ s/^#\\? *version = .*/version = \"{version}\"/' {PROFILE}")
    assert f'version = "{version}"' in host.read(PROFILE)


@dataclass
class Node:
    """A host of one Debian release that gpunode has set up, and what it was like before."""

    host: LabHost
    suite: str
    before: Snapshot
    applied: dict[str, Any]

    def gpunode(self, *words: str, exits: int = 0) -> dict[str, Any]:
        """Run a command with --output json; its exit status must be as told."""
        return gpunode(self.host, *words, exits=exits)

    def want(self, version: str) -> dict[str, Any]:
        """Have the profile ask for another driver, and apply it."""
        ask_for(self.host, "driver", version)
        return self.gpunode("apply", "--yes", "--step=driver")

    def versions(self) -> set[str]:
        """Of the driver's packages, as dpkg has them."""
        said = self.host.run("dpkg-query", "--show", "--showformat=${Version}\\n", *PACKAGES).stdout
        return {version.rpartition("-")[0] for version in said.split()}


@pytest.fixture(scope="module", params=["bookworm", "bullseye"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    suite: str = request.param
    with create_node(f"dh-{suite}", suite=suite, compiler=True) as host:
        host.boot()
        host.run("gpunode", "init")
        ask_for(host, "cuda", "none")  # as on most nodes
        before = Snapshot.take(host)
        yield Node(host, suite, before, gpunode(host, "apply", "--yes"))


def test_apply_ends_with_every_smoke_test_passed(node: Node) -> None:
    assert node.suite in node.host.read("/etc/os-release")
    assert node.applied["result"] == "changed"
    [verify] = [step for step in node.applied["steps"] if step["name"] == "verify"]
    assert [probe["state"] for probe in verify["probes"]] == ["passed"] * 9
    assert node.versions() == {MIDDLE}


def test_a_second_apply_changes_no_files_time(node: Node) -> None:
    times = node.host.shell(MTIMES).stdout
    again = node.gpunode("apply", "--yes")
    assert (again["result"], again["run"]) == ("in-sync", None)
    assert node.host.shell(MTIMES).stdout == times


def test_nothing_is_found_on_the_healthy_host(node: Node) -> None:
    for command in ("check", "doctor"):
        looked = node.gpunode(command)
        assert looked["result"] == "in-sync"
        assert looked["findings"] == []


def test_what_upgrades_everything_leaves_what_is_held(node: Node) -> None:
    assert NEW in node.host.run("apt-cache", "madison", "nvidia-open").stdout
    node.host.run("apt-get", "dist-upgrade", "--yes", timeout=300)
    assert node.versions() == {MIDDLE}
    assert node.gpunode("apply", "--yes")["result"] == "in-sync"


@pytest.mark.parametrize("version", [NEW, OLD])
def test_another_version_comes_with_its_module_in_one_apply(node: Node, version: str) -> None:
    """Up and down: packages together, the module that nobody uses loaded anew, holds at the new version."""
    assert node.want(version)["result"] == "changed"
    assert node.versions() == {version}
    assert node.host.read("/sys/module/nvidia/version").strip() == version
    assert node.gpunode("apply", "--yes")["result"] == "in-sync"


def test_rollback_leaves_the_host_as_it_was(node: Node) -> None:
    undone = node.gpunode("rollback", "--yes")
    assert (undone["result"], undone["left"]) == ("undone", [])
    # The kubelet takes its time to end the plugin's pod, whose socket goes with it.
    node.host.shell(
        "for i in $(seq 50); do test -e /var/lib/kubelet/device-plugins/nvidia-gpu.sock || break; sleep 0.2; done"
    )
    changes = Snapshot.compare(node.before, Snapshot.take(node.host))
    others = [change for change in changes if change.name != PROFILE]
    assert not others, report(others)
