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

MOMENTS = tuple((2 * number + 1, (0.0, 0.3, 0.9)[number % 3]) for number in range(12))
"""So many entries in the journal (a whole apply makes about 26), and so many seconds after that."""
PATIENCE = 120


@dataclass(frozen=True)
class Node:
    """A host, and what it is like before."""

    host: LabHost
    before: Snapshot


@pytest.fixture(scope="module")
def booted() -> Iterator[Node]:
    with create_node("kills", compiler=True) as host:
        host.boot()
        host.run("gpunode", "init")
        yield Node(host, Snapshot.take(host))


@pytest.fixture
def node(booted: Node) -> Iterator[Node]:
    """The host; whatever the test did is taken back, so that the next begins where it did."""
    yield booted
    booted.host.run("gpunode", "rollback", "--yes", "--force", check=False, timeout=300)


def entries_of_newest_run(host: LabHost) -> int:
    runs = sorted((host.root / "var/lib/gpunode/runs").glob("*.jsonl"))
    return runs[-1].read_text().count('"t":"intend"') if runs else 0


def wait_for_entries(host: LabHost, count: int) -> None:
    """Wait until the run that has just been started has recorded so many intentions."""
    known = len(list((host.root / "var/lib/gpunode/runs").glob("*.jsonl")))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (
            len(list((host.root / "var/lib/gpunode/runs").glob("*.jsonl"))) > known
            and entries_of_newest_run(host) >= count
        ):
            return
        time.sleep(0.01)
    raise AssertionError(f"the run did not record {count} intentions")


def kill_apply(host: LabHost, entries: int, seconds: float) -> bool:
    """Start an apply and kill it, and all that it started, at some point of its way; False when it had ended by then."""
    running = host.popen("setsid", "--wait", "gpunode", "apply", "--yes")
    wait_for_entries(host, entries)
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


@pytest.mark.parametrize(("entries", "seconds"), MOMENTS[::2])
def test_an_apply_that_was_killed_is_undone(node: Node, entries: int, seconds: float) -> None:
    assert kill_apply(node.host, entries, seconds), "apply had ended before it was killed"
    told = node.host.run("gpunode", "check", check=False).stdout
    assert "was interrupted" in told
    take_back(node.host, node.before)


@pytest.mark.parametrize(("entries", "seconds"), MOMENTS[1::2])
def test_an_apply_that_was_killed_is_finished(node: Node, entries: int, seconds: float) -> None:
    assert kill_apply(node.host, entries, seconds), "apply had ended before it was killed"
    done = node.host.run("gpunode", "apply", "--yes", check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert node.host.run("gpunode", "check", check=False).returncode == 0
    take_back(node.host, node.before)


def test_a_power_cut_in_the_middle_is_survived(node: Node) -> None:
    node.host.popen("gpunode", "apply", "--yes")
    wait_for_entries(node.host, 12)
    node.host.power_cut()
    node.host.boot()
    done = node.host.run("gpunode", "apply", "--yes", check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    take_back(node.host, node.before)
