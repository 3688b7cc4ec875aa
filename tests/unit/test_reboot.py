"""Reboots: foretold by the plan, asked for or not, gone on after by the same run, and taken back in between."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from gpunode.engine import reboot
from gpunode.engine.apply import apply, resume
from gpunode.engine.check import check, plan
from gpunode.engine.results import Report
from gpunode.engine.rollback import chosen, rollback
from gpunode.engine.situation import Situation
from gpunode.errors import ExitCode, RebootRequiredError, UsageError
from gpunode.host.journal import Journal
from gpunode.host.verbs.reboot import BOOT_ID
from gpunode.profile import load
from gpunode.steps import select
from memory import Crash, MemoryMachine, gpu_host, power_cut
from memory.command import Answer
from memory.crash import Moment
from memory.snapshot import changes, snapshot

pytestmark = pytest.mark.slow

NOUVEAU = "/sys/module/nouveau/refcnt"
PERSISTENCED = "nvidia-persistenced.service"
SAMPLE = 20
"""Every so many points in the fast suite."""


def situation(machine: MemoryMachine, policy: str = "auto", driver: str = 'branch = "580"') -> Situation:
    text = f'reboot = "{policy}"\n[driver]\n{driver}\n'.encode()
    return Situation(machine, load(text, "profile.toml").profile, select(skip=("verify",)), "0", note="test")


def run_apply(machine: MemoryMachine, policy: str = "auto", driver: str = 'branch = "580"') -> Report:
    return apply(situation(machine, policy, driver), lambda _plan: True)


def boot(machine: MemoryMachine) -> None:
    """A boot: another id, nouveau unless the initramfs keeps it out, and the unit's call where the unit is enabled."""
    power_cut(machine)
    number = int(machine.files.text(BOOT_ID) or "0")
    machine.files.lay(BOOT_ID, f"{number + 1}\n")
    machine.files.erase("/sys/module/nouveau")
    if "blacklist nouveau" not in machine.files.text(f"/boot/initrd.img-{machine.identity.kernel}"):
        machine.files.lay(NOUVEAU, "0\n")
    machine.units.pop(reboot.UNIT, None)


def unit_call(machine: MemoryMachine) -> Report | None:
    """What the boot's unit does, where it is enabled."""
    if not machine.files.exists(reboot.UNIT_LINK):
        return None
    run = machine.files.text(reboot.UNIT_FILE).partition('"--continue" "')[2][:4]
    profile, steps = reboot.remembered(machine, run)
    return resume(Situation(machine, profile, select(steps), "0", note="unit"), run)


@cache
def _with_nouveau() -> MemoryMachine:
    machine = gpu_host()
    machine.files.lay(BOOT_ID, "1\n")
    machine.files.lay(NOUVEAU, "0\n")
    return machine


@cache
def _waiting() -> MemoryMachine:
    machine = _with_nouveau().copy()
    assert run_apply(machine).result == "reboot-required"
    machine.effects.restart()
    return machine


@cache
def _with_driver() -> MemoryMachine:
    """A host that gpunode has brought to the driver 580.126.20."""
    machine = gpu_host()
    machine.files.lay(BOOT_ID, "1\n")
    assert run_apply(machine, driver='version = "580.126.20"').result == "changed"
    machine.effects.restart()
    return machine


def use_gpu(machine: MemoryMachine, pid: int = 812, unit: str = "session-1.scope") -> None:
    machine.files.link(f"/proc/{pid}/fd/5", "/dev/nvidia0")
    machine.files.lay(f"/proc/{pid}/cmdline", "python3\0train.py\0")
    machine.files.lay(f"/proc/{pid}/cgroup", f"0::/system.slice/{unit}\n")


def lasting(report: Report) -> str:
    return "\n".join(line for step in report.steps for line in step.irreversible)


def as_before(machine: MemoryMachine, before: MemoryMachine) -> None:
    """Another boot brings back what only a boot can; then all is as it was."""
    boot(machine)
    machine.files.lay(BOOT_ID, before.files.text(BOOT_ID))
    # A boot starts every unit at another time, and stops what was started by hand.
    assert not changes(snapshot(before, running=False), snapshot(machine, running=False))
    assert machine.files.exists(NOUVEAU) == before.files.exists(NOUVEAU)


# --- the plan, and the three policies


@pytest.mark.parametrize(
    ("policy", "words"),
    [("never", "with exit status 4"), ("ask", "you are asked first"), ("auto", "the host reboots by itself")],
)
def test_the_plan_says_beforehand_that_and_why(policy: str, words: str) -> None:
    told = lasting(plan(situation(_with_nouveau().copy(), policy)))
    assert told.startswith("a reboot is needed: nouveau is loaded, and holds the GPU until a boot without it; ")
    assert words in told


