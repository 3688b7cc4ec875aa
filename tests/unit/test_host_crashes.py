"""Every verb, killed at every effect: whatever was done by then is taken back, also when the rollback itself is killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest

from gpunode.host.kubectl import Access
from gpunode.host.packages.base import Spec
from gpunode.host.writer import Writer
from memory import Crash, MemoryMachine, catalog, gpu_host, keys, power_cut
from memory.crash import Moment
from memory.door import apply, roll_back
from memory.files import Node
from memory.installer import XML, driver_installer, toolkit_installer, toolkit_runfile
from memory.snapshot import changes, snapshot

pytestmark = pytest.mark.slow

TOOLKIT_RUNFILE = "/root/cuda.run"
RUNTIME_CLASS = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "nvidia"},
    "handler": "nvidia",
}
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gpus", "namespace": "kube-system"}}
ACCESS = Access(("kubectl",))


@dataclass(frozen=True)
class Scenario:
    """A host's state before gpunode comes, and what gpunode does to it."""

    name: str
    act: Callable[[Writer], Any]
    prepare: Callable[[MemoryMachine], Any] = lambda _machine: None

    @cached_property
    def _fresh(self) -> MemoryMachine:
        machine = gpu_host()
        self.prepare(machine)
        return machine

    @cached_property
    def _applied(self) -> MemoryMachine:
        machine = self.host()
        self.apply(machine)
        return machine

    def host(self) -> MemoryMachine:
        """A host on which gpunode has done nothing yet."""
        return self._fresh.copy()

    def applied(self) -> MemoryMachine:
        """A host on which gpunode has done its part."""
        return self._applied.copy()

    def apply(self, machine: MemoryMachine) -> None:
        apply(machine, self.act)


def with_repositories(machine: MemoryMachine) -> None:
    for repository in machine.repositories:
        name = "cuda" if "compute" in repository.uri else "toolkit"
        keyring = f"/usr/share/keyrings/{name}.gpg"
        machine.files.lay(keyring, repository.key)
        text = f"Types: deb\nURIs: {repository.uri}\nSuites: /\nSigned-By: {keyring}\n"
        machine.files.lay(f"/etc/apt/sources.list.d/{name}.sources", text)
    assert machine.run(["apt-get", "update", "--error-on=any"]).ok


def with_driver(machine: MemoryMachine, version: str = "580.126.20") -> None:
    with_repositories(machine)
    assert machine.run(["apt-get", "install", "--yes", *catalog.driver(version)]).ok


def with_loaded_driver(machine: MemoryMachine) -> None:
    with_driver(machine)
    assert machine.run(["modprobe", "nvidia"]).ok


def with_old_toolkit_removed(machine: MemoryMachine) -> None:
    with_repositories(machine)
    assert machine.run(["apt-get", "install", "--yes", "nvidia-container-toolkit-base=1.19.1-1"]).ok
    assert machine.run(["apt-get", "remove", "--yes", "nvidia-container-toolkit-base"]).ok


def with_private_file(machine: MemoryMachine) -> None:
    node = Node("file", b"one\ntwo\n", 0o640, 3, 4, xattrs={"user.note": b"mine"})
    machine.files.put("/etc/modprobe.d/gpu.conf", node)


def with_linked_file(machine: MemoryMachine) -> None:
    machine.files.lay("/srv/config/gpu.conf", "one\n")
    machine.files.link("/etc/modprobe.d/gpu.conf", "/srv/config/gpu.conf")


def with_foreign_map(machine: MemoryMachine) -> None:
    assert machine.cluster
    machine.cluster.change({**CONFIG_MAP, "data": {"theirs": "1"}}, "admin")


def add_repository(writer: Writer) -> None:
    writer.write_file("/usr/share/keyrings/cuda.gpg", keys.public_key("cuda"))
    path = "/etc/apt/sources.list.d/cuda.sources"
    with writer.refreshing(f"lists:apt:{path}"):
        text = f"Types: deb\nURIs: {catalog.CUDA}\nSuites: /\nSigned-By: /usr/share/keyrings/cuda.gpg\n"
        writer.write_file(path, text.encode())


