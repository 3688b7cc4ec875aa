"""tests/cases/findings/<id>/<present|absent>/host.toml: a host that has the failure, and a near miss. A new case needs no code.

A case begins with a host on which gpunode has run (`base = "fresh"`: on which it has not) and changes it, in this order:

    containerd = "2.1.9"                    the release of containerd
    crio = true                             CRI-O is there too
    gpus = ["2330"], nvswitches = 4         PCI devices
    driver = "580.159.04 open"              what runs; "" for nothing
    remove = ["/path"]                      paths that are gone
    commands = ["apt-get install …"]        commands really run on the host
    [packages] name = "1.2-1"               installed so; or {version = …, held = true, state = …}; "" for not installed
    [files] "/path" = "text"                files, beside those that lie in the case's folder `files/`
    [links] "/path" = "target"
    [modified] "/path" = 60                 seconds from now at which a file was changed (-60: a minute ago)
    [units."x.service"] active = false, started = -60, enabled = true, command = "/usr/bin/x"
    [profile.driver] branch = "580"         the profile
    [loader] "libcuda.so.1" = ["/path"]     the loader's cache
    [expires] cuda-apt = 10                 days for which the key of a repository is still good
    [[objects]] kind = …                    objects of the cluster
    secure_boot = true                      by the firmware's own variable
    silent = ["0000:65:00.0"]               GPUs whose PCI configuration reads as ones
    user = 1000                             who looks, where that is not root

and what is told when it is asked:

    kernel_log = ["NVRM: …"]                the kernel's lines, a second each up to now; "-90000 NVRM: …" for one of then
    unit_log = ["dockerd: …"]               the services' lines, likewise
    processes = ["41 nvidia-smi D"]         what runs: id, name, state
    nvml = {hangs = true}                   the driver's answer: or {error = "UNKNOWN"}, {gpus = [{index = 0, pci = …}]}

and says what comes of it:

    with = ["other-id"]                     findings besides; without it there is none
    cause = "words", severity = "warning", evidence = ["words"], mend = ["the commands, all of them"],
    explains = ["other-id", "resource:id"]
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from gpunode.engine.apply import apply
from gpunode.engine.results import FindingResult
from gpunode.engine.situation import Situation
from gpunode.findings import known, recognise
from gpunode.formats.toml_data import parse
from gpunode.host.facts import SECURE_BOOT
from gpunode.host.reader import Reader
from gpunode.profile import HostProfile
from gpunode.steps import select
from memory import MemoryMachine, gpu_host, keys, units
from memory.command import Answer, Call
from memory.docker import install_crio
from memory.modules import loader_cache
from memory.packages import Deb, Record

FOLDER = Path(__file__).parents[1] / "cases" / "findings"
LOG = FOLDER.with_name("findings_log")
CONFUSION = FOLDER / "confusion.tsv"
CASES = sorted(path.parent for path in FOLDER.glob("*/*/host.toml"))
PROFILE = {"cuda": {"version": "13.0"}, "device_plugin": {"mode": "none"}}
DAY = 86_400


def situation(machine: MemoryMachine, changes: dict[str, Any] | None = None) -> Situation:
    """The machine with the profile that the cases begin with, changed."""
    profile = {
        name: {**PROFILE.get(name, {}), **(changes or {}).get(name, {})} for name in {*PROFILE, *(changes or {})}
    }
    return Situation(machine, HostProfile.model_validate(profile), select(skip=("verify",)), "0")


@cache
def fresh(containerd: str = "1.7.24") -> MemoryMachine:
    """A GPU host on which gpunode has not run. To be copied before it is changed."""
    return gpu_host(release=containerd)


@cache
def converged(containerd: str = "1.7.24") -> MemoryMachine:
    """The same after an apply."""
    machine = fresh(containerd).copy()
    assert apply(situation(machine), lambda _plan: True).result == "changed"
    return machine


def case_of(folder: Path) -> dict[str, Any]:
    """A case's table."""
    return parse((folder / "host.toml").read_text("utf-8"))


def host_of(case: dict[str, Any], folder: Path) -> MemoryMachine:
    """The host that a case describes."""
    base = fresh if case.get("base") == "fresh" else converged
    machine = base(case.get("containerd", "1.7.24")).copy()
    machine.programs = dict(machine.programs)
    if case.get("crio"):
        install_crio(machine)
    _plug_in(machine, case)
    for path in case.get("remove", []):
        machine.files.erase(path)
    for command in case.get("commands", []):
        output = machine.run(command.split())
        assert output.ok, output.stderr
    for name, entry in case.get("packages", {}).items():
        _install(machine, name, entry)
    _lay_files(machine, case, folder)
    for name, state in case.get("units", {}).items():
        _control(machine, name, state)
    _tell(machine, case)
    machine.identity = replace(machine.identity, uid=case.get("user", 0))
    return machine


