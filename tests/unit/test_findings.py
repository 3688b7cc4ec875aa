"""The failure catalogue over the hosts of tests/cases/findings (see findings_cases.py), and what holds for all of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from graphlib import CycleError
from pathlib import Path
from typing import Any

import pytest
from findings_cases import (
    CASES,
    CONFUSION,
    FOLDER,
    case_of,
    confusion,
    confusion_table,
    converged,
    expected,
    found_on,
    fresh,
    host_of,
    samples,
    situation,
)

from gpunode.catalog.xids import action, xids
from gpunode.engine.results import FindingResult
from gpunode.findings import causes_first, known, recognise
from gpunode.findings.gather import Depth
from gpunode.findings.history import Written, last_write
from gpunode.host.reader import Reader
from gpunode.steps import ORDER
from memory.files import Node

IDS = [each.id for each in known()]
ACTIONS = {each.action.name for each in xids().values()}


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_case(folder: Path) -> None:
    case = case_of(folder)
    name = folder.parent.name
    found = found_on(host_of(case, folder), case.get("profile"))

    assert sorted(found) == expected(case, folder)
    if folder.name.startswith("present"):
        _check(found[name], case)


def _check(finding: FindingResult, case: dict[str, Any]) -> None:
    text = "\n".join(finding.evidence)
    assert case["cause"] in finding.cause
    assert [words for words in case["evidence"] if words not in text] == [], text
    assert list(finding.mend) == case["mend"]
    assert list(finding.explains) == case.get("explains", list(finding.explains))
    assert finding.severity == case.get("severity", next(each.severity for each in known() if each.id == finding.id))
    assert not re.search(r"{\w+}", finding.cause + "".join(finding.mend)), "a placeholder was left unfilled"
    assert finding.cause.endswith(".")
    assert finding.cause.count(". ") == 0, "the cause is one sentence"
    assert all("\n" not in line for line in (*finding.evidence, *finding.mend))


def test_every_failure_has_a_case_and_a_near_miss() -> None:
    missing = [
        f"{name}/{kind}" for name in IDS for kind in ("present", "absent") if not (FOLDER / name / kind).is_dir()
    ]
    assert missing == []
    assert {folder.parent.name for folder in CASES} == set(IDS)


@pytest.mark.parametrize("containerd", ["1.6.20", "1.7.24", "2.1.9"])
def test_neither_a_fresh_host_nor_a_converged_one_has_a_finding(containerd: str) -> None:
    assert found_on(fresh(containerd)) == {}
    assert found_on(converged(containerd)) == {}


def test_causes_come_before_what_they_explain() -> None:
    places = {name: place for place, name in enumerate(IDS)}
    wrong = [
        f"{each.id} explains {other}"
        for each in known()
        for other in each.explains
        if ":" not in other and places[other] <= places[each.id]
    ]
    assert wrong == []


def test_the_documentation_is_what_the_catalogue_says() -> None:
    script = Path(__file__).parents[2] / "scripts" / "gen-failure-docs"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_write_that_was_taken_back_is_no_write() -> None:
    machine = fresh("1.7.24").copy()
    lines = [
        {"t": "run", "run": "0001", "command": "apply", "at": 0},
        {"t": "intend", "seq": 1, "verb": "write-file", "intent": {"path": "/a", "after": {"sha": "one"}}},
        {"t": "intend", "seq": 2, "verb": "write-file", "intent": {"path": "/b", "after": {"sha": "two"}}},
        {"t": "intend", "seq": 3, "verb": "remove-file", "intent": {"path": "/a", "after": None}},
        {"t": "undone", "seq": 2, "by": "0002"},
    ]
    machine.files.lay("/var/lib/gpunode/runs/0001.jsonl", "\n\n".join(map(json.dumps, lines)) + '\n{"t": "int')
    machine.files.lay("/var/lib/gpunode/runs/0002.jsonl", "")

    assert last_write(Reader(machine), "/a") == Written("0001", "one")
    assert last_write(Reader(machine), "/b") is None


def test_each_failure_belongs_to_a_step() -> None:
    assert {each.step for each in known()} <= {step.name for step in ORDER}
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize(
    ("depth", "asked"),
    [
        ("files", ["/usr/bin/containerd", "dpkg-query", "systemctl"]),
        ("hardware", ["/usr/bin/containerd", "/usr/bin/python3", "dmesg", "dpkg-query", "journalctl", "systemctl"]),
        (
            "all",
            ["/usr/bin/containerd", "/usr/bin/python3", "dmesg", "dpkg-query", "journalctl", "journalctl", "systemctl"],
        ),
    ],
    ids=["files", "hardware", "all"],
)
def test_looking_runs_few_commands_and_writes_nothing(depth: Depth, asked: list[str]) -> None:
    machine = converged().copy()
    reader = Reader(machine)
    context = situation(machine).context(reader)
    reader.forget()
    machine.commands.clear()
    before = dict(machine.files.nodes)

    recognise(reader, context, depth=depth)

    assert sorted(words[0] for words in machine.commands) == asked
    assert machine.files.nodes == before


def test_causes_and_effects_go_round_in_no_circle() -> None:
    """Ordering them is what finds a circle out: two that explain each other cannot be put one behind the other."""
    one, two, *_ = known()
    circle = [replace(one, explains=(two.id,)), replace(two, explains=(one.id,))]
    with pytest.raises(CycleError):
        causes_first(circle)
    assert causes_first(reversed(known())) != tuple(reversed(known()))


def test_every_effect_that_is_named_is_known() -> None:
    unknown = [
        f"{each.id}: {name}" for each in known() for name in each.explains if ":" not in name and name not in IDS
    ]
    assert unknown == []


HARDWARE = ("gpu-", "xid", "sxid", "ecc-", "rows-", "pcie-", "pci-", "nvlink-", "nvml-hangs", "mig-pending")


def test_a_finding_about_the_hardware_suggests_no_installation() -> None:
    installing = re.compile(r"apply|apt-get|dnf|zypper|dkms|install")
    found = [each for each in known() if each.id.startswith(HARDWARE)]
    assert len(found) == 13
    assert [each.id for each in found if any(installing.search(command) for command in each.mend)] == []
    assert [each.mend for each in (action(name) for name in ACTIONS) if installing.search(each.mend)] == []


@pytest.mark.parametrize(("timer", "found"), [("dnf5-automatic.timer", True), ("dnf5-makecache.timer", False)])
def test_what_dnf_5_upgrades_by_itself_is_known(timer: str, *, found: bool) -> None:
    """It has a timer of its own name, and dnf 4's configuration."""
    case = case_of(FOLDER / "driver-not-held" / "present")
    case["files"] = {"/etc/dnf/automatic.conf": "[commands]\napply_updates = yes\n"}
    case |= {"packages": {}, "units": {timer: {"active": True, "enabled": True}}}
    finding = found_on(host_of(case, FOLDER)).get("driver-not-held")
    assert (finding is not None) is found
    if finding:
        assert f"systemctl show {timer}: enabled" in finding.evidence