@pytest.mark.parametrize("policy", ["never", "ask"])
def test_without_consent_the_run_stops_and_says_what_is_left(policy: str) -> None:
    machine = _with_nouveau().copy()
    report = run_apply(machine, policy)
    assert (report.result, report.exit_code) == ("reboot-required", ExitCode.REBOOT_REQUIRED)
    assert report.hint == "reboot, then run `gpunode apply` again: it goes on from here"
    assert report.left == [
        "a reboot, and after it the rest: driver, cuda, container_toolkit, containerd, engines, device_plugin"
    ]
    assert [step.state for step in report.steps[:2]] == ["changed", "not-run"], "the blacklist was written"
    assert not machine.files.exists(reboot.UNIT_LINK)
    boot(machine)
    assert unit_call(machine) is None
    assert run_apply(machine, policy).result == "changed"
    assert check(situation(machine, policy)).result == "in-sync"


def test_who_is_asked_and_agrees_gets_the_reboot() -> None:
    machine, asked = _with_nouveau().copy(), []

    def agree(why: str) -> bool:
        asked.append(why)
        return True

    report = apply(situation(machine, "ask"), lambda _plan: True, agree)
    assert asked == ["nouveau is loaded, and holds the GPU until a boot without it"]
    assert report.hint.startswith("the host reboots now, and run 0001 goes on by itself")
    assert machine.files.exists(reboot.UNIT_LINK)


# --- auto: the same run, before and after


def test_the_same_run_goes_on_after_the_boot_and_leaves_no_unit() -> None:
    machine = _waiting().copy()
    told = check(situation(machine)).interrupted
    assert told.startswith("run 0001 (gpunode apply) goes on by itself after a reboot (nouveau is loaded")
    reboot.begin(situation(machine), "0001")
    assert machine.commands[-1] == ("systemctl", "reboot")
    boot(machine)
    report = unit_call(machine)
    assert report is not None
    assert (report.result, report.run, report.error) == ("changed", "0001", "")
    (record,) = Journal(machine).runs
    assert (record.result, reboot.count(record)) == ("changed", 1)
    assert not machine.files.exists(reboot.UNIT_FILE)
    assert machine.files.node(reboot.UNIT_LINK) is None
    after = check(situation(machine))
    assert (after.result, after.interrupted) == ("in-sync", "")


def test_what_the_unit_runs_is_this_program_with_its_own_modules() -> None:
    machine = _with_nouveau().copy()
    machine.python, machine.module_path = ("/opt/a dir/python", "-B"), "/opt/100%/src:/opt/lib"
    run_apply(machine)
    lines = machine.files.text(reboot.UNIT_FILE).splitlines()
    assert 'ExecStart="/opt/a dir/python" "-B" "-m" "gpunode" "apply" "--continue" "0001"' in lines
    assert 'Environment="PYTHONPATH=/opt/100%%/src:/opt/lib"' in lines
    assert "Type=simple" in lines


def test_before_the_boot_the_run_does_not_go_on() -> None:
    machine = _waiting().copy()
    with pytest.raises(RebootRequiredError, match="there has been none since"):
        unit_call(machine)
    with pytest.raises(UsageError, match="run 0007 waits for no reboot"):
        reboot.remembered(machine, "0007")


def test_a_run_goes_on_with_its_own_profile_and_steps() -> None:
    machine = _with_nouveau().copy()
    wanted = situation(
        machine, driver='version = "580.126.20"\n[kubernetes]\nkubeconfig = "/etc/kubernetes/admin.conf"'
    )
    apply(Situation(machine, wanted.profile, select(("driver",)), "0"), lambda _plan: True)
    profile, steps = reboot.remembered(machine, "0001")
    assert (profile, steps) == (wanted.profile, ("driver",))


def test_a_run_goes_on_with_the_kubeconfig_of_who_had_logged_in() -> None:
    machine = _with_nouveau().copy()
    machine.files.erase("/etc/kubernetes/admin.conf")
    machine.files.lay("/etc/passwd", "root:x:0:0::/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/bash\n")
    machine.files.lay("/proc/self/loginuid", "1000")
    machine.files.lay("/home/ada/.kube/config", "apiVersion: v1\n")
    run_apply(machine)
    profile, _ = reboot.remembered(machine, "0001")
    assert profile.kubernetes.kubeconfig == "/home/ada/.kube/config"


