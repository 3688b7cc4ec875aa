"""The containerd step on a whole host: which file it finds, where keys go, when the daemon is restarted, what comes back."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from gpunode.engine.apply import apply
from gpunode.engine.check import plan
from gpunode.engine.results import Report, StepResult
from gpunode.engine.rollback import rollback
from gpunode.engine.situation import Situation
from gpunode.errors import HostError
from gpunode.profile import load
from gpunode.steps import select
from memory import MemoryMachine, gpu_host, units
from memory.snapshot import changes, snapshot

MAIN, DROP_IN = "/etc/containerd/config.toml", "/etc/containerd/conf.d/99-gpunode.toml"
UNIT = "containerd.service"
STEPS = ("container_toolkit", "containerd")
V3 = 'version = 3\n\n[plugins."io.containerd.cri.v1.runtime"]\n  max_container_log_line_size = 4096 # the logs are long\n'


@cache
def _driven(release: str) -> MemoryMachine:
    """A host on which all but the container engine is as wanted."""
    machine = gpu_host(release=release)
    assert (
        apply(_situation(machine, skip=("containerd", "engines", "device_plugin", "verify")), _yes).result == "changed"
    )
    return machine


def _yes(_plan: Report) -> bool:
    return True


def _situation(
    machine: MemoryMachine, profile: str = "", *, skip: tuple[str, ...] = ("device_plugin", "verify")
) -> Situation:
    return Situation(machine, load(profile.encode(), "profile.toml").profile, select(skip=skip), "0", note="test")


def _host(release: str = "2.1.9", config: str | None = V3) -> MemoryMachine:
    machine = _driven(release).copy()
    if config is None:
        machine.files.erase(MAIN)
    else:
        machine.files.lay(MAIN, config, mtime=machine.now() - 3600)
    machine.wait(60)
    units.stop(machine, UNIT)
    assert units.start(machine, UNIT)
    machine.wait(60)
    return machine


def _step(report: Report) -> StepResult:
    return next(step for step in report.steps if step.name == "containerd")


def test_a_drop_in_where_the_release_merges_it() -> None:
    machine = _host()
    planned = _step(plan(_situation(machine)))
    assert any("merges it into the CRI section" in note for note in planned.notes)
    assert any("config dump` of 2.1.9" in note for note in planned.notes)

    assert apply(_situation(machine), _yes).result == "changed"

    assert machine.files.text(MAIN) == V3.replace("version = 3\n", f'version = 3\nimports = ["{DROP_IN}"]\n')
    assert "runtimes.nvidia" in machine.files.text(DROP_IN)
    assert apply(_situation(machine), _yes).result == "in-sync"


def test_rollback_takes_the_drop_in_and_its_import_away() -> None:
    machine = _host()
    before = snapshot(machine)
    apply(_situation(machine), _yes)
    rollback(_situation(machine), to="0001")
    assert not changes(before, snapshot(machine))


def test_the_main_file_where_an_import_would_replace_the_section() -> None:
    machine = _host(
        "1.7.24", 'version = 2\n# mine\n[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "pause:1"\n'
    )
    planned = _step(plan(_situation(machine)))
    assert any("an imported file replaces the whole CRI section" in note for note in planned.notes)
    apply(_situation(machine), _yes)
    assert "runtimes.nvidia" in machine.files.text(MAIN)
    assert not machine.files.exists(DROP_IN)


def test_the_file_that_the_unit_names_is_the_one_edited() -> None:
    machine = _host()
    machine.files.lay("/srv/ctd/config.toml", V3)
    drop_in = "[Service]\nExecStart=\nExecStart=/usr/bin/containerd --config /srv/ctd/config.toml\n"
    machine.files.lay(f"/etc/systemd/system/{UNIT}.d/10-config.conf", drop_in)
    planned = _step(plan(_situation(machine)))
    assert {each.resource for each in planned.differences} == {"toml:/srv/ctd/config.toml"}
    assert "/srv/ctd/conf.d/99-gpunode.toml" in planned.differences[-1].diff + planned.differences[0].diff


def test_the_profile_can_have_it_in_the_main_file() -> None:
    machine = _host()
    apply(_situation(machine, '[containerd]\nplace = "main"\n'), _yes)
    assert "runtimes.nvidia" in machine.files.text(MAIN)
    assert not machine.files.exists(DROP_IN)


def test_a_comment_written_since_asks_for_no_restart() -> None:
    machine = _host()
    apply(_situation(machine), _yes)
    started = machine.units[UNIT].started
    machine.wait(60)
    machine.files.lay(MAIN, f"# a remark\n{machine.files.text(MAIN)}", mtime=machine.now())
    assert apply(_situation(machine), _yes).result == "in-sync"
    assert machine.units[UNIT].started == started


def test_another_setting_written_since_asks_for_one() -> None:
    machine = _host()
    apply(_situation(machine), _yes)
    machine.wait(60)
    machine.files.lay(MAIN, machine.files.text(MAIN).replace("4096", "8192"), mtime=machine.now())
    planned = _step(plan(_situation(machine)))
    assert [each.field for each in planned.differences] == [UNIT]
    assert planned.restarts == [UNIT]
    assert apply(_situation(machine), _yes).result == "changed"
    assert apply(_situation(machine), _yes).result == "in-sync"


def test_a_drop_in_that_has_gone_since_is_noticed_though_no_file_is_newer() -> None:
    machine = _host(config=V3.replace("version = 3\n", 'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n'))
    other = '[plugins."io.containerd.cri.v1.runtime"]\nenable_selinux = true\n'
    machine.files.lay("/etc/containerd/conf.d/10-site.toml", f"version = 3\n{other}", mtime=machine.now() - 30)
    apply(_situation(machine), _yes)
    machine.wait(60)
    machine.files.erase("/etc/containerd/conf.d/10-site.toml")
    folder = machine.files.nodes["/etc/containerd/conf.d"]
    machine.files.nodes["/etc/containerd/conf.d"] = replace(folder, mtime=machine.now())
    assert [each.field for each in _step(plan(_situation(machine))).differences] == [UNIT]


def test_a_daemon_that_does_not_come_back_gets_both_files_back() -> None:
    machine = _host()
    before = snapshot(machine)
    machine.unit_checks[UNIT] = lambda host: "no nvidia here" if host.files.exists(DROP_IN) else ""
    report = apply(_situation(machine), _yes)
    assert report.result == "failed"
    assert "did not come back with the new configuration" in report.error
    assert DROP_IN in report.error
    assert MAIN in report.error
    assert any("no nvidia here" in line for line in report.details)
    left = changes(before, snapshot(machine))
    assert not {path for path in left if path.startswith("/etc/containerd/")} - {"/etc/containerd/conf.d"}
    assert machine.units[UNIT].active == "active"


def test_a_file_changed_between_plan_and_yes_is_refused_with_the_new_difference() -> None:
    machine = _host()
    before = dict(machine.files.nodes)

    def edited_meanwhile(_plan: Report) -> bool:
        machine.files.lay(MAIN, V3.replace("4096", "1"), mtime=machine.now())
        return True

    with pytest.raises(HostError) as refusal:
        apply(_situation(machine), edited_meanwhile)
    assert "has changed since the plan was made" in refusal.value.message
    assert any("max_container_log_line_size = 1" in line for line in refusal.value.details)
    assert DROP_IN not in machine.files.nodes
    assert DROP_IN not in before


def test_the_kubelets_cgroup_driver_reaches_runc_and_nvidia() -> None:
    machine = _host("1.7.24", "version = 2\n")
    machine.files.lay("/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\ncgroupDriver: systemd\n")
    apply(_situation(machine), _yes)
    assert machine.files.text(MAIN).count("SystemdCgroup = true") == 2


def test_a_file_too_large_to_be_a_configuration_is_refused() -> None:
    machine = _host(config=f"version = 3\n# {'x' * (5 << 20)}\n")
    report = plan(_situation(machine))
    assert report.result == "failed"
    assert f"{MAIN}: 5.0 MiB is no configuration" in report.error


def test_containerds_own_default_where_the_unit_names_no_file() -> None:
    machine = _host(config=None)
    assert {each.resource for each in _step(plan(_situation(machine))).differences} == {f"toml:{MAIN}"}
    apply(_situation(machine), _yes)
    assert machine.files.text(MAIN).startswith("version = 3\n")
    assert not machine.files.exists(DROP_IN)
