"""The Reader: it asks and never changes, and what it says of a file that cannot be read names the file."""

from __future__ import annotations

import pytest

from gpunode.errors import HostError
from gpunode.host.machine import Output
from gpunode.host.queries import is_read_only
from gpunode.host.reader import Reader
from memory import gpu_host
from memory.files import Node

READING = (
    "dpkg-query --show",
    "dpkg --audit",
    "apt-get --simulate install nvidia-open",
    "apt-mark showhold",
    "systemctl show containerd.service",
    "journalctl --unit containerd.service --lines 15",
    "modinfo nvidia",
    "ldconfig -p",
    "containerd --version",
    "/usr/bin/containerd --config /dev/stdin config dump",
    "containerd config default",
    "kubectl get pods",
    "k3s kubectl get pods",
    "kubectl get --kubeconfig=/x pods",
    "kubectl apply --dry-run=server --server-side --filename=-",
)
CHANGING = (
    "dpkg --configure -a",
    "apt-get install x",
    "apt-get update",
    "apt-mark hold x",
    "systemctl restart containerd.service",
    "systemctl daemon-reload",
    "modprobe nvidia",
    "ldconfig",
    "containerd",
    "containerd --config /etc/containerd/config.toml",
    "ctr images pull x",
    "rm -rf /",
    "sh -c true",
    "kubectl apply --server-side --filename=-",
    "kubectl apply --dry-run=client --filename=-",
    "kubectl delete pod x",
    "k3s kubectl delete pod x",
    "kubectl",
    "microk8s stop",
    "journalctl --vacuum-size=1",
    "journalctl --rotate",
    "containerd --config dump",
    "kubectl --context get delete pod x",
    "kubectl auth reconcile --filename=-",
    "kubectl rollout restart daemonset status",
)


@pytest.mark.parametrize("command", READING)
def test_asking_is_allowed(command: str) -> None:
    assert is_read_only(command.split())


@pytest.mark.parametrize("command", CHANGING)
def test_changing_is_not(command: str) -> None:
    assert not is_read_only(command.split())
    machine = gpu_host()
    machine.commands.clear()
    with pytest.raises(AssertionError, match="not a read-only command"):
        Reader(machine).query(command.split())
    assert not machine.commands


def test_reading_has_no_effect() -> None:
    machine = gpu_host()
    reader = Reader(machine)
    for command in READING[:13]:
        reader.query(command.split(), stdin="")
    reader.probe("nvml", timeout=1)
    reader.exists("/etc")
    assert machine.effects.count == 0


def test_a_query_is_remembered_until_something_changes() -> None:
    machine = gpu_host()
    reader = Reader(machine)
    machine.commands.clear()
    for _ in range(3):
        reader.query_once(["dpkg", "--audit"])
    assert len(machine.commands) == 1
    reader.forget()
    reader.query_once(["dpkg", "--audit"])
    assert len(machine.commands) == 2


def test_files_that_cannot_be_read_are_named() -> None:
    machine = gpu_host()
    machine.files.lay("/etc/bad", b"one\ntw\xffo\n")
    reader = Reader(machine)
    assert reader.read("/etc/nosuch") is None
    assert reader.read("/etc/bad/below") is None
    with pytest.raises(HostError, match=r"/etc/bad line 2: not UTF-8 \(byte 0xff\)"):
        reader.read_text("/etc/bad")
    with pytest.raises(HostError, match="/etc is a directory, not a file"):
        reader.read("/etc")
    machine.files.put("/etc/a", Node("link", target="/etc/b"))
    machine.files.put("/etc/b", Node("link", target="/etc/a"))
    with pytest.raises(HostError, match="cannot read /etc/a: Too many levels of symbolic links"):
        reader.read("/etc/a")


def test_globs_name_full_paths() -> None:
    machine = gpu_host()
    machine.files.lay("/etc/modprobe.d/b.conf", "")
    machine.files.lay("/etc/modprobe.d/a.conf", "")
    machine.files.lay("/etc/modprobe.d/a.bak", "")
    assert Reader(machine).glob("/etc/modprobe.d", "*.conf") == ["/etc/modprobe.d/a.conf", "/etc/modprobe.d/b.conf"]
    assert Reader(machine).glob("/nosuch", "*") == []


def test_a_probe_that_hangs_or_dies_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = gpu_host()
    reader = Reader(machine)
    assert reader.probe("nvml", timeout=1)["error"]["name"] == "LIBRARY_NOT_FOUND"
    assert reader.probe("nosuch", timeout=1)["error"]["name"] == "PROBE_DIED"
    machine.hangs.add("python3")
    assert reader.probe("nvml", timeout=1)["error"] == {
        "code": None,
        "name": "DID_NOT_ANSWER",
        "message": "did not answer in 1 s",
        "call": "",
    }
    machine.hangs.clear()
    for text in ("[]", "Segmentation fault", ""):
        monkeypatch.setattr(machine, "run", lambda argv, text=text, **_options: Output(tuple(argv), -11, text, ""))
        assert reader.probe("nvml", timeout=1)["error"]["name"] == "PROBE_DIED"