@pytest.mark.slow
def test_recognition_is_what_the_documentation_says_of_it() -> None:
    """Each failure that a host has is told, and no host is told of one that it does not have."""
    table = confusion()
    print(confusion_table(table))
    wrong = [
        name
        for name, each in table.items()
        if each.present != each.recognised or each.wrongly_near or each.wrongly_other
    ]
    assert wrong == []
    assert CONFUSION.read_text("utf-8") == confusion_table(table), "run scripts/gen-failure-docs --measure"


def test_patterns_find_what_threads_quote() -> None:
    """Each text is found by the patterns of its failure, and besides by those alone that are named with it."""
    by_id = {each.id: [re.compile(pattern, re.MULTILINE) for pattern in each.patterns] for each in known()}
    used: set[tuple[str, str]] = set()
    for name, text, others in samples():
        found = {other for other, patterns in by_id.items() if any(pattern.search(text) for pattern in patterns)}
        assert found == {name, *others}, text
        used |= {(each, pattern.pattern) for each in found for pattern in by_id[each] if pattern.search(text)}
    unused = {(each.id, pattern) for each in known() for pattern in each.patterns} - used
    assert unused == set(), "a pattern that no sample is found by"


NONSENSE = (
    b"\xff\xfe\x00 \x80",
    b"version = [",
    b"version = true\nimports = 7\nplugins = 3\n",
    b'{"t": "intend"}\n[]\n"x"\n',
    b"",
)


NEVER_SEEN_HERE = (
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/device-plugins/kubelet.sock",
    "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
    "/var/lib/dkms/nvidia/1/build/make.log",
    "/var/log/pods/a_nvidia-device-plugin_b/c/0.log",
    "/var/log/audit/audit.log",
    "/etc/docker/daemon.json",
    "/etc/nvidia-container-runtime/config.toml",
    "/proc/1/stat",
    "/proc/driver/nvidia/gpus/0000:65:00.0/information",
    "/sys/bus/pci/devices/0000:65:00.0/resource",
    "/sys/bus/pci/devices/0000:65:00.0/current_link_width",
    "/sys/fs/selinux/enforce",
)


@pytest.mark.parametrize("content", NONSENSE)
def test_files_of_nonsense_are_no_findings_and_no_errors(content: bytes) -> None:
    machine = converged("1.7.24").copy()
    machine.hangs |= {"containerd", "systemctl", "dpkg-query"}
    folders = (
        "/etc/apt/",
        "/etc/containerd/",
        "/etc/modprobe.d/",
        "/usr/share/keyrings/",
        "/var/lib/gpunode/runs/",
        "/var/log/",
        "/var/lib/dkms/",
        "/var/lib/kubelet/",
        "/etc/docker/",
        "/etc/ld.so",
        "/etc/nvidia-container-runtime/",
        "/proc/",
        "/sys/",
    )
    machine.files.lay("/var/log/apt/history.log", "")
    for path in NEVER_SEEN_HERE:
        machine.files.lay(path, content)
    reader = Reader(fresh("1.7.24"))
    context = situation(machine).context(reader)
    for path, node in list(machine.files.nodes.items()):
        if node.kind == "file" and path.startswith(folders):
            machine.files.nodes[path] = Node("file", content)

    assert isinstance(recognise(Reader(machine), context), list)
