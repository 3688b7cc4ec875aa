"""The containerd of k3s, RKE2, MicroK8s and k0s: found by the host's own marks, configured the way each of them takes up."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from gpunode.engine.apply import apply
from gpunode.engine.check import plan
from gpunode.engine.results import Report, StepResult
from gpunode.engine.rollback import rollback
from gpunode.engine.situation import Situation
from gpunode.profile import load
from gpunode.steps import select
from memory import MemoryMachine, containerd, gpu_host, units
from memory.snapshot import changes, snapshot

DONE = ("driver", "cuda", "engines", "device_plugin", "verify")
K3S = "/var/lib/rancher/k3s/agent/etc/containerd"
MICROK8S = "/var/snap/microk8s/current/args/containerd-template.toml"
K0S, K0S_SOCKET = "/etc/k0s", "/run/k0s/containerd.sock"
NVIDIA = '[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia]\nruntime_type = "io.containerd.runc.v2"\n'


def _yes(_plan: Report) -> bool:
    return True


def _apply(machine: MemoryMachine, profile: str = "") -> Report:
    return apply(_situation(machine, profile), _yes)


def _situation(machine: MemoryMachine, profile: str = "") -> Situation:
    return Situation(machine, load(profile.encode(), "p.toml").profile, select(skip=DONE), "0", note="test")


def _step(report: Report) -> StepResult:
    return next(step for step in report.steps if step.name == "containerd")


@cache
def _driven(release: str) -> MemoryMachine:
    """A host on which all but the container engine is as wanted."""
    machine = gpu_host(release=release)
    steps = select(only=("driver",))
    assert apply(Situation(machine, load(b"", "p.toml").profile, steps, "0", note="test"), _yes).result == "changed"
    return machine


def _flavoured(release: str, unit: str, binary: str, start: Callable[[MemoryMachine], str]) -> MemoryMachine:
    """A host without a containerd of its own, on which a unit's start does what the flavour does."""
    machine = _driven(release).copy()
    units.stop(machine, "containerd.service")
    for path in ("/usr/lib/systemd/system/containerd.service", "/usr/bin/containerd", "/etc/containerd"):
        machine.files.erase(path)
    machine.files.lay(f"/etc/systemd/system/{unit}", f"[Service]\nExecStart=/usr/local/bin/{unit} run\n[Install]\n")
    machine.files.lay(binary, "#!", mode=0o755)
    machine.unit_checks[unit] = start
    assert units.start(machine, unit)
    machine.wait(60)
    return machine


def _generate_k3s(machine: MemoryMachine) -> str:
    """k3s writes the file anew at each start, with the runtimes whose binaries it finds and the default that it is told."""
    text = "version = 3\n"
    told = "/etc/rancher/k3s/config.yaml.d/99-gpunode.yaml"
    if machine.files.exists(told):
        name = machine.files.text(told).split('"')[1]
        text += f'[plugins."io.containerd.cri.v1.runtime".containerd]\ndefault_runtime_name = "{name}"\n'
    template = f"{K3S}/config-v3.toml.tmpl"
    takes_base = not machine.files.exists(template) or "base" in machine.files.text(template)
    if machine.files.exists("/usr/bin/nvidia-container-runtime") and takes_base:
        text += NVIDIA
    machine.files.lay(f"{K3S}/config.toml", text, mtime=machine.now())
    return ""


def _k3s() -> MemoryMachine:
    binary = "/var/lib/rancher/k3s/data/current/bin/containerd"
    return _flavoured("2.1.9", "k3s.service", binary, _generate_k3s)


def test_k3s_finds_the_runtime_by_itself_and_is_only_restarted() -> None:
    machine = _k3s()
    planned = _step(plan(_situation(machine)))
    assert planned.restarts == ["k3s.service"]
    assert any("k3s adds the runtime to its generated config by itself" in note for note in planned.notes)
    assert _apply(machine).result == "changed"
    assert "runtimes.nvidia" in machine.files.text(f"{K3S}/config.toml")
    assert _apply(machine).result == "in-sync"


