"""Services, modules, objects, the installer and the refreshes: what is left is named, what is others' is kept."""

from __future__ import annotations

import pytest

from gpunode.errors import CommandError, HostError
from gpunode.host import systemd
from gpunode.host.kubectl import Access
from gpunode.host.reader import Reader
from gpunode.host.state import DOWNLOADS, prepare
from gpunode.host.verbs.objects import ApplyObject
from gpunode.host.verbs.refresh import Refresh
from gpunode.host.writer import Writer
from memory import MemoryMachine, catalog, gpu_host, units
from memory.command import Answer, Call
from memory.door import apply, open_door, roll_back
from memory.installer import LOG, driver_installer, runfile

ACCESS = Access(("kubectl",))
CLASS = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"}


def left_by(machine: MemoryMachine) -> list[str]:
    return [words for taken in roll_back(machine) for words in taken.left]


def with_driver() -> MemoryMachine:
    machine = gpu_host()
    machine.dpkg.archive += machine.repositories[0].debs
    assert machine.run(["apt-get", "install", "--yes", *catalog.driver("580.159.04")]).ok
    return machine


def run_installer(host: Writer, sha256: str = "") -> None:
    host.run_installer(driver_installer(sha256))


def test_a_unit_that_was_started_too_often_is_started_all_the_same() -> None:
    machine = gpu_host()
    limit, real = [True], machine.programs["systemctl"]

    def systemctl(host: MemoryMachine, call: Call) -> Answer:
        if call.words[0] == "reset-failed":
            limit.clear()
            return Answer()
        if call.words[0] == "restart" and limit:
            units.stop(host, "containerd.service")
            advice = 'To force a start use "systemctl reset-failed containerd.service"\n'
            return Answer(stderr=f'{advice}followed by "systemctl start containerd.service" again.\n', status=1)
        return real(host, call)

    machine.programs["systemctl"] = systemctl
    systemd.control(machine, "restart", "containerd.service")
    assert machine.units["containerd.service"].active == "active"


def test_units_are_asked_in_one_query() -> None:
    machine = gpu_host()
    found = systemd.show(Reader(machine), ["containerd.service", "nosuch.service", "kubelet.service"])
    assert [(unit.loaded, unit.active, unit.enabled) for unit in found.values()] == [
        (True, True, True),
        (False, False, False),
        (True, True, True),
    ]
    assert sum(argv[:2] == ("systemctl", "show") for argv in machine.commands) == 1
    assert found["containerd.service"].started == machine.units["containerd.service"].started
    assert found["containerd.service"].command.startswith("{ path=/usr/bin/containerd ;")


def test_a_service_that_was_on_is_left_on() -> None:
    machine = gpu_host()
    apply(machine, lambda host: host.enable_service("containerd.service"))
    assert not [argv for argv in machine.commands if argv[:2] in {("systemctl", "enable"), ("systemctl", "start")}]
    roll_back(machine)
    assert machine.units["containerd.service"].active == "active"


def test_a_service_that_does_not_come_back_is_told_in_its_own_words() -> None:
    machine = gpu_host()
    machine.files.lay("/etc/containerd/config.toml", "version = [")
    with pytest.raises(CommandError, match=r"restart containerd\.service failed") as caught:
        apply(machine, lambda host: host.restart_service("containerd.service", timeout=5))
    assert any("failed to load TOML" in line for line in caught.value.details)
    assert left_by(machine) == [f"service containerd.service: {caught.value.message}"]
    machine.files.lay("/etc/containerd/config.toml", "")


def test_a_restart_is_undone_once_the_files_are_back() -> None:
    machine = gpu_host()
    good = machine.read("/etc/containerd/config.toml")
    with pytest.raises(CommandError):
        apply(machine, _break_containerd)
    assert machine.units["containerd.service"].active == "failed"
    assert not left_by(machine)
    assert machine.units["containerd.service"].active == "active"
    assert machine.read("/etc/containerd/config.toml") == good


def _break_containerd(host: Writer) -> None:
    host.write_file("/etc/containerd/config.toml", b"version = [")
    host.restart_service("containerd.service", timeout=5)


def test_a_module_in_use_stays_and_is_named() -> None:
    machine = with_driver()
    apply(machine, lambda host: host.load_module("nvidia"))
    machine.run(["systemctl", "start", "nvidia-persistenced.service"])
    (words,) = left_by(machine)
    assert words.startswith("module nvidia stays loaded until the next boot")
    assert "in use" in words
    assert machine.files.exists("/sys/module/nvidia")


def test_a_module_without_a_build_is_told() -> None:
    machine = gpu_host()
    with pytest.raises(CommandError, match="cannot load the kernel module nvidia") as caught:
        apply(machine, lambda host: host.load_module("nvidia"))
    assert "dkms status" in caught.value.hint
    assert not left_by(machine)


