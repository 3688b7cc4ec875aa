"""CDI: what a specification says, whether it still fits the host, and the resource that has the toolkit's units write it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gpunode.errors import HostError
from gpunode.formats.cdi_spec import CdiSpecification, parse
from gpunode.host import cdi
from gpunode.host.machine import Output
from gpunode.host.reader import Reader
from gpunode.host.trial import Trial
from gpunode.probes.base import Findings, ProbeFailedError
from gpunode.probes.layers import cdi_device, container
from gpunode.resources.cdi import PATH_UNIT, SERVICE, CdiSpec, refusal
from gpunode.steps.base import Context
from memory import MemoryMachine, gpu_host, units
from memory.door import apply, roll_back

LIBRARY = "/usr/lib/x86_64-linux-gnu/libcuda.so"
SPEC = "/var/run/cdi/nvidia.yaml"
WANTED = CdiSpec("containers get their GPUs by it")
TEXT = f"""\
---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
    - name: "0"
      containerEdits:
        deviceNodes:
            - path: /dev/nvidia0
    - name: all
      containerEdits:
        deviceNodes:
            - path: /dev/nvidia0
containerEdits:
    env:
        - NVIDIA_VISIBLE_DEVICES=void
    deviceNodes:
        - path: /dev/nvidiactl
          hostPath: /dev/nvidiactl
    hooks:
        - hookName: createContainer
          path: /usr/bin/nvidia-cdi-hook
          args:
            - nvidia-cdi-hook
            - create-symlinks
            - --link
            - libcuda.so.1::/usr/lib/x86_64-linux-gnu/libcuda.so
    mounts:
        - hostPath: {LIBRARY}.580.159.04
          containerPath: {LIBRARY}.580.159.04
          options:
            - ro
            - bind