def test_k3s_is_told_its_default_runtime_in_its_own_configuration() -> None:
    machine = _k3s()
    before = snapshot(machine)
    profile = "[containerd]\ndefault_runtime = true\n"
    assert _apply(machine, profile).result == "changed"
    assert 'default_runtime_name = "nvidia"' in machine.files.text(f"{K3S}/config.toml")
    assert _apply(machine, profile).result == "in-sync"
    rollback(_situation(machine), to="0001")
    left = changes(before, snapshot(machine))
    assert not {path for path in left if path.startswith("/etc/rancher")}
    assert "default_runtime_name" not in machine.files.text(f"{K3S}/config.toml")


def test_a_k3s_template_that_leaves_the_base_out_is_named() -> None:
    machine = _k3s()
    machine.files.lay(f"{K3S}/config-v3.toml.tmpl", "version = 3\n")
    report = _apply(machine)
    assert report.result == "failed"
    assert "runtimes.nvidia is still absent" in report.error
    assert f"{K3S}/config-v3.toml.tmpl" in report.hint


def test_microk8s_template_is_edited_and_its_words_are_left_alone() -> None:
    machine = _flavoured(
        "1.7.24", "snap.microk8s.daemon-containerd.service", "/snap/microk8s/current/bin/containerd", lambda _host: ""
    )
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    template = (
        f'version = 2\n[{cri}.containerd]\ndefault_runtime_name = "${{RUNTIME}}"\n'
        f'[{cri}.containerd.runtimes.runc]\nruntime_type = "${{RUNTIME_TYPE}}"\n'
    )
    machine.files.lay(MICROK8S, template, mode=0o660, mtime=machine.now() - 3600)
    assert _apply(machine).result == "changed"
    assert machine.files.text(MICROK8S).startswith(template)
    assert f"{cri}.containerd.runtimes.nvidia" in machine.files.text(MICROK8S)
    assert machine.files.nodes[MICROK8S].mode == 0o660
    assert _apply(machine).result == "in-sync"


def _k0s(release: str, main: str | None) -> MemoryMachine:
    machine = _flavoured(release, "k0sworker.service", "/var/lib/k0s/bin/containerd", _start_containerd)
    machine.files.make_folders(f"{K0S}/containerd.d")
    if main is not None:
        machine.files.lay(f"{K0S}/containerd.toml", main, mtime=machine.now() - 60)
    machine.on_wait = _start_containerd  # k0s has seen the change and restarts its containerd
    return machine


def _start_containerd(machine: MemoryMachine) -> str:
    """k0s starts containerd, which makes its socket anew."""
    machine.files.lay(K0S_SOCKET, "", mtime=machine.now())
    return ""


@pytest.mark.parametrize(
    ("release", "version", "section"),
    [("1.7.24", 2, "io.containerd.grpc.v1.cri"), ("2.1.9", 3, "io.containerd.cri.v1.runtime")],
)
@pytest.mark.parametrize("main", [None, "# k0s_managed=true\nversion = {version}\n"])
def test_k0s_takes_up_a_drop_in_of_its_version_without_a_restart(
    release: str, version: int, section: str, main: str | None
) -> None:
    machine = _k0s(release, main and main.format(version=version))
    before = snapshot(machine)
    started = machine.units["k0sworker.service"].started
    assert _apply(machine).result == "changed"
    written = machine.files.text(f"{K0S}/containerd.d/nvidia.toml")
    assert written.startswith(f"version = {version}\n")
    assert f'plugins."{section}".containerd.runtimes.nvidia' in written
    assert "runtimes.runc]" not in written
    assert machine.units["k0sworker.service"].started == started
    assert _apply(machine).result == "in-sync"
    rollback(_situation(machine), to="0001")
    assert (
        machine.files.nodes[K0S_SOCKET].mtime > machine.files.nodes[f"{K0S}/containerd.d"].mtime
    )  # k0s was waited for
    assert not {path for path in changes(before, snapshot(machine)) if path.startswith(K0S)}


def test_a_k0s_configuration_that_the_operator_took_over_is_edited_itself() -> None:
    machine = _k0s("1.7.24", "# mine\nversion = 2\n")
    assert _apply(machine).result == "changed"
    assert "runtimes.nvidia" in machine.files.text(f"{K0S}/containerd.toml")
    assert not machine.files.exists(f"{K0S}/containerd.d/nvidia.toml")


def test_the_flavour_is_seen_on_the_host_and_not_only_told() -> None:
    machine = _k0s("2.1.9", None)
    assert {each.resource for each in _step(plan(_situation(machine))).differences} == {f"toml:{K0S}/containerd.toml"}
    assert containerd.CONFIG not in machine.files.nodes
