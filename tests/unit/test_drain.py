"""driver.drain: who uses the GPUs makes way for another driver, as the profile says; and the node is never left cordoned."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from gpunode.engine.apply import apply
from gpunode.engine.check import check, plan
from gpunode.engine.results import Report
from gpunode.engine.rollback import rollback
from gpunode.engine.situation import Situation
from gpunode.host.gpu_pods import gpu_pods
from gpunode.host.gpu_users import GpuUser
from gpunode.host.journal import Journal
from gpunode.host.kubectl import Access
from gpunode.host.reader import Reader
from gpunode.lab.kubernetes import api
from gpunode.lab.kubernetes.api import Options, Target
from gpunode.lab.kubernetes.kinds import PODS
from gpunode.profile import load
from gpunode.steps import select
from memory import Crash, MemoryMachine, gpu_host
from memory.command import Answer, Call
from memory.kubectl import NODE
from memory.units import UnitState

NEW = "580.159.04"
DCGM = "nvidia-dcgm.service"
ACCESS = Access(("kubectl",), "/etc/kubernetes/admin.conf")
STUBBORN = 900
"""A process that ends by SIGKILL alone."""


def situation(machine: MemoryMachine, *keys: str) -> Situation:
    text = "\n".join(("[driver]", *keys)).encode()
    return Situation(machine, load(text, "profile.toml").profile, select(skip=("verify",)), "0", note="test")


def upgrade(machine: MemoryMachine, *keys: str) -> Report:
    return apply(draining(machine, *keys), lambda _plan: True)


def draining(machine: MemoryMachine, *keys: str) -> Situation:
    return situation(machine, f'version = "{NEW}"', "drain = true", *keys)


def shell(machine: MemoryMachine, call: Call) -> Answer:
    """`sh -c 'kill -s SIGNAL PID'`: the process ends, unless it is stubborn."""
    _, _, signal, pid = call.words[1].split()
    if signal == "KILL" or int(pid) != STUBBORN:
        machine.effect(f"{signal} {pid}", lambda: machine.files.erase(f"/proc/{pid}"))
    return Answer()


@cache
def _ready() -> MemoryMachine:
    """A host whose driver is to be upgraded, and which has a shell."""
    machine = gpu_host()
    machine.programs["sh"] = shell
    machine.files.lay("/usr/bin/sh", "#!", mode=0o755)
    done = apply(situation(machine, 'version = "580.126.20"'), lambda _plan: True)
    assert done.result == "changed", done.error
    machine.effects.restart()
    return machine


def ready() -> MemoryMachine:
    return _ready().copy()


def use_gpu(machine: MemoryMachine, pid: int, group: str, command: str = "train.py") -> None:
    machine.files.link(f"/proc/{pid}/fd/5", "/dev/nvidia0")
    machine.files.lay(f"/proc/{pid}/cmdline", f"python3\0{command}\0")
    machine.files.lay(f"/proc/{pid}/cgroup", f"0::{group}\n")
    machine.files.lay(f"/proc/{pid}/stat", f"{pid} (python3 (a) b) S {' '.join(['0'] * 18)} 4711 0\n")


def pod(machine: MemoryMachine, name: str, *, owner: str = "", gpus: int = 1, mirror: bool = False) -> str:
    """A running pod on the node, with a process of it at the GPU; returns its uid."""
    assert machine.cluster is not None
    container: dict[str, Any] = {"name": "main", "image": "i:1"}
    if gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": gpus}}
    metadata: dict[str, Any] = {"name": name, "namespace": "default", "labels": {"app": name}}
    if owner:
        reference = {"apiVersion": "apps/v1", "kind": owner, "name": name, "uid": "u", "controller": True}
        metadata["ownerReferences"] = [reference]
    if mirror:
        metadata["annotations"] = {"kubernetes.io/config.mirror": "x"}
    spec = {"nodeName": NODE, "containers": [container]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    with machine.cluster.lock:
        made = api.create(machine.cluster, Target(PODS, "default", ""), body, Options("test"))
    set_status(machine, name)
    return str(made["metadata"]["uid"])


def set_status(machine: MemoryMachine, name: str, *, restarts: int = 0) -> None:
    """What the kubelet says of a pod that runs."""
    assert machine.cluster is not None
    container = {"name": "main", "restartCount": restarts}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [container]}
    with machine.cluster.lock:
        body = {**(machine.cluster.find("pod", name) or {}), "status": status}
        api.update(machine.cluster, Target(PODS, "default", name, "status"), body, Options("kubelet"))


def grouped(uid: str) -> str:
    return f"/kubepods.slice/kubepods-pod{uid.replace('-', '_')}.slice/cri-containerd-1.scope"


def pods(machine: MemoryMachine) -> list[str]:
    assert machine.cluster is not None
    return [body["metadata"]["name"] for body in machine.cluster.list(PODS)]


def cordoned(machine: MemoryMachine) -> bool:
    assert machine.cluster is not None
    node = machine.cluster.find("node", NODE, "")
    return bool(node and node.get("spec", {}).get("unschedulable"))


def cordon(machine: MemoryMachine) -> None:
    machine.run(["kubectl", "cordon", NODE])
    assert cordoned(machine)


def loaded(machine: MemoryMachine) -> str:
    return machine.files.text("/sys/module/nvidia/version").strip()


def verbs(machine: MemoryMachine) -> list[str]:
    return [entry.verb for entry in Journal(machine).runs[-1].entries]


def test_pods_at_the_gpu_are_known_by_what_they_ask_for_and_by_their_processes() -> None:
    machine = gpu_host()
    pod(machine, "asks", owner="ReplicaSet")
    uid = pod(machine, "takes", gpus=0)
    pod(machine, "plain", gpus=0)
    pod(machine, "plugin", owner="DaemonSet")
    pod(machine, "static", mirror=True)
    found = {each.name: each for each in gpu_pods(Reader(machine), ACCESS, NODE, (GpuUser(7, "x", grouped(uid)),))}
    assert sorted(found) == ["asks", "plugin", "static", "takes"]
    assert [name for name, each in found.items() if each.stays] == ["plugin", "static"]
    assert (found["asks"].owner, found["takes"].owner) == ("ReplicaSet asks", "")


@pytest.mark.slow
def test_users_make_way_each_in_its_own_manner_and_the_node_is_schedulable_again() -> None:
    machine = ready()
    train, plugin = pod(machine, "train", owner="ReplicaSet"), pod(machine, "plugin", owner="DaemonSet")
    use_gpu(machine, 811, grouped(train))
    use_gpu(machine, 812, grouped(plugin), "plugin.py")
    use_gpu(machine, 813, "/user.slice/session-1.scope", "mine.py")
    machine.units[DCGM] = UnitState(active="active")
    machine.files.lay(f"/usr/lib/systemd/system/{DCGM}", "[Service]\nExecStart=/usr/bin/true\n")
    use_gpu(machine, 814, f"/system.slice/{DCGM}", "nv-hostengine")
    told = "\n".join(line for step in plan(draining(machine)).steps for line in (*step.irreversible, *step.restarts))
    assert "evicted, with their grace periods: pod default/train (ReplicaSet train)" in told
    ended = "python3 plugin.py (pid 812), python3 mine.py (pid 813)"
    assert f"ended, by SIGTERM and after 30 s by SIGKILL: {ended}" in told
    assert DCGM in told
    report = upgrade(machine)
    assert (report.result, report.error, loaded(machine)) == ("changed", "", NEW)
    assert pods(machine) == ["plugin"]
    assert not cordoned(machine)
    assert machine.units[DCGM].active == "active"
    order = [verb for verb in verbs(machine) if verb in ("cordon-node", "evict-pod", "end-processes", "unload-module")]
    assert order[:4] == ["cordon-node", "evict-pod", "end-processes", "unload-module"]
    assert check(draining(machine)).interrupted == ""


@pytest.mark.slow
def test_a_daemonset_whose_container_was_ended_is_given_time_to_come_back() -> None:
    machine = ready()
    use_gpu(machine, 812, grouped(pod(machine, "plugin", owner="DaemonSet")), "plugin.py")
    waited: list[float] = []

    def restart(host: MemoryMachine) -> None:
        waited.append(host.now())
        if len(waited) == 3:
            set_status(host, "plugin", restarts=1)

    machine.on_wait = restart
    assert upgrade(machine).result == "changed"
    assert len(waited) == 3


@pytest.mark.slow
def test_a_process_that_does_not_listen_is_killed_after_its_grace() -> None:
    machine = ready()
    use_gpu(machine, STUBBORN, "/user.slice/session-1.scope")
    began = machine.now()
    assert upgrade(machine, "drain_grace = 500").result == "changed"
    assert [words[2] for words in machine.commands if words[0] == "sh"] == [
        f"kill -s {signal} {STUBBORN}" for signal in ("TERM", "KILL")
    ]
    assert machine.now() - began > 500
    left = rollback(situation(machine), to="1").left
    assert f"python3 train.py (pid {STUBBORN}): ended for the new driver, and not started again" in left


@pytest.mark.slow
def test_a_budget_that_forbids_it_is_waited_for_and_named_and_nothing_is_ended() -> None:
    machine = ready()
    assert machine.cluster is not None
    use_gpu(machine, 811, grouped(pod(machine, "train")))
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "keep"}}
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "train"}}}
    machine.cluster.change({**budget, "spec": spec}, "test")
    began = machine.now()
    report = upgrade(machine, "drain_timeout = 20")
    assert (report.result, report.exit_code) == ("failed", 1)
    assert report.error == "pod default/train may not be evicted by the disruption budget keep: waited 20 s"
    assert 20 < machine.now() - began < 60
    assert not cordoned(machine)
    assert machine.files.exists("/proc/811/stat")
    machine.cluster.drop("pdb", "keep")
    assert upgrade(machine).result == "changed"


@pytest.mark.slow
def test_without_a_way_to_the_cluster_processes_alone_are_ended_and_that_is_said() -> None:
    machine = ready()
    use_gpu(machine, 811, grouped(pod(machine, "train")))
    machine.files.erase("/etc/kubernetes/admin.conf")
    notes = "\n".join(note for step in plan(draining(machine)).steps for note in step.notes)
    assert "driver.drain: processes are ended, and no pods evicted: no kubeconfig that can be read" in notes
    upgrade(machine)
    assert loaded(machine) == NEW
    assert (pods(machine).count("train"), "cordon-node" in verbs(machine)) == (1, False)


@pytest.mark.slow
def test_a_node_that_somebody_else_has_cordoned_stays_so() -> None:
    machine = ready()
    cordon(machine)
    assert upgrade(machine).result == "changed"
    assert cordoned(machine)


@pytest.mark.slow
def test_a_node_that_cannot_be_uncordoned_is_told_of_and_uncordoned_by_the_next_run() -> None:
    machine = ready()
    kubectl = machine.programs["kubectl"]
    refused = Answer(stderr="The connection to the server was refused\n", status=1)
    machine.programs["kubectl"] = lambda host, call: refused if "uncordon" in call.words else kubectl(host, call)
    report = upgrade(machine)
    assert (report.result, cordoned(machine)) == ("failed", True)
    assert "cordoned the node gpu-1, and ended before it took that back" in check(draining(machine)).interrupted
    machine.programs["kubectl"] = kubectl
    assert upgrade(machine).result in ("changed", "in-sync")
    assert not cordoned(machine)
    assert check(draining(machine)).interrupted == ""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["apply", "rollback"])
def test_a_run_killed_anywhere_around_the_drain_leaves_the_node_schedulable_in_the_end(way: str) -> None:
    machine = ready()
    use_gpu(machine, 811, grouped(pod(machine, "train", owner="ReplicaSet")))
    use_gpu(machine, 813, "/user.slice/session-1.scope")
    whole = machine.copy()
    assert upgrade(whole).result == "changed"
    names = whole.effects.names
    first, last = names.index(f"cordon {NODE}"), names.index(f"uncordon {NODE}")
    seen = set()
    for number in range(first, last + 3, 2):
        victim = machine.copy()
        victim.effects.crash_at(number)
        with pytest.raises(Crash):
            upgrade(victim)
        victim.effects.restart()
        seen.add(cordoned(victim))
        done = upgrade(victim) if way == "apply" else rollback(situation(victim), to="1")
        assert done.result in ("changed", "in-sync", "undone"), (names[number - 1], done.error)
        assert not cordoned(victim), names[number - 1]
        assert check(draining(victim)).interrupted == "", names[number - 1]
    assert seen == {True, False}
