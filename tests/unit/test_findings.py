"""tests/cases/findings/<id>/<present|absent>/host.toml: a host that has the failure, and a near miss. A new case needs no code.

A case begins with a host on which gpunode has run (`base = "fresh"`: on which it has not) and changes it, in this order:

    containerd = "2.1.9"                    the release of containerd
    gpus = ["2330"], nvswitches = 4         PCI devices
    driver = "580.159.04 open"              what runs; "" for nothing
    remove = ["/path"]                      paths that are gone
    commands = ["apt-get install …"]        commands really run on the host
    [packages] name = "1.2-1"               installed so; or {version = …, held = true}; "" for not installed
    [files] "/path" = "text"                files, beside those that lie in the case's folder `files/`
    [links] "/path" = "target"
    [modified] "/path" = 60                 seconds from now at which a file was changed (-60: a minute ago)
    [units."x.service"] active = false, started = -60
    [profile.driver] branch = "580"         the profile

and says what comes of it:

    with = ["other-id"]                     findings besides; without it there is none
    cause = "words", severity = "warning", evidence = ["words"], mend = ["the commands, all of them"],
    explains = ["other-id", "resource:id"]
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gpunode.engine.apply import apply
from gpunode.engine.results import FindingResult
from gpunode.engine.situation import Situation
from gpunode.findings import known, recognise
from gpunode.findings.history import Written, last_write
from gpunode.formats.toml_data import parse
from gpunode.host.reader import Reader
from gpunode.profile import HostProfile
from gpunode.steps import ORDER, select
from memory import MemoryMachine, gpu_host, units
from memory.files import Node
from memory.packages import Deb, Record

FOLDER = Path(__file__).parents[1] / "cases" / "findings"
CASES = sorted(path.parent for path in FOLDER.glob("*/*/host.toml"))
IDS = [each.id for each in known()]
PROFILE = {"cuda": {"version": "13.0"}, "device_plugin": {"mode": "none"}}


def _situation(machine: MemoryMachine, changes: dict[str, Any] | None = None) -> Situation:
    profile = {
        name: {**PROFILE.get(name, {}), **(changes or {}).get(name, {})} for name in {*PROFILE, *(changes or {})}
    }
    return Situation(machine, HostProfile.model_validate(profile), select(skip=("verify",)), "0")


@cache
def _fresh(containerd: str) -> MemoryMachine:
    return gpu_host(release=containerd)


@cache
def _converged(containerd: str) -> MemoryMachine:
    machine = _fresh(containerd).copy()
    assert apply(_situation(machine), lambda _plan: True).result == "changed"
    return machine


def _host(case: dict[str, Any], folder: Path) -> MemoryMachine:
    base = _fresh if case.get("base") == "fresh" else _converged
    machine = base(case.get("containerd", "1.7.24")).copy()
    _plug_in(machine, case)
    for path in case.get("remove", []):
        machine.files.erase(path)
    for command in case.get("commands", []):
        output = machine.run(command.split())
        assert output.ok, output.stderr
    for name, entry in case.get("packages", {}).items():
        _install(machine, name, entry)
    tree = folder / "files"
    texts = {f"/{path.relative_to(tree)}": path.read_text("utf-8") for path in tree.rglob("*") if path.is_file()}
    for path, text in (texts | case.get("files", {})).items():
        machine.files.lay(path, text, mtime=machine.now() - 3600)
    for path, target in case.get("links", {}).items():
        machine.files.erase(path)
        machine.files.link(path, target)
    for path, seconds in case.get("modified", {}).items():
        machine.files.lay(path, machine.files.read(path), mtime=machine.now() + seconds)
    for name, state in case.get("units", {}).items():
        _control(machine, name, state)
    return machine


def _plug_in(machine: MemoryMachine, case: dict[str, Any]) -> None:
    devices = [(device, "0x030200") for device in case.get("gpus", [])]
    devices += [("22a3", "0x068000")] * case.get("nvswitches", 0)
    for number, (device, kind) in enumerate(devices):
        folder = f"/sys/bus/pci/devices/0000:{number + 0x65:02x}:00.0"
        for name, value in (("vendor", "0x10de"), ("device", f"0x{device}"), ("class", kind)):
            machine.files.lay(f"{folder}/{name}", f"{value}\n")
    if "driver" in case:
        machine.files.erase("/proc/driver/nvidia")
        version, _, modules = case["driver"].partition(" ")
        words = "Open Kernel Module for x86_64" if modules == "open" else "x86_64 Kernel Module"
        if version:
            line = f"NVRM version: NVIDIA UNIX {words}  {version}  Release Build\n"
            machine.files.lay("/proc/driver/nvidia/version", line)


def _install(machine: MemoryMachine, name: str, entry: str | dict[str, Any]) -> None:
    fields = {"version": entry} if isinstance(entry, str) else entry
    if fields["version"]:
        want = "hold" if fields.get("held") else "install"
        machine.dpkg.records[name] = Record(Deb(name, fields["version"]), "installed", want)  # type: ignore[arg-type]  # a word of two
    else:
        machine.dpkg.records.pop(name, None)


def _control(machine: MemoryMachine, name: str, state: dict[str, Any]) -> None:
    machine.files.lay(f"/usr/lib/systemd/system/{name}", "[Service]\nExecStart=/bin/true\n[Install]\n")
    unit = units.state(machine, name)
    unit.active = "active" if state["active"] else "inactive"
    unit.sub = "running" if state["active"] else "dead"
    if "started" in state:
        unit.started = machine.now() + state["started"]


def _found(machine: MemoryMachine, profile: dict[str, Any] | None = None) -> dict[str, FindingResult]:
    reader = Reader(machine)
    return {finding.id: finding for _step, finding in recognise(reader, _situation(machine, profile).context(reader))}


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_case(folder: Path) -> None:
    case = parse((folder / "host.toml").read_text("utf-8"))
    name = folder.parent.name
    found = _found(_host(case, folder), case.get("profile"))
    present = folder.name.startswith("present")

    assert sorted(found) == sorted([name] * present + case.get("with", []))
    if present:
        _check(found[name], case)


def _check(finding: FindingResult, case: dict[str, Any]) -> None:
    text = "\n".join(finding.evidence)
    assert case["cause"] in finding.cause
    assert [words for words in case["evidence"] if words not in text] == [], text
    assert list(finding.mend) == case["mend"]
    assert list(finding.explains) == case.get("explains", list(finding.explains))
    assert finding.severity == case.get("severity", next(each.severity for each in known() if each.id == finding.id))
    assert "{" not in finding.cause + "".join(finding.mend), "a placeholder was left unfilled"
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
    assert _found(_fresh(containerd)) == {}
    assert _found(_converged(containerd)) == {}


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
    machine = _fresh("1.7.24").copy()
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


def test_looking_runs_few_commands_and_writes_nothing() -> None:
    machine = _converged("1.7.24").copy()
    reader = Reader(machine)
    context = _situation(machine).context(reader)
    machine.commands.clear()
    before = dict(machine.files.nodes)

    recognise(reader, context)

    assert sorted(words[0] for words in machine.commands) == ["dpkg-query", "systemctl"]
    assert machine.files.nodes == before


NONSENSE = (
    b"\xff\xfe\x00 \x80",
    b"version = [",
    b"version = true\nimports = 7\nplugins = 3\n",
    b'{"t": "intend"}\n[]\n"x"\n',
    b"",
)


@pytest.mark.parametrize("content", NONSENSE)
def test_files_of_nonsense_are_no_findings_and_no_errors(content: bytes) -> None:
    machine = _converged("1.7.24").copy()
    machine.hangs |= {"containerd", "systemctl", "dpkg-query"}
    folders = (
        "/etc/apt/",
        "/etc/containerd/",
        "/etc/modprobe.d/",
        "/usr/share/keyrings/",
        "/var/lib/gpunode/runs/",
        "/var/log/",
    )
    machine.files.lay("/var/log/apt/history.log", "")
    machine.files.lay("/var/lib/kubelet/config.yaml", content)
    reader = Reader(_fresh("1.7.24"))
    context = _situation(machine).context(reader)
    for path, node in list(machine.files.nodes.items()):
        if node.kind == "file" and path.startswith(folders):
            machine.files.nodes[path] = Node("file", content)

    assert isinstance(recognise(Reader(machine), context), list)
