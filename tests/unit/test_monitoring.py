"""Rules and dashboard speak of metrics that there are; the timer's units are written, kept within bounds, and taken back."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gpunode.cli import timer
from gpunode.engine.results import Report
from gpunode.engine.rollback import rollback
from gpunode.engine.situation import Situation
from gpunode.engine.timer import EVERY, METRICS, SERVICE, STEP, TIMER, Plan, disable, enable, service_text, status
from gpunode.errors import ConflictError, UsageError
from gpunode.host.journal import Journal
from gpunode.profile import HostProfile
from gpunode.report.prometheus import HELP
from gpunode.steps import ORDER
from memory import MemoryMachine, gpu_host

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RULES = EXAMPLES / "gpunode-alerts.yaml"
UNITS = [f"/etc/systemd/system/{name}" for name in (SERVICE, TIMER)]
PLAN = Plan("/etc/gpunode/profile.toml", "5min", "/srv/textfile/gpunode.prom")


@pytest.fixture
def machine() -> MemoryMachine:
    host = gpu_host()
    host.files.make_folders("/srv/textfile")
    return host


def of(machine: MemoryMachine) -> Situation:
    return Situation(machine, HostProfile(), ORDER, "0")


def named(text: str) -> set[str]:
    return set(re.findall(r"\bgpunode_\w+", text))


def expressions(found: Any) -> list[str]:
    """Every PromQL expression in a document, wherever it stands."""
    if isinstance(found, dict):
        own = [value for key, value in found.items() if key in ("expr", "query") and isinstance(value, str)]
        return own + [each for value in found.values() for each in expressions(value)]
    return [each for value in found for each in expressions(value)] if isinstance(found, list) else []


def test_every_metric_that_rules_and_dashboard_name_is_written() -> None:
    rules = expressions(yaml.safe_load(RULES.read_text()))
    panels = expressions(json.loads((EXAMPLES / "gpunode-dashboard.json").read_text()))
    assert rules
    assert panels
    assert named(" ".join([*rules, *panels])) == set(HELP)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not here: Debian's package prometheus has it")
def test_the_rules_alert_when_they_should() -> None:
    subprocess.run(["promtool", "check", "rules", RULES], check=True, capture_output=True)
    subprocess.run(
        ["promtool", "test", "rules", EXAMPLES / "gpunode-alerts-test.yaml"], check=True, capture_output=True
    )


def test_the_timer_is_enabled_and_disabled_without_a_trace(machine: MemoryMachine) -> None:
    assert enable(of(machine), PLAN).result == "changed"
    found = status(machine)
    assert (found.enabled, found.active, found.metrics) == (True, True, PLAN.metrics)
    assert "OnUnitActiveSec=5min" in machine.files.read(UNITS[1]).decode()
    assert disable(of(machine)).result == "undone"
    assert not [path for path in UNITS if machine.lstat(path)]
    assert not status(machine).enabled
    assert disable(of(machine)).result == "in-sync"


def test_a_timer_that_was_changed_twice_goes_wholly(machine: MemoryMachine) -> None:
    enable(of(machine), PLAN)
    enable(of(machine), Plan(PLAN.profile, EVERY, PLAN.metrics))
    assert f"OnUnitActiveSec={EVERY}" in machine.files.read(UNITS[1]).decode()
    assert disable(of(machine)).result == "undone"
    assert not [path for path in UNITS if machine.lstat(path)]


def test_an_edited_unit_stops_disable_before_anything_is_changed(machine: MemoryMachine) -> None:
    enable(of(machine), PLAN)
    machine.files.lay(UNITS[0], "[Service]\n# mine\n")
    runs = len(Journal(machine).runs)
    with pytest.raises(ConflictError, match=SERVICE):
        disable(of(machine))
    assert [path for path in UNITS if machine.lstat(path)] == UNITS
    assert status(machine).enabled
    assert len(Journal(machine).runs) == runs


def test_a_rollback_takes_the_timer_back(machine: MemoryMachine) -> None:
    enable(of(machine), PLAN)
    assert rollback(of(machine)).result == "undone"
    assert not [path for path in UNITS if machine.lstat(path)]
    assert not [entry for run in Journal(machine).runs for entry in run.standing if entry.step == STEP]


def test_the_metrics_that_stay_are_named(machine: MemoryMachine) -> None:
    enable(of(machine), PLAN)
    machine.files.lay(PLAN.metrics, "gpunode_check_success 1\n")
    assert PLAN.metrics in disable(of(machine)).left[0]


@pytest.mark.parametrize(
    "plan",
    [
        Plan("/p", "soon", PLAN.metrics),
        Plan("/p", "5min\nExecStart=/bin/sh", PLAN.metrics),
        Plan("/p", EVERY, METRICS),
        Plan("/p", EVERY, "/srv/textfile/gpunode.txt"),
        Plan("/p", EVERY, "srv/gpunode.prom"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(machine: MemoryMachine, plan: Plan) -> None:
    with pytest.raises(UsageError):
        enable(of(machine), plan)
    assert not Journal(machine).runs


@pytest.mark.parametrize(
    ("profile", "module_path", "kubeconfig", "home"),
    [
        (PLAN.profile, "", "", "yes"),
        ("/root/profile.toml", "", "", "read-only"),
        (PLAN.profile, "/root/.local/share/pipx/venvs/gpunode", "", "read-only"),
        (PLAN.profile, "", "/root/.kube/config", "read-only"),
    ],
)
def test_homes_are_open_only_where_something_has_to_be_read_in_one(
    machine: MemoryMachine, profile: str, module_path: str, kubeconfig: str, home: str
) -> None:
    machine.module_path = module_path
    machine.files.erase("/etc/kubernetes")
    if kubeconfig:
        machine.files.lay(kubeconfig, "kind: Config\n")
    enable(of(machine), Plan(profile, EVERY, PLAN.metrics))
    assert f"ProtectHome={home}\n" in machine.files.read(UNITS[0]).decode()


@pytest.mark.parametrize(
    "plan",
    [
        Plan("/tmp/profile.toml", EVERY, PLAN.metrics),
        Plan("/etc/gpunode/linked.toml", EVERY, PLAN.metrics),
        Plan(PLAN.profile, EVERY, "/var/tmp/gpunode.prom"),
        Plan(PLAN.profile, EVERY, PLAN.metrics, "/tmp/webhook"),
    ],
)
def test_what_the_service_would_not_see_is_refused(machine: MemoryMachine, plan: Plan) -> None:
    machine.files.make_folders("/var/tmp")
    machine.files.link("/etc/gpunode/linked.toml", "/tmp/profile.toml")
    with pytest.raises(UsageError, match="would not see it"):
        enable(of(machine), plan)
    assert not Journal(machine).runs


def test_a_folder_in_which_the_service_may_not_write_is_refused(machine: MemoryMachine) -> None:
    machine.files.nodes["/srv/textfile"] = replace(machine.files.nodes["/srv/textfile"], uid=997)
    with pytest.raises(UsageError, match="belongs to uid 997") as refused:
        enable(of(machine), PLAN)
    assert "chown root /srv/textfile" in str(refused.value.hint)


def test_a_profile_is_named_so_that_systemd_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[Plan] = []
    monkeypatch.chdir(tmp_path)

    def installed(_profile: str, plan: Plan) -> Report:
        named.append(plan)
        return Report(STEP, "changed")

    monkeypatch.setattr(timer, "_enable", installed)
    CliRunner().invoke(timer.app, ["enable", "--profile", "own.toml", "--webhook-file", "hook"])
    CliRunner().invoke(timer.app, ["enable"])
    assert [(plan.profile, plan.webhook_file) for plan in named] == [
        (f"{tmp_path}/own.toml", f"{tmp_path}/hook"),
        ("/etc/gpunode/profile.toml", ""),
    ]


def test_a_path_cannot_add_a_line_or_a_variable_to_the_unit(machine: MemoryMachine) -> None:
    text = service_text(machine, Plan('/etc/a "b" $HOME %h.toml'))
    assert r'"/etc/a \"b\" $$HOME %%h.toml"' in text