def add_library_folder(writer: Writer) -> None:
    with writer.refreshing("loader-cache", "initramfs:update-initramfs", "units"):
        writer.write_file("/etc/ld.so.conf.d/cuda.conf", b"/usr/local/cuda/lib64\n")


def with_toolkit_installer(machine: MemoryMachine) -> None:
    """The file lies on the host, and an older toolkit has the link."""
    machine.files.lay(TOOLKIT_RUNFILE, toolkit_runfile("13.0"))
    machine.files.lay(XML, "")
    machine.files.lay("/usr/local/cuda-12.8/bin/nvcc", "#!")
    machine.files.link("/usr/local/cuda", "/usr/local/cuda-12.8")


def install_toolkit(writer: Writer) -> None:
    """As the step does it: the link comes after, and is the profile's."""
    writer.run_installer(toolkit_installer(TOOLKIT_RUNFILE))
    writer.make_link("/usr/local/cuda", "/usr/local/cuda-13.0")


def driver(version: str) -> tuple[Spec, ...]:
    return tuple(Spec(word.partition("=")[0], version) for word in catalog.driver(version))


def spec(name: str, version: str = "") -> tuple[Spec, ...]:
    return (Spec(name, version),)


SCENARIOS = (
    Scenario("new-file", lambda host: host.write_file("/etc/gpu.d/deep/a.conf", b"one\n")),
    Scenario("edited-file", lambda host: host.write_file("/etc/modprobe.d/gpu.conf", b"one\n2\n"), with_private_file),
    Scenario("linked-file", lambda host: host.write_file("/etc/modprobe.d/gpu.conf", b"two\n"), with_linked_file),
    Scenario("removed-file", lambda host: host.remove_file("/etc/modprobe.d/gpu.conf"), with_private_file),
    Scenario("removed-link", lambda host: host.remove_file("/etc/modprobe.d/gpu.conf"), with_linked_file),
    Scenario("new-link", lambda host: host.make_link("/usr/local/gpu/current", "/usr/local/cuda-13.0")),
    Scenario("link-for-file", lambda host: host.make_link("/etc/modprobe.d/gpu.conf", "/tmp/x"), with_private_file),
    Scenario("repository", add_repository),
    Scenario("driver", lambda host: host.install_packages("apt", driver("580.159.04")), with_repositories),
    Scenario("upgrade", lambda host: host.install_packages("apt", driver("580.159.04")), with_driver),
    Scenario(
        "reinstall", lambda host: host.install_packages("apt", (), reinstall=("libcuda1", "nvidia-smi")), with_driver
    ),
    Scenario(
        "config-files",
        lambda host: host.install_packages("apt", spec("nvidia-container-toolkit")),
        with_old_toolkit_removed,
    ),
    Scenario("hold", lambda host: host.hold_packages("apt", ("nvidia-open", "libcuda1", "absent")), with_driver),
    Scenario("service", lambda host: host.enable_service("nvidia-persistenced.service"), with_driver),
    Scenario("restart", lambda host: host.restart_service("containerd.service", timeout=60)),
    Scenario("load", lambda host: host.load_module("nvidia"), with_driver),
    Scenario("unload", lambda host: host.unload_module("nvidia"), with_loaded_driver),
    Scenario("refresh", add_library_folder),
    Scenario("installer", lambda host: host.run_installer(driver_installer())),
    Scenario(
        "toolkit-installer",
        install_toolkit,
        with_toolkit_installer,
    ),
    Scenario("new-object", lambda host: host.apply_object(ACCESS, RUNTIME_CLASS)),
    Scenario(
        "foreign-object",
        lambda host: host.apply_object(ACCESS, {**CONFIG_MAP, "data": {"ours": "2"}}),
        with_foreign_map,
    ),
)
every_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