def _lay_files(machine: MemoryMachine, case: dict[str, Any], folder: Path) -> None:
    tree = folder / "files"
    texts = {f"/{path.relative_to(tree)}": path.read_text("utf-8") for path in tree.rglob("*") if path.is_file()}
    for path, text in (texts | case.get("files", {})).items():
        machine.files.lay(path, text, mtime=machine.now() - 3600)
    for path, target in case.get("links", {}).items():
        machine.files.erase(path)
        machine.files.link(path, target)
    touched = (*texts, *case.get("files", {}), *case.get("remove", []))
    told = any(path.startswith("/etc/containerd/") for path in case.get("modified", {}))
    if not told and any(path.startswith("/etc/containerd/") for path in touched):
        # Somebody has restarted the daemon with them: else it runs with what it was given before, which is a failure of its own.
        machine.units["containerd.service"].started = machine.now()
    for path, seconds in case.get("modified", {}).items():
        machine.files.lay(path, machine.files.read(path), mtime=machine.now() + seconds)
    for address in case.get("silent", []):
        machine.files.lay(f"/sys/bus/pci/devices/{address}/config", b"\xff" * 64)
    if case.get("secure_boot"):
        machine.files.lay(SECURE_BOOT, b"\x06\0\0\0\x01")
    if "loader" in case:
        machine.files.lay("/etc/ld.so.cache", loader_cache(case["loader"]))


def _plug_in(machine: MemoryMachine, case: dict[str, Any]) -> None:
    devices = [(device, "0x030200") for device in case.get("gpus", [])]
    devices += [("22a3", "0x068000")] * case.get("nvswitches", 0)
    for number, (device, kind) in enumerate(devices):
        folder = f"/sys/bus/pci/devices/0000:{number + 0x65:02x}:00.0"
        for name, value in (("vendor", "0x10de"), ("device", f"0x{device}"), ("class", kind)):
            machine.files.lay(f"{folder}/{name}", f"{value}\n")
    if "gpus" in case:
        machine.gpus = [f"0000:{number + 0x65:02x}:00.0" for number in range(len(case["gpus"]))]
    if "driver" in case:
        machine.files.erase("/proc/driver/nvidia")
        version, _, modules = case["driver"].partition(" ")
        words = "Open Kernel Module for x86_64" if modules == "open" else "x86_64 Kernel Module"
        if version:
            line = f"NVRM version: NVIDIA UNIX {words}  {version}  Release Build\n"
            machine.files.lay("/proc/driver/nvidia/version", line)
            machine.files.lay("/dev/nvidiactl", "")


def _install(machine: MemoryMachine, name: str, entry: str | dict[str, Any]) -> None:
    fields = {"version": entry} if isinstance(entry, str) else entry
    if fields["version"]:
        want = "hold" if fields.get("held") else "install"
        state = fields.get("state", "installed")
        machine.dpkg.records[name] = Record(Deb(name, fields["version"]), state, want)  # type: ignore[arg-type]  # a word of two
    else:
        machine.dpkg.records.pop(name, None)


def _control(machine: MemoryMachine, name: str, state: dict[str, Any]) -> None:
    if "command" in state or not units.unit_file(machine, name):
        text = f"[Service]\nExecStart={state.get('command', '/bin/true')}\n[Install]\n"
        machine.files.lay(f"/usr/lib/systemd/system/{name}", text)
    if state.get("enabled"):
        machine.files.link(f"{units.WANTS}/{name}", f"/usr/lib/systemd/system/{name}")
    unit = units.state(machine, name)
    if isinstance(state["active"], str):  # a word of systemd's own
        unit.active = state["active"]
    else:
        unit.active, unit.sub = ("active", "running") if state["active"] else ("inactive", "dead")
    if "started" in state:
        unit.started = machine.now() + state["started"]


