"""Doctor: a host that nobody has a profile of, and words that somebody has pasted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gpunode.engine.apply import apply
from gpunode.engine.doctor import doctor, doctor_of_text, verdict
from gpunode.engine.results import Report
from gpunode.engine.situation import Situation
from gpunode.findings.log import recognise_text
from gpunode.profile import HostProfile
from gpunode.steps import ORDER, select
from memory import MemoryMachine, gpu_host, units

XID = "[1.0] NVRM: Xid (PCI:0000:05:00): 79, pid=12, name=train, GPU has fallen off the bus.\n"
NO_RUNTIME = 'kubelet: Failed to create pod sandbox: no runtime for "nvidia" is configured\n'


def seen(machine: MemoryMachine) -> Report:
    return doctor(Situation(machine, HostProfile(), ORDER, "0"))


def ids(report: Report) -> list[str]:
    return [finding.id for step in report.steps for finding in step.findings]


def test_a_host_on_which_nothing_was_ever_done_lacks_layers_and_has_no_failure() -> None:
    report = seen(gpu_host())
    assert (ids(report), report.result) == ([], "drift")
    assert "the chain breaks at the layer module: no NVIDIA module is loaded" in verdict(report)


def test_the_layers_of_a_host_that_works_work() -> None:
    machine = gpu_host()
    profile = HostProfile.model_validate({"device_plugin": {"mode": "none"}})
    assert apply(Situation(machine, profile, select(skip=("verify",)), "0"), lambda _plan: True).result == "changed"
    states = {layer.name: layer.state for layer in seen(machine).layers}
    assert [name for name, state in states.items() if state == "works"][:6] == [
        *("PCI", "module", "library", "device nodes", "toolkit", "engine")
    ]
    machine.files.erase("/usr/bin/nvidia-container-runtime")
    assert {layer.name: layer.state for layer in seen(machine).layers}["toolkit"] == "broken"


def test_a_host_is_judged_without_a_profile_and_not_touched() -> None:
    machine = gpu_host()
    units.stop(machine, "containerd.service")
    before = dict(machine.files.nodes)
    report = seen(machine)
    assert "engine-stopped" in ids(report)
    assert report.exit_code == 3
    assert machine.files.nodes == before


def test_the_verdict_is_the_cause_and_not_its_symptom() -> None:
    report = doctor_of_text(NO_RUNTIME + XID)
    assert {"gpu-fallen-off-bus", "xid", "runtime-not-configured"} <= set(ids(report))
    assert verdict(report).startswith("A GPU has fallen off the bus")


def test_words_are_found_with_their_lines_and_nothing_in_others() -> None:
    [first, *_] = recognise_text("all is well\n" + NO_RUNTIME)
    assert first.evidence == (f"line 2: {NO_RUNTIME.strip()}",)
    assert recognise_text("all is well\nGPU 0: idle\n") == []


def test_what_a_text_leaves_open_is_not_made_up() -> None:
    for finding in recognise_text(NO_RUNTIME + XID):
        assert "{" not in finding.cause
        assert finding.mend
        assert all("{" not in command for command in finding.mend)


def test_many_lines_of_one_failure_are_counted() -> None:
    found = {finding.id: finding for finding in recognise_text(NO_RUNTIME * 50)}
    assert found["runtime-not-configured"].evidence[-1] == "and 47 more lines"


@pytest.mark.slow
@pytest.mark.parametrize(("text", "code"), [(NO_RUNTIME, 3), ("fine\n", 0)])
def test_the_command_reads_a_pasted_text(text: str, code: int) -> None:
    argv = [sys.executable, "-m", "gpunode", "doctor", "--log", "-", "--output", "json"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == code
    document = json.loads(done.stdout)
    assert document["command"] == "doctor"
    assert bool(document["findings"]) == (code == 3)
    assert document["findings"] == [finding for step in document["steps"] for finding in step["findings"]]