def assert_same(wanted: dict[str, Any], found: dict[str, Any], *where: object) -> None:
    """Fail with nothing but the differences."""
    differences = changes(wanted, found)
    if differences:
        pytest.fail(f"{where}: {differences}", pytrace=False)


def killed(scenario: Scenario, number: int, moment: Moment) -> MemoryMachine:
    machine = scenario.host()
    machine.effects.crash_at(number, moment)
    with pytest.raises(Crash):
        scenario.apply(machine)
    machine.effects.restart()
    return machine


def points(run: Callable[[MemoryMachine], Any], machine: MemoryMachine) -> list[tuple[int, Moment]]:
    """Every point at which `run` can be killed."""
    run(machine)
    return machine.effects.points()


@every_scenario
def test_is_taken_back(scenario: Scenario) -> None:
    machine = scenario.host()
    before = snapshot(machine)
    scenario.apply(machine)
    assert machine.effects.count > 3, "the scenario did something"
    taken = roll_back(machine)
    assert_same(before, snapshot(machine))
    assert not [words for each in taken for words in each.left]


@every_scenario
def test_twice_is_once(scenario: Scenario) -> None:
    machine = scenario.host()
    scenario.apply(machine)
    done = snapshot(machine)
    scenario.apply(machine)
    restarts = {name for name in changes(done, snapshot(machine)) if not name.startswith("unit ")}
    assert not restarts


@every_scenario
def test_killed_and_rolled_back(scenario: Scenario) -> None:
    before = snapshot(scenario.host())
    for number, moment in points(scenario.apply, scenario.host()):
        machine = killed(scenario, number, moment)
        roll_back(machine)
        assert_same(before, snapshot(machine), number, moment)
        roll_back(machine)
        assert_same(before, snapshot(machine), number, moment, "twice")


@every_scenario
def test_killed_applied_again_and_rolled_back(scenario: Scenario) -> None:
    whole = scenario.applied()
    before, done = snapshot(scenario.host()), snapshot(whole, marks=False)
    for number, moment in points(scenario.apply, scenario.host()):
        machine = killed(scenario, number, moment)
        scenario.apply(machine)
        assert_same(done, snapshot(machine, marks=False), number, moment)
        roll_back(machine)
        assert_same(before, snapshot(machine), number, moment)


@every_scenario
def test_rollback_killed_and_rolled_back(scenario: Scenario) -> None:
    before = snapshot(scenario.host())
    for number, moment in points(roll_back, scenario.applied()):
        machine = scenario.applied()
        machine.effects.crash_at(number, moment)
        with pytest.raises(Crash):
            roll_back(machine)
        machine.effects.restart()
        roll_back(machine)
        assert_same(before, snapshot(machine), number, moment)


@every_scenario
def test_rollback_killed_then_applied_then_rolled_back(scenario: Scenario) -> None:
    whole = scenario.applied()
    before, done = snapshot(scenario.host()), snapshot(whole, marks=False)
    for number, moment in points(roll_back, scenario.applied()):
        machine = scenario.applied()
        machine.effects.crash_at(number, moment)
        with pytest.raises(Crash):
            roll_back(machine)
        machine.effects.restart()
        scenario.apply(machine)
        assert_same(done, snapshot(machine, marks=False), number, moment)
        roll_back(machine)
        assert_same(before, snapshot(machine), number, moment)


@every_scenario
def test_power_cut_and_rolled_back(scenario: Scenario) -> None:
    """After a power cut units run by what is enabled and modules are loaded by what is installed: those are not compared."""
    untouched = scenario.host()
    power_cut(untouched)
    before = snapshot(untouched, running=False)
    for number, moment in points(scenario.apply, scenario.host()):
        machine = killed(scenario, number, moment)
        power_cut(machine)
        roll_back(machine)
        assert_same(before, snapshot(machine, running=False), number, moment)