"""
PARSED = CdiSpecification(
    "nvidia.com/gpu",
    ("0", "all"),
    ("/dev/nvidia0", "/dev/nvidiactl", "/usr/bin/nvidia-cdi-hook", f"{LIBRARY}.580.159.04"),
    "580.159.04",
)


def node(version: str = "580.159.04") -> MemoryMachine:
    """A host with the driver loaded and the toolkit there, its units as the package leaves them, and no specification."""
    machine = gpu_host()
    line = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build\n"
    machine.files.lay("/proc/driver/nvidia/version", line)
    machine.files.link("/var/run", "/run")
    for path in ("/dev/nvidia0", "/dev/nvidiactl", "/usr/bin/nvidia-cdi-hook", f"{LIBRARY}.{version}"):
        machine.files.lay(path, "")
    for name in (PATH_UNIT, SERVICE):
        machine.files.lay(f"/usr/lib/systemd/system/{name}", "[Unit]\n[Install]\nWantedBy=multi-user.target\n")
    machine.unit_checks[SERVICE] = writing(TEXT.replace("580.159.04", version))
    return machine


def writing(text: str) -> Callable[[MemoryMachine], str]:
    """What the service does when it is started: it writes this text."""

    def service(machine: MemoryMachine) -> str:
        machine.files.lay(SPEC, text)
        return ""

    return service


def converge(machine: MemoryMachine) -> None:
    apply(machine, lambda writer: WANTED.converge(writer, WANTED.observe(writer)))


def differences(machine: MemoryMachine) -> list[tuple[str, str]]:
    return [(each.field, each.found) for each in WANTED.differences(WANTED.observe(Reader(machine)))]


# --- the text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        yaml.safe_dump(yaml.safe_load(TEXT)),
        yaml.safe_dump(yaml.safe_load(TEXT), default_flow_style=True),
        json.dumps(yaml.safe_load(TEXT)),
        json.dumps(yaml.safe_load(TEXT), indent=2),
        "# kind: other.com/gpu\n" + TEXT.replace("\n", "\r\n"),
    ],
    ids=["as nvidia-ctk writes it", "sorted", "flow", "json", "json indented", "crlf and a comment"],
)
def test_a_specification_is_read_in_every_form(text: str) -> None:
    found = parse(text)
    assert found is not None
    assert (found.kind, set(found.devices), set(found.host_paths), found.driver) == (
        PARSED.kind,
        set(PARSED.devices),
        set(PARSED.host_paths),
        PARSED.driver,
    )
    assert found.device == "nvidia.com/gpu=0"


@pytest.mark.parametrize("text", ["", "[]", "cdiVersion: 0.5.0\n", "{", "\x00", "# kind: nvidia.com/gpu\n"])
def test_what_is_no_specification_is_none(text: str) -> None:
    assert parse(text) is None


def test_a_node_counts_by_its_path_on_the_host() -> None:
    text = "kind: nvidia.com/gpu\ndevices:\n- name: '0'\n  containerEdits:\n    deviceNodes:\n"
    found = parse(f"{text}    - path: /dev/nvidia0\n      hostPath: /run/nvidia/driver/dev/nvidia0\n")
    assert found is not None
    assert found.host_paths == ("/run/nvidia/driver/dev/nvidia0",)


@pytest.mark.parametrize(("devices", "device"), [(("GPU-1", "all"), "nvidia.com/gpu=GPU-1"), ((), "")])
def test_the_first_gpu_has_the_name_that_the_specification_gives_it(devices: tuple[str, ...], device: str) -> None:
    assert CdiSpecification("nvidia.com/gpu", devices, (), "").device == device


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,8}", fullmatch=True)
PATHS = st.from_regex(r"/[a-z0-9_.-]{1,8}(/[A-Za-z0-9_.:-]{1,8}){0,3}", fullmatch=True)


@given(st.lists(NAMES, unique=True, max_size=4), st.lists(PATHS, unique=True, max_size=4), st.lists(PATHS, max_size=4))
def test_what_is_written_is_what_is_read(names: list[str], nodes: list[str], mounts: list[str]) -> None:
    edits = {"deviceNodes": [{"path": path, "permissions": "rw"} for path in nodes]}
    document: dict[str, Any] = {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [{"name": name, "containerEdits": edits} for name in names],
        "containerEdits": {
            "mounts": [{"hostPath": path, "containerPath": "/in" + path, "options": ["ro"]} for path in mounts]
        },
    }
    expected = dict.fromkeys((*(nodes if names else ()), *mounts))
    for text in (json.dumps(document), yaml.safe_dump(document), yaml.safe_dump(document, sort_keys=False)):
        found = parse(text)
        assert found is not None
        assert found.devices == tuple(names)
        assert set(found.host_paths) == set(expected)


# --- the host ----------------------------------------------------------------------------------------------------


def test_a_host_without_one() -> None:
    assert cdi.specification(Reader(node())) is None


def test_only_the_kind_of_the_gpus_counts() -> None:
    machine = node()
    machine.files.lay("/var/run/cdi/management.yaml", TEXT.replace("kind: nvidia", "kind: management.nvidia"))
    assert cdi.specification(Reader(machine)) is None


def test_one_that_fits() -> None:
    machine = node()
    machine.files.lay(SPEC, TEXT)
    assert cdi.specification(Reader(machine)) == cdi.FoundSpecification(SPEC, PARSED, ())


def test_the_later_folder_wins() -> None:
    machine = node()
    machine.files.lay("/etc/cdi/nvidia.yaml", TEXT.replace("580.159.04", "580.126.20"))
    machine.files.lay(SPEC, TEXT)
    found = cdi.specification(Reader(machine))
    assert found is not None
    assert (found.path, found.faults) == (SPEC, ())


def test_two_of_one_folder_that_describe_the_same_device_are_a_fault() -> None:
    machine = node()
    machine.files.lay(SPEC, TEXT)
    machine.files.lay("/var/run/cdi/by-hand.json", json.dumps(yaml.safe_load(TEXT)))
    found = cdi.specification(Reader(machine))
    assert found is not None
    assert found.faults == (f"{SPEC} describes nvidia.com/gpu=0 too, and engines then take neither",)


def test_one_of_another_driver_says_which() -> None:
    machine = node("580.178.01")
    machine.files.lay(SPEC, TEXT)
    found = cdi.specification(Reader(machine))
    assert found is not None
    assert found.faults == (
        "it names the libraries of driver 580.159.04, and 580.178.01 is loaded",
        f"it names {LIBRARY}.580.159.04, which is not there",
    )


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ('[nvidia-container-runtime]\nmode = "legacy"\n', "legacy"),
        ('[nvidia-container-runtime]\nlog-level = "info"\n', "auto"),
        ("[nvidia-container-runtime]\nmode = 3\n", "auto"),
        ("", "auto"),
        ("mode = [", ""),
    ],
)
def test_the_toolkits_mode(text: str, mode: str) -> None:
    machine = node()
    machine.files.lay(cdi.TOOLKIT_CONFIG, text)
    assert cdi.toolkit_mode(Reader(machine)) == mode


# --- the resource ------------------------------------------------------------------------------------------------


def test_the_units_are_enabled_and_write_it() -> None:
    machine = node()
    assert differences(machine) == [
        ("specification", "absent"),
        (PATH_UNIT, "disabled"),
        (SERVICE, "disabled"),
    ]

    converge(machine)

    assert units.enabled(machine, PATH_UNIT)
    assert units.enabled(machine, SERVICE)
    assert machine.units[PATH_UNIT].active == "active"
    assert differences(machine) == []


def test_rollback_disables_what_was_not_enabled() -> None:
    machine = node()
    converge(machine)
    roll_back(machine)
    assert not units.enabled(machine, PATH_UNIT)
    assert not units.enabled(machine, SERVICE)
    assert machine.units[PATH_UNIT].active == "inactive"


def test_rollback_leaves_enabled_what_the_package_enabled() -> None:
    machine = node()
    for name in (PATH_UNIT, SERVICE):
        assert machine.run(["systemctl", "enable", name]).ok
    converge(machine)
    roll_back(machine)
    assert units.enabled(machine, PATH_UNIT)
    assert units.enabled(machine, SERVICE)


def test_a_stale_one_is_written_anew() -> None:
    machine = node("580.178.01")
    converge(machine)
    machine.units[SERVICE].active = "inactive"  # it is a oneshot
    machine.files.lay(SPEC, TEXT)
    more = "it names the libraries of driver 580.159.04, and 580.178.01 is loaded (and 1 more)"
    assert differences(machine) == [(SPEC, more)]

    converge(machine)

    assert differences(machine) == []


def test_one_of_the_operators_own_needs_no_units() -> None:
    machine = node()
    machine.files.lay("/etc/cdi/nvidia.yaml", TEXT)
    assert differences(machine) == []


def test_one_that_a_reboot_takes_needs_them() -> None:
    machine = node()
    machine.files.lay(SPEC, TEXT)
    assert differences(machine) == [(PATH_UNIT, "disabled"), (SERVICE, "disabled")]


def test_a_path_unit_that_was_stopped_is_started_again() -> None:
    machine = node()
    converge(machine)
    units.stop(machine, PATH_UNIT)
    machine.units[SERVICE].active = "inactive"
    assert differences(machine) == [(PATH_UNIT, "inactive (dead)")]
    converge(machine)
    assert differences(machine) == []


def without_units() -> MemoryMachine:
    machine = node()
    for name in (PATH_UNIT, SERVICE):
        machine.files.erase(f"/usr/lib/systemd/system/{name}")
    return machine


def test_a_toolkit_without_the_units_is_told_so_with_what_can_be_done() -> None:
    with pytest.raises(HostError, match=f"has no {SERVICE}.*came with 1.18.0") as caught:
        converge(without_units())
    assert "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml" in caught.value.hint
    assert "container_toolkit.version" in refusal("1.17.8")


def test_a_toolkit_without_the_units_and_with_a_specification_is_left_alone() -> None:
    machine = without_units()
    machine.files.lay(SPEC, TEXT)
    assert differences(machine) == []


def complaining(machine: MemoryMachine) -> str:
    machine.units[SERVICE].log.append("condition failed")
    return ""


def test_a_service_that_writes_none_is_shown_with_its_words() -> None:
    machine = node()
    machine.unit_checks[SERVICE] = complaining
    with pytest.raises(HostError, match="there is still no CDI specification") as caught:
        converge(machine)
    assert "condition failed" in caught.value.details


def test_a_service_that_writes_one_that_does_not_fit_is_named() -> None:
    machine = node("580.178.01")
    machine.unit_checks[SERVICE] = writing(TEXT)
    with pytest.raises(HostError, match=f"{SPEC} does not fit the host: it names the libraries of driver 580.159.04"):
        converge(machine)


def test_a_service_that_comes_right_by_itself_is_not_started_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = node()
    for name in (PATH_UNIT, SERVICE):
        assert machine.run(["systemctl", "enable", name]).ok
    units.state(machine, SERVICE).active = "activating"

    def restart_by_itself(_seconds: float) -> None:
        machine.files.lay(SPEC, TEXT)
        machine.units[SERVICE].active = "inactive"

    monkeypatch.setattr(machine, "wait", restart_by_itself)
    converge(machine)
    assert differences(machine) == []
    assert ("systemctl", "start", SERVICE) not in machine.commands


@pytest.mark.parametrize(("active", "waited"), [("failed", True), ("activating", True), ("inactive", False)])
def test_a_service_that_has_failed_is_started_when_systemd_takes_it_again(active: str, waited: bool) -> None:
    machine = node()
    units.state(machine, SERVICE).active = active
    before = machine.now()
    converge(machine)
    assert (machine.now() >= before + 10) == waited
    assert differences(machine) == []


# --- the probe ---------------------------------------------------------------------------------------------------


class Named:
    """An object with these attributes: what of a Context the probe looks at."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def context(containerd: str) -> Context:
    found = Named(
        facts=Named(containerd=containerd, flavour=Named(ctr=("ctr",))),
        catalog=Named(toolkit=Named(runtime="/usr/bin/nvidia-container-runtime")),
        profile=Named(verify=Named(container_image="sample:1", timeout=60)),
    )
    return cast(Context, found)


