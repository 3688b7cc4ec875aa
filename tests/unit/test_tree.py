"""A host's files below a folder: seen as the host would see them, and no further; what files do not tell is said to be unknown."""

from __future__ import annotations

import os
from pathlib import Path

import findings_cases as cases
import pytest

from gpunode.engine.doctor import doctor, doctor_of_tree, verdict
from gpunode.engine.results import Report
from gpunode.engine.situation import Situation
from gpunode.errors import HostError, UsageError
from gpunode.host.reader import Reader
from gpunode.host.tree import MOUNTS, TreeMachine
from gpunode.profile import HostProfile
from gpunode.steps import ORDER
from memory import MemoryMachine
from memory.command import Answer, Call

KEPT = "dpkg-query"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The least that a host has."""
    host = tmp_path / "host"
    (host / "etc").mkdir(parents=True)
    (host / "usr/lib").mkdir(parents=True)
    (host / "usr/lib/os-release").write_text('ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian 13"\n')
    (host / "etc/os-release").symlink_to("/usr/lib/os-release")
    (tmp_path / "outside").write_text("not of this host")
    return host


def lay_out(machine: MemoryMachine, root: Path) -> None:
    """A machine's files on the disk."""
    for path, node in sorted(machine.files.nodes.items()):
        place = Path(f"{root}{path}")
        if node.kind == "directory":
            place.mkdir(parents=True, exist_ok=True)
        elif node.kind == "link":
            place.symlink_to(node.target)
        else:
            place.write_bytes(node.content)
            os.utime(place, (node.mtime, node.mtime))


def silenced(machine: MemoryMachine, missing: tuple[str, ...]) -> MemoryMachine:
    """The same files without what is missing, on a machine that runs nothing but a look at dpkg's database."""

    def silent(_machine: MemoryMachine, _call: Call) -> Answer:
        return Answer("", "no such command", 127)

    other = machine.copy()
    other.programs = {name: program if name == KEPT else silent for name, program in machine.programs.items()}
    for folder in missing:
        other.files.erase(folder)
    return other


def ids(report: Report) -> set[str]:
    return {finding.id for step in report.steps for finding in step.findings}


# --- files as the host sees them


def test_a_link_of_the_tree_leads_to_a_place_in_the_tree(root: Path) -> None:
    (root / "etc/real").write_text("inside")
    (root / "etc/absolute").symlink_to("/etc/real")
    (root / "usr/lib/up").symlink_to("../../../../../etc/real")
    machine = TreeMachine(str(root))
    assert machine.read("/etc/absolute") == machine.read("/usr/lib/up") == b"inside"
    assert machine.realpath("/etc/absolute") == "/etc/real"


@pytest.mark.parametrize("target", ["../../outside", "/../outside", "{outside}"])
def test_no_link_leads_out_of_the_tree(root: Path, target: str) -> None:
    (root / "etc/out").symlink_to(target.format(outside=root.parent / "outside"))
    (root / "etc/folder").symlink_to(str(root.parent))
    reader = Reader(TreeMachine(str(root)))
    assert reader.read("/etc/out") is None
    assert reader.read("/etc/folder/outside") is None
    assert reader.listdir("/etc/folder") == []
    assert not reader.exists("/etc/out")


def test_links_that_lead_to_one_another_are_an_error_and_no_hang(root: Path) -> None:
    (root / "etc/a").symlink_to("b")
    (root / "etc/b").symlink_to("/etc/a")
    with pytest.raises(HostError, match="too many links"):
        Reader(TreeMachine(str(root))).read("/etc/a")


def test_a_pipe_in_the_tree_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "etc/pipe")
    with pytest.raises(HostError, match="not a regular file"):
        Reader(TreeMachine(str(root))).read("/etc/pipe")


def test_the_tree_says_what_it_is(root: Path) -> None:
    for release in ("6.9.10-amd64", "6.12.3-amd64"):
        (root / "lib/modules" / release).mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "bin/sh").write_bytes(b"\x7fELF" + bytes(14) + b"\xb7\x00" + bytes(40))
    machine = TreeMachine(str(root))
    assert machine.os_release()["id"] == "debian"
    assert machine.architecture() == "aarch64"
    assert machine.kernel_release() == "6.12.3-amd64"
    assert machine.unseen() == tuple(MOUNTS)