def test_after_two_reboots_it_stops_in_one_clear_line() -> None:
    machine = _waiting().copy()
    for number in range(1, 4):
        report = None
        assert reboot.count(Journal(machine).runs[0]) == min(number, 2)
        boot(machine)
        machine.files.lay(NOUVEAU, "0\n")  # something brings it back at every boot
        report = unit_call(machine)
        if number == 1:
            assert report is not None
            assert report.hint.startswith("the host reboots now")
        if number == 2:
            assert report is not None
            assert report.exit_code == ExitCode.REBOOT_REQUIRED
            assert report.error.startswith("run 0001 has rebooted the host 2 times, and still: nouveau is loaded")
    assert report is None, "the unit was taken away"
    assert Journal(machine).runs[0].result == "reboot-required"


@pytest.mark.parametrize("only", [(), ("driver",)])
def test_a_rollback_in_between_takes_the_unit_away(only: tuple[str, ...]) -> None:
    machine = _waiting().copy()
    report = rollback(situation(machine), only=only)
    assert (report.result, report.left, report.interrupted) == ("undone", [], "")
    assert not changes(snapshot(_with_nouveau()), snapshot(machine))
    boot(machine)
    assert unit_call(machine) is None


def test_a_rollback_after_the_boot_names_what_the_next_one_brings_back() -> None:
    machine = _waiting().copy()
    boot(machine)
    unit_call(machine)
    assert chosen(Journal(machine), None, ())
    report = rollback(situation(machine))
    assert report.left == ["module nouveau: the reboot took it away, and the next boot brings it back"]
    as_before(machine, _with_nouveau())


def test_apply_by_hand_settles_a_run_that_waits() -> None:
    machine = _waiting().copy()
    boot(machine)
    assert run_apply(machine).result == "changed"
    first, second = Journal(machine).runs
    assert (first.superseded_by, second.result) == ("0002", "changed")
    assert unit_call(machine) is None


# --- crashes


def killed(machine: MemoryMachine, run: Callable[[MemoryMachine], object], point: tuple[int, Moment]) -> MemoryMachine:
    victim = machine.copy()
    victim.effects.crash_at(*point)
    with pytest.raises(Crash):
        run(victim)
    victim.effects.restart()
    return victim


def require_all_ways_out(victim: MemoryMachine, where: str) -> None:
    """Undone at once; finished by the unit or, where it is not there, by apply; and then undone."""
    undone = victim.copy()
    assert rollback(situation(undone)).result in ("undone", "in-sync"), where
    as_before(undone, _with_nouveau())
    boot(victim)
    report = unit_call(victim) or run_apply(victim)
    while report.result == "reboot-required":  # killed before the blacklist was in the initramfs
        boot(victim)
        report = unit_call(victim) or run_apply(victim)
    assert report.result in ("changed", "in-sync"), f"{where}: {report.error}"
    after = check(situation(victim))
    assert (after.result, after.interrupted) == ("in-sync", ""), where
    assert victim.files.node(reboot.UNIT_LINK) is None, where
    assert victim.files.node(reboot.UNIT_FILE) is None, where
    assert not [path for path in victim.files.nodes if path.endswith(".gpunode")], f"{where}: a temporary file is left"
    assert rollback(situation(victim)).result == "undone", where
    as_before(victim, _with_nouveau())


def sweep(machine: MemoryMachine, run: Callable[[MemoryMachine], object], step: int) -> int:
    whole = machine.copy()
    run(whole)
    points = whole.effects.points()[::step]
    for point in points:
        require_all_ways_out(killed(machine, run, point), f"killed {point[1]} effect {point[0]}")
    return len(points)