class RecordingTrial(Trial):
    """A Trial whose containers pass, but for those that are asked for in a way that is broken."""

    def __init__(self, machine: MemoryMachine, broken: str = "") -> None:
        super().__init__(machine)
        self.ways: list[dict[str, str]] = []
        self.broken = broken

    def run_container(
        self, ctr: tuple[str, ...], *, image: str, runtime: str = "", device: str = "", timeout: float
    ) -> Output:
        way = {"runtime": runtime, "device": device}
        self.ways.append(way)
        failed = bool(self.broken and way[self.broken])
        return Output((*ctr, image, str(timeout)), int(failed), "" if failed else "Test PASSED\nDone\n", "its words")


def with_specification(config: str = "") -> MemoryMachine:
    machine = node()
    machine.files.lay(SPEC, TEXT)
    machine.files.lay(cdi.TOOLKIT_CONFIG, config)
    return machine


def test_containerd_2_is_tried_by_both_ways() -> None:
    trial = RecordingTrial(with_specification())
    words = container(trial, context("2.1.9"), Findings())
    assert words == "Test PASSED through the nvidia runtime and by CDI (nvidia.com/gpu=0)"
    assert [way["device"] for way in trial.ways] == ["", "nvidia.com/gpu=0"]


@pytest.mark.parametrize("broken", ["runtime", "device"])
def test_a_failure_says_which_way_it_went(broken: str) -> None:
    way = {"runtime": "through /usr/bin/nvidia-container-runtime", "device": r"by CDI \(nvidia.com/gpu=0\)"}[broken]
    with pytest.raises(ProbeFailedError, match=f"no `Test PASSED` {way} ") as caught:
        container(RecordingTrial(with_specification(), broken), context("2.1.9"), Findings())
    assert caught.value.details == ("its words",)


