"""SIGKILL at a dozen moments spread over a real apply, and a power cut: apply finishes the job, rollback undoes it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node

MOMENTS = tuple(0.5 + 1.6 * number for number in range(12))
"""Seconds after the start; a whole apply takes about twenty."""


@pytest.fixture(scope="module")
def host() -> Iterator[tuple[LabHost, Snapshot]]:
    with create_node("kills") as host:
        host.boot()
        host.run("gpunode", "init")
        yield host, Snapshot.take(host)


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


@pytest.mark.parametrize("seconds", MOMENTS[::2])
def test_an_apply_that_was_killed_is_undone(host: tuple[LabHost, Snapshot], seconds: float) -> None:
    node, before = host
    assert kill_apply(node, seconds), "apply had ended before it was killed: choose an earlier moment"
    told = node.run("gpunode", "check", check=False).stdout
    assert "was interrupted" in told
    take_back(node, before)


@pytest.mark.parametrize("seconds", MOMENTS[1::2])
def test_an_apply_that_was_killed_is_finished(host: tuple[LabHost, Snapshot], seconds: float) -> None:
    node, before = host
    assert kill_apply(node, seconds), "apply had ended before it was killed: choose an earlier moment"
    done = node.run("gpunode", "apply", "--yes", check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert node.run("gpunode", "check", check=False).returncode == 0
    take_back(node, before)


def test_a_power_cut_in_the_middle_is_survived(host: tuple[LabHost, Snapshot]) -> None:
    node, before = host
    node.popen("gpunode", "apply", "--yes")
    time.sleep(9)
    node.power_cut()
    node.boot()
    done = node.run("gpunode", "apply", "--yes", check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    take_back(node, before)