def test_a_module_with_a_dash_is_known_by_the_kernels_name() -> None:
    machine = with_driver()
    apply(machine, lambda host: host.load_module("nvidia-uvm"))
    writer = apply(machine, lambda host: host.load_module("nvidia-uvm"))
    assert not writer.journal.runs[-1].entries


def test_an_object_of_ours_goes_and_others_fields_stay() -> None:
    machine = gpu_host()
    assert machine.cluster
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gpus", "namespace": "default"}}
    machine.cluster.change({**body, "data": {"theirs": "1"}}, "admin")
    apply(machine, lambda host: host.apply_object(ACCESS, {**body, "data": {"ours": "2"}}))
    found = machine.cluster.find("configmap", "gpus")
    assert found
    assert found["data"] == {"theirs": "1", "ours": "2"}
    roll_back(machine)
    found = machine.cluster.find("configmap", "gpus")
    assert found
    assert found["data"] == {"theirs": "1"}


def test_fields_that_were_ours_before_are_gone_back_to() -> None:
    machine = gpu_host()
    assert machine.cluster
    apply(machine, lambda host: host.apply_object(ACCESS, CLASS))
    second = apply(
        machine, lambda host: host.apply_object(ACCESS, {**CLASS, "scheduling": {"nodeSelector": {"a": "b"}}})
    )
    writer = open_door(machine, "rollback")
    writer.take_back(writer.journal.runs[-2].entries[0])
    found = machine.cluster.find("runtimeclass", "nvidia")
    assert found
    assert "scheduling" not in found
    assert found["handler"] == "nvidia"
    assert second.journal.runs[-1].result == "changed"


def test_an_object_that_somebody_made_in_the_meantime_is_not_deleted() -> None:
    """gpunode was killed before it applied; then the administrator made the object by other means."""
    machine = gpu_host()
    assert machine.cluster
    writer = open_door(machine)
    intent = ApplyObject(ACCESS, CLASS).intent(writer.hands)
    assert intent
    machine.cluster.change(CLASS, "admin")
    ApplyObject.undo(writer.hands, intent)
    assert machine.cluster.find("runtimeclass", "nvidia")


def test_a_cluster_that_is_gone_stops_the_rollback_in_kubectls_words() -> None:
    machine = gpu_host()
    apply(machine, lambda host: host.apply_object(ACCESS, CLASS))
    machine.cluster = None
    with pytest.raises(CommandError, match="connection to the server"):
        roll_back(machine)
    taken = roll_back(machine, force=True)
    assert next(words for each in taken for words in each.left).startswith("runtimeclass nvidia in the cluster")


def test_a_wrong_installer_is_not_run() -> None:
    machine = gpu_host()
    with pytest.raises(HostError, match="wanted 00; it was not run"):
        apply(machine, lambda host: run_installer(host, "00"))
    assert not machine.files.exists("/usr/bin/nvidia-smi")
    assert not machine.files.names(DOWNLOADS), "what failed its check is not kept"


def test_an_installation_that_was_there_is_left_and_named() -> None:
    machine = gpu_host()
    prepare(machine)
    machine.files.lay("/root/driver.run", runfile("580.126.20"))
    assert machine.run(["sh", "/root/driver.run", "--silent"]).ok
    apply(machine, run_installer)
    assert left_by(machine) == ["the driver's .run installation was there before gpunode and is left as it is now"]


def test_an_installer_that_fails_is_told_from_its_log() -> None:
    machine = with_driver()
    machine.run(["modprobe", "nvidia"])
    with pytest.raises(CommandError, match=r"580\.159\.04\.run failed with exit status 1") as caught:
        apply(machine, run_installer)
    assert "already loaded" in caught.value.details[0]
    assert LOG in caught.value.hint


def test_a_refresh_that_a_crash_left_open_is_done_by_the_next_run() -> None:
    machine = gpu_host()
    writer = open_door(machine)
    entry = writer._intend(Refresh("loader-cache"))
    assert entry
    machine.files.lay("/etc/ld.so.conf.d/cuda.conf", "/usr/local/cuda/lib64\n")
    machine.files.lay("/usr/local/cuda/lib64/libcudart.so.13", "")
    apply(machine, lambda _host: None)
    assert b"libcudart.so.13" in machine.files.read("/etc/ld.so.cache")


def test_lists_that_cannot_be_fetched_are_an_error_in_apts_words() -> None:
    machine = gpu_host()
    source = f"Types: deb\nURIs: {catalog.CUDA}\nSuites: /\nSigned-By: /usr/share/keyrings/absent.gpg\n"
    with pytest.raises(CommandError, match="is not signed") as caught:
        apply(machine, lambda host: _add(host, source))
    assert "signed by a key" in caught.value.hint
    roll_back(machine)
    assert not machine.files.names("/etc/apt/sources.list.d")


def _add(host: Writer, source: str) -> None:
    path = "/etc/apt/sources.list.d/cuda.sources"
    with host.refreshing(f"lists:apt:{path}"):
        host.write_file(path, source.encode())
