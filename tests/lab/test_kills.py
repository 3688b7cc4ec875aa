"""SIGKILL at a dozen moments spread over a real apply, and a power cut: apply finishes the job, rollback undoes it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node

MOMENTS = tuple((number + 1) / 14 for number in range(12))
"""Fractions of the time that a whole apply takes on this machine."""


@dataclass(frozen=True)
class Node:
    """A host, what it is like before, and how long a whole apply takes there, in seconds."""

    host: LabHost
    before: Snapshot
    whole: float


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with create_node("kills") as host:
        host.boot()
        host.run("gpunode", "init")
        before = Snapshot.take(host)
        began = time.monotonic()
        host.run("gpunode", "apply", "--yes", timeout=600)
        whole = time.monotonic() - began
        take_back(host, before)
        yield Node(host, before, whole)


def kill_apply(host: LabHost, seconds: float) -> bool:
    """Start an apply and kill it, and all that it started, after so many seconds; False when it had ended by then."""
    running = host.popen("setsid", "--wait", "gpunode", "apply", "--yes")
    time.sleep(seconds)
    alive = running.poll() is None
    for words in (("-f", "[g]punode apply"), ("-x", "apt-get"), ("-x", "dpkg")):
        host.run("pkill", "-KILL", *words, check=False)
    running.wait(10)
    return alive


def take_back(host: LabHost, before: Snapshot) -> None:
    done = host.run("gpunode", "rollback", "--yes", "--output", "json", check=False, timeout=300)
    document = json.loads(done.stdout)
    assert document["result"] == "undone", document
    changes = Snapshot.compare(before, Snapshot.take(host))
    assert not changes, report(changes)


@pytest.mark.parametrize("moment", MOMENTS[::2])
def test_an_apply_that_was_killed_is_undone(node: Node, moment: float) -> None:
    assert kill_apply(node.host, moment * node.whole), "apply had ended before it was killed"
    told = node.host.run("gpunode", "check", check=False).stdout
    assert "was interrupted" in told
    take_back(node.host, node.before)


@pytest.mark.parametrize("moment", MOMENTS[1::2])
def test_an_apply_that_was_killed_is_finished(node: Node, moment: float) -> None:
    assert kill_apply(node.host, moment * node.whole), "apply had ended before it was killed"
    done = node.host.run("gpunode", "apply", "--yes", check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert node.host.run("gpunode", "check", check=False).returncode == 0
    take_back(node.host, node.before)


def test_a_power_cut_in_the_middle_is_survived(node: Node) -> None:
    node.host.popen("gpunode", "apply", "--yes")
    time.sleep(node.whole / 2)
    node.host.power_cut()
    node.host.boot()
    done = node.host.run("gpunode", "apply", "--yes", check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    take_back(node.host, node.before)
