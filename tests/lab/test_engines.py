"""The container engines for real: each daemon in a booted host, three containers running, gpunode's edit, its failure and its way back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node
from lab.commands import gpunode
from lab.engine_kinds import KINDS, Kind, traced

# The driver came with the host: what is tried here stands on it and is no part of it.
PROFILE = """\
[driver]
source = "preinstalled"
[kubernetes]
flavour = "plain"
[device_plugin]
mode = "none"
[verify]
level = "host"
"""
DRIVER = "580.126.20"
APPLY = ("apply", "--yes", "--step=container_toolkit", "--step=containerd", "--step=engines")
STATE = (
    "find /etc /usr /var/lib/gpunode -type f ! -path /var/lib/gpunode/lock -printf '%p %T@ %s\\n' | sort;"
    " find /etc -type f -exec sha256sum {} + | sort"
)


@dataclass
class Node:
    """A host on which gpunode's edit first failed and then succeeded."""

    name: str
    kind: Kind
    host: LabHost
    before: Snapshot
    pids: list[int]
    files: dict[str, str | None]
    failed: subprocess.CompletedProcess[str] | None
    files_after_failure: dict[str, str | None]
    unit_after_failure: str
    applied: dict[str, Any]


@pytest.fixture(scope="module", params=KINDS)
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    name: str = request.param
    kind = KINDS[name]
    with create_node(f"engine-{name.replace('.', '-')}", engine=name, cluster=False, driver=DRIVER) as host:
        host.boot()
        host.write("/etc/gpunode/profile.toml", PROFILE)
        kind.prepare(host, tmp_path_factory.mktemp(name))
        before, pids, files = Snapshot.take(host), kind.pids(host), read(host, kind)
        failed = apply_with_breakage(host, kind) if kind.breaking else None
        files_after_failure, unit = read(host, kind), state(host, kind)
        mend(host, kind)
        applied = gpunode(host, *APPLY)
        yield Node(name, kind, host, before, pids, files, failed, files_after_failure, unit, applied)


def apply_with_breakage(host: LabHost, kind: Kind) -> subprocess.CompletedProcess[str]:
    host.write(f"/etc/systemd/system/{kind.unit}.d/breaking.conf", kind.breaking)
    host.run("systemctl", "daemon-reload")
    return host.run("gpunode", *APPLY, check=False, timeout=300)


def mend(host: LabHost, kind: Kind) -> None:
    if kind.breaking:
        host.run("rm", "-r", f"/etc/systemd/system/{kind.unit}.d")
        host.run("systemctl", "daemon-reload")


def read(host: LabHost, kind: Kind) -> dict[str, str | None]:
    found = {path: host.run("cat", path, check=False) for path in kind.files}
    return {path: done.stdout if done.returncode == 0 else None for path, done in found.items()}


def state(host: LabHost, kind: Kind) -> str:
    return host.run("systemctl", "is-active", kind.unit, check=False).stdout.strip() if kind.unit else ""


def test_the_daemon_is_the_one_of_its_name(node: Node) -> None:
    program, _, release = node.name.partition("-")
    said = node.host.run("dockerd" if program == "docker" else program, "--version").stdout
    assert f" {release}." in said or not release
    assert node.host.run("dpkg", "--audit").stdout == ""


def test_a_daemon_that_does_not_take_the_edit_gets_its_old_files_and_says_why(node: Node) -> None:
    if node.failed is None:
        pytest.fail("an engine with a daemon was not tried") if node.kind.unit else None
        return
    assert node.failed.returncode == 1, node.failed.stdout
    assert "did not come back with the new configuration" in node.failed.stderr
    assert node.kind.complaint in node.failed.stderr
    assert "Traceback" not in node.failed.stderr
    assert node.files_after_failure == node.files
    assert node.unit_after_failure == "active"


def test_containers_run_on(node: Node) -> None:
    assert node.applied["result"] == "changed"
    assert len(node.pids) == 3
    assert node.kind.pids(node.host) == node.pids


def test_a_second_apply_changes_nothing(node: Node) -> None:
    before = node.host.shell(STATE).stdout
    again = gpunode(node.host, *APPLY)
    assert (again["result"], again["run"]) == ("in-sync", None)
    assert node.host.shell(STATE).stdout == before


def test_a_container_by_the_runtimes_program_leaves_its_trace(node: Node) -> None:
    assert traced(node.host, node.kind.by_program(node.host))


def test_a_container_by_name_gets_what_it_asks_for(node: Node) -> None:
    node.kind.by_name(node.host)


def test_rollback_leaves_the_host_as_it_was_and_containers_run_on(node: Node) -> None:
    undone = gpunode(node.host, "rollback", "--yes")
    assert (undone["result"], undone["left"]) == ("undone", [])
    changes = Snapshot.compare(node.before, Snapshot.take(node.host))
    assert not changes, report(changes)
    assert set(node.pids) <= set(node.kind.pids(node.host))
