"""The main job by dnf 4, dnf 5 and zypper: from a bare host to a verified GPU node, other versions and back, and taken back to the byte.

dnf, zypper and rpm are Debian's packages of them, on a Debian root with the os-release of another distribution: what is tried is the
package managers and gpunode, not those distributions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gpunode.lab import rpm
from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from lab.commands import gpunode

PROFILE = "/etc/gpunode/profile.toml"
OLD, MIDDLE, NEW = "580.126.20", "580.159.04", "580.178.01"
LIBRARY = {"dnf": "nvidia-driver-cuda-libs", "dnf5": "nvidia-driver-cuda-libs", "zypper": "nvidia-compute-utils-G06"}
PACKAGES = {
    "dnf": ("nvidia-driver-cuda", LIBRARY["dnf"], "kmod-nvidia-open-dkms", "nvidia-persistenced"),
    "dnf5": ("nvidia-open", LIBRARY["dnf5"], "kmod-nvidia-open-dkms", "nvidia-persistenced"),
    "zypper": (LIBRARY["zypper"], "nvidia-open-driver-G06", "nvidia-persistenced"),
}
MTIMES = "find /etc /usr /opt /root /boot /var/lib/gpunode -xdev -type f ! -path /var/lib/gpunode/lock -printf '%p %T@\\n' | sort"
# The managers' own databases and caches, which grow with every transaction, and the mirror's files, which dnf marks by attributes.
DATABASES = ("/var/lib/rpm", "/var/lib/dnf", "/usr/lib/sysimage", "/var/lib/zypp", "/var/lib/YaST2", "/srv")


@dataclass
class Node:
    """A host of one package manager that gpunode has set up, and what it was like before."""

    host: LabHost
    manager: str
    before: Snapshot
    packages: list[str]
    applied: dict[str, Any]

    def gpunode(self, *words: str, exits: int = 0) -> dict[str, Any]:
        """Run a command with --output json; its exit status must be as told."""
        return gpunode(self.host, *words, exits=exits)

    def want(self, version: str) -> dict[str, Any]:
        """Have the profile ask for another driver, and apply it."""
        self.host.shell(f"sed -i '/^\\[driver\\]/,/^\\[/ s/^#\\? *version = .*/version = \"{version}\"/' {PROFILE}")
        assert f'version = "{version}"' in self.host.read(PROFILE)
        return self.gpunode("apply", "--yes", "--step=driver")

    def versions(self) -> set[str]:
        """Of the driver's packages, as rpm has them."""
        words = ("rpm", "--query", "--queryformat=%{VERSION}\\n", *PACKAGES[self.manager])
        return set(self.host.run(*words).stdout.split())


def installed(host: LabHost) -> list[str]:
    return sorted(host.run("rpm", "--query", "--all").stdout.split())


@pytest.fixture(scope="module", params=["dnf", "dnf5", "zypper"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    manager: str = request.param
    with rpm.create_host(f"rpm-node-{manager}", manager, node=True) as host:
        host.boot()
        host.run("gpunode", "init")
        before, packages = Snapshot.take(host), installed(host)
        yield Node(host, manager, before, packages, gpunode(host, "apply", "--yes"))


def test_apply_ends_with_every_smoke_test_passed(node: Node) -> None:
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
    words = dict.fromkeys(("dnf", "dnf5"), ("dnf", "upgrade", "--assumeyes"))
    words |= {"zypper": ("zypper", "--non-interactive", "update")}
    node.host.run(*words[node.manager], timeout=300)
    assert node.versions() == {MIDDLE}
    assert node.gpunode("apply", "--yes")["result"] == "in-sync"


@pytest.mark.parametrize("version", [NEW, OLD])
def test_another_version_comes_with_its_module_in_one_apply(node: Node, version: str) -> None:
    """Up and down: packages together, the module that nobody uses loaded anew, holds at the new version."""
    assert node.want(version)["result"] == "changed"
    assert node.versions() == {version}
    assert node.host.read("/sys/module/nvidia/version").strip() == version
    assert node.gpunode("apply", "--yes")["result"] == "in-sync"
    assert node.gpunode("verify")["result"] == "verified"


def test_rollback_leaves_the_host_as_it_was(node: Node) -> None:
    undone = node.gpunode("rollback", "--yes")
    assert (undone["result"], undone["left"]) == ("undone", [])
    # The kubelet takes its time to end the plugin's pod, whose socket goes with it.
    node.host.shell(
        "for i in $(seq 50); do test -e /var/lib/kubelet/device-plugins/nvidia-gpu.sock || break; sleep 0.2; done"
    )
    changes = Snapshot.compare(node.before, Snapshot.take(node.host))
    others = [change for change in changes if not change.name.startswith((*DATABASES, PROFILE))]
    assert not others, report(others)
    assert installed(node.host) == node.packages