@pytest.mark.parametrize("step", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_killed_on_its_way_to_the_reboot_leaves_nothing_unknown(step: int) -> None:
    assert sweep(_with_nouveau(), run_apply, step) > 20 // step


@pytest.mark.parametrize("step", [SAMPLE, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_killed_after_the_reboot_leaves_nothing_unknown(step: int) -> None:
    booted = _waiting().copy()
    boot(booted)
    booted.effects.restart()
    assert sweep(booted, unit_call, step) > 150 // step


# --- who uses the GPU, and other reasons


def test_users_of_the_gpu_are_named_and_nothing_is_taken_from_them() -> None:
    machine = _with_driver().copy()
    use_gpu(machine)
    use_gpu(machine, 600, PERSISTENCED)  # the driver's own daemon is told to stop
    why = "the running driver 580.126.20 is in use, so 580.159.04 cannot take its place: python3 train.py (pid 812)"
    driver = 'version = "580.159.04"'
    assert f"a reboot is needed: {why}; " in lasting(plan(situation(machine, "never", driver)))
    report = run_apply(machine, "never", driver)
    assert (report.result, report.error) == ("reboot-required", why)
    assert report.hint == "end what uses the GPU and run `gpunode apply` again, or reboot"
    assert machine.units[PERSISTENCED].active == "active"
    assert machine.files.text("/sys/module/nvidia/version") == "580.126.20\n"
    machine.files.erase("/proc/812")
    assert run_apply(machine, "never", driver).result == "changed"
    assert machine.files.text("/sys/module/nvidia/version") == "580.159.04\n"


def test_many_users_are_listed_in_the_details() -> None:
    machine = _with_driver().copy()
    for pid in range(800, 808):
        use_gpu(machine, pid)
    report = run_apply(machine, "never", 'version = "580.159.04"')
    assert report.error.endswith("python3 train.py (pid 804) and 3 more")
    assert report.details == tuple(f"python3 train.py (pid {pid})" for pid in (805, 806, 807))


def test_a_driver_that_is_not_to_be_loaded_waits_for_the_boot() -> None:
    machine = gpu_host()
    machine.files.lay(BOOT_ID, "1\n")
    driver = 'version = "580.126.20"\nload = false'
    assert "driver.load = false in the profile: driver 580.126.20" in lasting(plan(situation(machine, "never", driver)))
    for _ in range(2):  # the second apply finds nothing else to do, and is not done either
        report = run_apply(machine, "never", driver)
        assert (report.result, report.exit_code) == ("reboot-required", ExitCode.REBOOT_REQUIRED)
    boot(machine)
    assert run_apply(machine, "never", driver).result == "changed"
    assert check(situation(machine, "never", driver)).result == "in-sync"


def test_modules_built_for_a_newer_kernel_want_it_booted() -> None:
    machine = _with_driver().copy()
    power_cut(machine)
    newer = "6.12.117+deb13-amd64"
    machine.files.erase(f"/usr/lib/modules/{machine.identity.kernel}/updates")
    machine.files.make_folders(f"/usr/lib/modules/{newer}")
    for path in ("/sys/module/nvidia", "/proc/driver/nvidia"):
        machine.files.erase(path)
    modinfo = {"modinfo": lambda _machine, call: Answer(status=int(newer not in call.words))}
    machine.programs = {**machine.programs, **modinfo}
    told = lasting(plan(situation(machine, "never", 'version = "580.126.20"')))
    assert f"the driver's modules are built for the kernel {newer}, and {machine.identity.kernel} runs" in told


# --- a driver's upgrade and downgrade in one apply


@pytest.mark.parametrize("version", ["580.159.04", "580.178.01"])
def test_after_an_upgrade_everything_is_as_wanted(version: str) -> None:
    machine = _with_driver().copy()
    driver = f'version = "{version}"'
    assert run_apply(machine, driver=driver).result == "changed"
    found = check(situation(machine, driver=driver))
    assert found.result == "in-sync", [each for step in found.steps for each in step.differences]
    assert machine.units[PERSISTENCED].active == "active"
    back = 'version = "580.126.20"'
    assert run_apply(machine, driver=back).result == "changed"
    assert check(situation(machine, driver=back)).result == "in-sync"


def test_an_upgrade_is_taken_back_alone_and_with_the_first_run() -> None:
    machine = _with_driver().copy()
    run_apply(machine, driver='version = "580.159.04"')
    alone = machine.copy()
    report = rollback(situation(alone), to="1")
    assert (report.result, report.left) == ("undone", [])
    assert not changes(snapshot(_with_driver()), snapshot(alone))
    report = rollback(situation(machine))
    assert (report.result, report.left) == ("undone", [])
    bare = gpu_host()
    bare.files.lay(BOOT_ID, "1\n")
    assert not changes(snapshot(bare), snapshot(machine))


def test_a_package_moved_twice_comes_back_to_what_the_host_had_before() -> None:
    machine = _with_driver().copy()
    machine.files.erase("/var/lib/gpunode")  # what is there by now was there before gpunode
    machine.run(["apt-mark", "unhold", *machine.dpkg.records])
    before = {name: record.installed_version for name, record in machine.dpkg.records.items()}
    for version in ("580.159.04", "580.178.01"):
        assert run_apply(machine, driver=f'version = "{version}"').result == "changed"
    report = rollback(situation(machine))
    assert not [line for line in report.left if "since" in line]
    assert {name: record.installed_version for name, record in machine.dpkg.records.items()} == before


def test_the_fabric_manager_moves_with_the_driver() -> None:
    unit = "nvidia-fabricmanager.service"
    machine = gpu_host()
    for name, value in (("vendor", "0x10de"), ("device", "0x22a3"), ("class", "0x068000")):
        machine.files.lay(f"/sys/bus/pci/devices/0000:c0:00.0/{name}", f"{value}\n")
    assert run_apply(machine, driver='version = "580.126.20"').result == "changed"
    first = machine.units[unit].started
    driver = 'version = "580.159.04"'
    assert run_apply(machine, driver=driver).result == "changed"
    assert machine.units[unit].active == "active"
    assert machine.units[unit].started != first, "the daemon of the old driver went on"
    assert check(situation(machine, driver=driver)).result == "in-sync"