def test_a_tree_that_does_not_say_what_it_is_is_not_taken_for_the_host_we_are_on(root: Path) -> None:
    (root / "etc/os-release").unlink()
    (root / "usr/lib/os-release").unlink()
    machine = TreeMachine(str(root))
    assert machine.os_release() == {}
    assert doctor_of_tree(Situation(machine, HostProfile(), ORDER, "0"), machine.unseen()).result in (
        "in-sync",
        "drift",
    )


def test_nothing_is_run_and_nothing_is_written(root: Path) -> None:
    machine = TreeMachine(str(root))
    assert machine.run(["systemctl", "show"]).returncode == 127
    with pytest.raises(HostError, match="only looked at"):
        machine.append_durably("/etc/x", b"")
    assert not (root / "etc/x").exists()


def test_packages_are_those_of_the_tree(root: Path) -> None:
    dpkg = root / "var/lib/dpkg"
    dpkg.mkdir(parents=True)
    fields = {"Package": "nvidia-open", "Status": "install ok installed", "Architecture": "all", "Version": "1-2"}
    fields |= {"Maintainer": "x <x@y>", "Description": "z"}
    (dpkg / "status").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    output = TreeMachine(str(root)).run([KEPT, "--show", "--showformat=${Package} ${Version}\\n"])
    assert (output.stdout, output.returncode) == ("nvidia-open 1-2\n", 0)


@pytest.mark.parametrize("name", ["missing", "outside", "host/usr"])
def test_what_is_no_root_of_a_host_is_refused(root: Path, name: str) -> None:
    with pytest.raises(UsageError):
        TreeMachine(str(root.parent / name))


# --- what doctor makes of them


def test_files_that_prove_a_failure_prove_it_on_the_disk_too(tmp_path: Path) -> None:
    folder = cases.FOLDER / "toolkit-no-cgroups" / "present"
    lay_out(cases.host_of(cases.case_of(folder), folder), tmp_path)
    machine = TreeMachine(str(tmp_path))
    report = doctor_of_tree(Situation(machine, HostProfile(), ORDER, "0"), machine.unseen())
    assert "toolkit-no-cgroups" in ids(report)
    assert report.exit_code == 3


def test_an_unpacked_tree_is_never_said_to_be_well(root: Path) -> None:
    machine = TreeMachine(str(root))
    report = doctor_of_tree(Situation(machine, HostProfile(), ORDER, "0"), machine.unseen())
    assert {"xid", "driver-not-loaded", "engine-stopped", "nvml-hangs"} <= set(report.unjudged)
    assert {layer.state for layer in report.layers if layer.name in ("PCI", "module", "engine")} == {"unknown"}
    assert verdict(report) == "" or "PCI" not in verdict(report)
    assert f"{len(report.unjudged)} of" in report.warnings[0]
    assert "/proc" in report.warnings[0]


@pytest.mark.slow
@pytest.mark.parametrize("missing", [(), tuple(MOUNTS)], ids=["mounted", "unpacked"])
@pytest.mark.parametrize("folder", cases.CASES, ids=lambda folder: "-".join(folder.parts[-2:]))
def test_files_alone_accuse_nobody_wrongly_and_acquit_nobody(folder: Path, missing: tuple[str, ...]) -> None:
    """Of every case: what files show is there to a full look too, and what a full look shows is shown or left open."""
    case = cases.case_of(folder)
    machine = cases.host_of(case, folder)
    full = doctor(cases.situation(machine, case.get("profile")))
    alone = doctor_of_tree(cases.situation(silenced(machine, missing), case.get("profile")), missing)
    assert ids(alone) <= ids(full)
    assert ids(full) <= ids(alone) | set(alone.unjudged)
    assert not ids(alone) & set(alone.unjudged)
    states = {layer.name: layer.state for layer in full.layers}
    assert all(layer.state in ("unknown", states[layer.name]) for layer in alone.layers)