@pytest.mark.parametrize("release", ["1.7.24", "1.6.20", ""])
def test_older_releases_go_by_the_runtime_alone(release: str) -> None:
    trial = RecordingTrial(with_specification())
    assert container(trial, context(release), Findings()) == "Test PASSED through the nvidia runtime"
    assert len(trial.ways) == 1


def test_legacy_mode_goes_by_the_runtime_alone() -> None:
    machine = with_specification('[nvidia-container-runtime]\nmode = "legacy"\n')
    assert cdi_device(RecordingTrial(machine), context("2.1.9")) == ""


def test_without_a_specification_it_goes_by_the_runtime_alone() -> None:
    assert cdi_device(RecordingTrial(node()), context("2.1.9")) == ""


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ({"device": "nvidia.com/gpu=0"}, ("--device=nvidia.com/gpu=0",)),
        ({"runtime": "/bin/nv"}, ("--runc-binary=/bin/nv", "--env=NVIDIA_VISIBLE_DEVICES=all")),
    ],
)
def test_a_container_is_given_gpus_by_its_way_and_taken_away(way: dict[str, str], words: tuple[str, ...]) -> None:
    machine = node()
    trial = Trial(machine)
    trial.run_container(("ctr",), image="sample:1", timeout=5, **way)
    run = next(argv for argv in machine.commands if argv[1] == "run")
    assert run == ("ctr", "run", "--rm", *words, "sample:1", run[-1])
    assert ("ctr", "containers", "rm", run[-1]) in machine.commands
