"""CDI on a real host with containerd 2.1: the specification comes, is used, goes stale, survives a reboot, and all is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gpunode.lab.host import LabHost
from gpunode.lab.images import VECTOR_ADD
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node
from lab.commands import gpunode

SPEC = "/var/run/cdi/nvidia.yaml"
CONFIG = "/etc/nvidia-container-runtime/config.toml"
TRACE = "/var/log/lab-nvidia-container-runtime.log"
UNITS = ("nvidia-cdi-refresh.path", "nvidia-cdi-refresh.service")
STEPS = ("--step=driver", "--step=container_toolkit", "--step=verify")
PROFILE = """\
[container_toolkit]
mode = "cdi"
[verify]
level = "container"
"""


@dataclass
class Node:
    """A host that was set up by `gpunode apply`, and what it was like before."""

    host: LabHost
    before: Snapshot
    applied: dict[str, Any]


def run_by_cdi(host: LabHost) -> tuple[bool, str]:
    """Run NVIDIA's sample with the GPU's CDI name and without the nvidia runtime; whether it passed, and what was said."""
    done = host.run("ctr", "run", "--rm", "--device=nvidia.com/gpu=0", VECTOR_ADD, "by-cdi", check=False)
    return done.returncode == 0 and "Test PASSED" in done.stdout, done.stderr


def findings(document: dict[str, Any]) -> list[str]:
    """The ids of the findings of a check."""
    return [finding["id"] for step in document["steps"] for finding in step["findings"]]


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with create_node("cdi-node", engine="containerd-2.1") as host:
        host.boot()
        host.write("/etc/gpunode/profile.toml", PROFILE)
        before = Snapshot.take(host)
        yield Node(host, before, gpunode(host, "apply", "--yes", *STEPS))


def test_the_container_layer_was_tried_by_cdi_too(node: Node) -> None:
    [verify] = [step for step in node.applied["steps"] if step["name"] == "verify"]
    details = {probe["name"]: (probe["state"], probe["detail"]) for probe in verify["probes"]}
    assert details["container"] == (
        "passed",
        "Test PASSED through the nvidia runtime and by CDI (nvidia.com/gpu=0)",
    )


def test_of_the_toolkits_configuration_one_value_was_changed(node: Node) -> None:
    fresh = node.host.shell(f"cd $(mktemp -d) && apt-get download -qq nvidia-container-toolkit-base=1.20.0-1 && "
                            f"dpkg-deb --fsys-tarfile *.deb | tar -xO .{CONFIG}").stdout  # fmt: skip
    assert node.host.read(CONFIG) == fresh.replace('mode = "auto"', 'mode = "cdi"')


def test_a_container_gets_its_gpu_by_cdi_and_not_by_the_runtime(node: Node) -> None:
    called = node.host.read(TRACE)
    assert run_by_cdi(node.host) == (True, "")
    assert node.host.read(TRACE) == called


def test_a_second_apply_changes_nothing(node: Node) -> None:
    assert gpunode(node.host, "apply", "--yes", *STEPS)["result"] == "in-sync"


def test_a_specification_of_another_driver_is_named_and_mended(node: Node) -> None:
    node.host.run("sed", "-i", "s/580\\.159\\.04/580.126.20/", SPEC)
    passed, words = run_by_cdi(node.host)
    assert not passed
    assert "no such file or directory" in words
    assert "cdi-spec-stale" in findings(gpunode(node.host, "check", *STEPS, exits=3))

    gpunode(node.host, "apply", "--yes", *STEPS)

    assert run_by_cdi(node.host) == (True, "")


def test_one_that_is_gone_with_its_units_is_named_and_brought_back(node: Node) -> None:
    node.host.run("systemctl", "disable", "--now", *UNITS)
    node.host.run("rm", SPEC)
    assert "unresolvable CDI devices" in run_by_cdi(node.host)[1]
    assert "cdi-spec-missing" in findings(gpunode(node.host, "check", *STEPS, exits=3))

    gpunode(node.host, "apply", "--yes", *STEPS)

    assert run_by_cdi(node.host) == (True, "")
    assert node.host.run("systemctl", "is-enabled", *UNITS).stdout == "enabled\nenabled\n"


def test_a_reboot_brings_a_new_one(node: Node) -> None:
    node.host.reboot()
    node.host.shell(f"for i in $(seq 100); do [ -e {SPEC} ] && ctr version > /dev/null 2>&1 && break; sleep 0.1; done")
    assert run_by_cdi(node.host) == (True, "")
    assert gpunode(node.host, "check", *STEPS)["result"] == "in-sync"


def test_rollback_leaves_the_host_as_it_was(node: Node) -> None:
    undone = gpunode(node.host, "rollback", "--yes")
    assert (undone["result"], undone["left"]) == ("undone", [])
    changes = Snapshot.compare(node.before, Snapshot.take(node.host))
    assert not changes, report(changes)


def test_a_new_driver_gets_a_new_specification(node: Node) -> None:
    """While it is exchanged the unit runs into the mismatch, again and again, until systemd refuses it for a while."""
    gpunode(node.host, "apply", "--yes", *STEPS)
    node.host.write("/etc/gpunode/profile.toml", f'[driver]\nversion = "580.178.01"\n{PROFILE}')
    assert gpunode(node.host, "apply", "--yes", *STEPS)["result"] == "changed"
    assert "libcuda.so.580.178.01" in node.host.read(SPEC)
    assert run_by_cdi(node.host) == (True, "")