def _tell(machine: MemoryMachine, case: dict[str, Any]) -> None:
    """What is known by asking alone."""
    kernel = [f"kernel: {line}" for line in case.get("kernel_log", [])]
    logs = {"--dmesg": _stamped(machine, kernel), "--unit": _stamped(machine, case.get("unit_log", []))}
    if kernel or "unit_log" in case:
        machine.programs["journalctl"] = lambda _machine, call: Answer(logs.get(call.words[0], ""))
    if "nvml" in case:
        _answer_by(machine, case["nvml"])
    for line in case.get("processes", []):
        pid, name, state = line.split(" ")
        machine.files.lay(f"/proc/{pid}/stat", f"{pid} ({name}) {state} 1 1")
    for body in case.get("objects", []):
        assert machine.cluster is not None
        machine.cluster.change(body, "somebody")
    for name, days in case.get("expires", {}).items():
        _let_expire(machine, name, days)


def _stamped(machine: MemoryMachine, lines: list[str]) -> str:
    """A line a second, the last one now; `program: -60 text` is of a minute ago."""
    stamped = []
    for number, line in enumerate(reversed(lines)):
        program, _, text = line.partition(": ")
        first, _, rest = text.partition(" ")
        ago, text = (int(first), rest) if first.startswith("-") and first[1:].isdigit() else (-number, text)
        stamped.append(f"{machine.now() + ago:.6f} {program}: {text}\n")
    return "".join(reversed(stamped))


def _answer_by(machine: MemoryMachine, nvml: dict[str, Any]) -> None:
    if nvml.get("hangs"):
        machine.hangs.add("python3")
        return
    document = (
        {"error": {"name": nvml["error"], "message": nvml["error"]}}
        if "error" in nvml
        else {"cuda_version": "13.0", **nvml}
    )

    def answer(_machine: MemoryMachine, _call: Call) -> Answer:
        return Answer(json.dumps(document))

    machine.programs["python3"] = answer


def _let_expire(machine: MemoryMachine, repository: str, days: int) -> None:
    """Give the key in a repository's keyring a signature by itself that says for how long it is good."""
    entry = situation(machine).catalog.repositories[repository]
    key = machine.files.read(entry.keyring)
    machine.files.lay(entry.keyring, keys.good_until(key, int(machine.now()) + days * DAY))


def found_on(machine: MemoryMachine, profile: dict[str, Any] | None = None) -> dict[str, FindingResult]:
    """What is recognised on the machine, by id."""
    reader = Reader(machine)
    return {finding.id: finding for _step, finding in recognise(reader, situation(machine, profile).context(reader))}


def expected(case: dict[str, Any], folder: Path) -> list[str]:
    """The findings that a case is to have, sorted."""
    present = folder.name.startswith("present")
    return sorted([folder.parent.name] * present + case.get("with", []))


@dataclass(frozen=True)
class Confusion:
    """How one finding does over all cases: hosts that have it and are told so, near misses and other hosts that are told so wrongly."""

    present: int = 0
    recognised: int = 0
    near_misses: int = 0
    wrongly_near: int = 0
    others: int = 0
    wrongly_other: int = 0


def confusion() -> dict[str, Confusion]:
    """Every case looked at, counted by finding."""
    counts: dict[str, Counter[str]] = {each.id: Counter() for each in known()}
    for folder in CASES:
        case = case_of(folder)
        found, wanted = found_on(host_of(case, folder), case.get("profile")), expected(case, folder)
        for name, count in counts.items():
            kind = "present" if name in wanted else "near_misses" if folder.parent.name == name else "others"
            told = {"present": "recognised", "near_misses": "wrongly_near", "others": "wrongly_other"}[kind]
            count[kind] += 1
            count[told] += name in found
    return {name: replace(Confusion(), **count) for name, count in counts.items()}


def confusion_table(table: dict[str, Confusion]) -> str:
    """The counts as tab-separated text, sorted by finding, with a last line for all."""
    names = [field.name for field in fields(Confusion)]
    rows = [[name, *(str(getattr(table[name], each)) for each in names)] for name in sorted(table)]
    rows.append(["all", *(str(sum(getattr(each, name) for each in table.values())) for name in names)])
    return "".join("\t".join(row) + "\n" for row in [["finding", *names], *rows])


def samples() -> list[tuple[str, str, list[str]]]:
    """Texts as people quote them: the failure, the text, the other failures that bring the same about."""
    lines = (LOG / "samples.tsv").read_text("utf-8").splitlines()[1:]
    rows = ((line + "\t").split("\t")[:3] for line in lines)
    return [
        (name, text.replace("\\n", "\n"), [each for each in others.split(", ") if each]) for name, text, others in rows
    ]
