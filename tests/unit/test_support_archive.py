"""The support archive: what whoever helps needs, and no secret of the host's."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from gpunode.engine import support_archive
from gpunode.engine.doctor import doctor
from gpunode.engine.situation import Situation
from gpunode.engine.support_archive import CONTENTS, LARGEST, Piece, pieces
from gpunode.errors import HostError
from gpunode.host.state import RUNS
from gpunode.profile import HostProfile
from gpunode.report.archive import tar_gz
from gpunode.steps import ORDER
from memory import MemoryMachine, gpu_host
from memory.command import Answer

LEAD = 8000
SECRET = "s3cr3tV4lue0123"  # noqa: S105 - it is nobody's
PLANTED = {
    "/etc/gpunode/profile.toml": f'[network]\nproxy = "http://me:{SECRET}@proxy.example:3128"\n',
    "/etc/apt/sources.list.d/own.list": f"deb https://me:{SECRET}@packages.example/debian stable main\n",
    "/etc/apt/apt.conf.d/90proxy": f'Acquire::https::Proxy "http://me:{SECRET}@proxy.example";\n',
    "/etc/docker/daemon.json": json.dumps({"http-proxy": f"http://me:{SECRET}@proxy.example"}),
    "/etc/containerd/conf.d/registry.toml": f'[plugins.cri.registry.configs."a".auth]\n  auth = "{SECRET}"\n',
    "/etc/kubernetes/admin.conf": f"users:\n- user:\n    client-key-data: {SECRET}\n",
    "/var/lib/gpunode/runs/0001.jsonl": f'{{"t":"run","note":"gpunode apply --token {SECRET}"}}\n',
}


def archived(machine: MemoryMachine) -> dict[str, Piece]:
    situation = Situation(machine, HostProfile(), ORDER, "0.1")
    return {piece.name: piece for piece in pieces(situation, doctor(situation))}


@pytest.fixture
def machine() -> MemoryMachine:
    host = gpu_host()
    for path, text in PLANTED.items():
        host.files.lay(path, text)
    host.programs["journalctl"] = lambda _machine, _call: Answer(f"kernel: NVRM: Xid 79\nkubelet: Bearer {SECRET}\n")
    return host


def test_no_secret_of_the_host_is_in_it(machine: MemoryMachine) -> None:
    found = archived(machine)
    assert not [name for name, piece in found.items() if SECRET in piece.text]
    told = {name: piece.removed for name, piece in found.items() if piece.removed}
    assert set(told) >= {f"files{path}" for path in PLANTED if "kubernetes" not in path}
    assert told["commands/kernel-log.txt"] == 1


def test_a_kubeconfig_and_the_store_are_not_in_it_at_all(machine: MemoryMachine) -> None:
    machine.files.lay("/var/lib/gpunode/store/abc", "what a file held")
    assert not [name for name in archived(machine) if "admin.conf" in name or "/store/" in name]


def test_it_lists_what_is_in_it_and_what_is_not(machine: MemoryMachine) -> None:
    machine.programs["modinfo"] = lambda _machine, _call: Answer("", "modinfo: no module nvidia", 1)
    found = archived(machine)
    contents = json.loads(found[CONTENTS].text)
    assert [each["name"] for each in contents["files"]] == [name for name in found if name != CONTENTS]
    assert contents["left out"]["modinfo nvidia"] == "modinfo: no module nvidia"
    assert {"report.json", "facts.json", "commands/dpkg-query.txt", "files/etc/os-release"} <= set(found)
    assert json.loads(found["report.json"].text)["command"] == "doctor"


def test_a_folder_that_may_not_be_listed_is_left_out_by_name(
    machine: MemoryMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = machine.files.names

    def listed(folder: str) -> list[str]:
        if folder == RUNS:
            raise HostError(f"cannot list {folder}: Permission denied")
        return names(folder)

    monkeypatch.setattr(machine.files, "names", listed)
    left_out = json.loads(archived(machine)[CONTENTS].text)["left out"]
    assert left_out[RUNS] == f"cannot list {RUNS}: Permission denied"


@pytest.mark.slow
def test_of_a_long_log_the_end_is_kept(machine: MemoryMachine) -> None:
    machine.files.lay("/var/log/dpkg.log", "old line\n" * (LARGEST // 8) + "newest\n")
    text = archived(machine)["files/var/log/dpkg.log"].text
    assert len(text) <= LARGEST
    assert text.startswith("old line\n")
    assert text.endswith("newest\n")


@pytest.mark.parametrize("before", [0, LEAD], ids=["read whole", "its end read"])
@pytest.mark.parametrize("after", [2600, 3900], ids=["at its beginning", "at its end"])
def test_a_key_in_which_a_long_log_is_cut_gives_nothing_away(
    machine: MemoryMachine, monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    monkeypatch.setattr(support_archive, "LARGEST", 4000)
    monkeypatch.setattr(support_archive, "LEAD", LEAD)
    key = "-----BEGIN PRIVATE KEY-----\n" + f"{SECRET}{SECRET}\n" * 50 + "-----END PRIVATE KEY-----\n"
    machine.files.lay("/var/log/dpkg.log", "old\n" * (before // 4) + key + "line\n" * (after // 5))
    text = archived(machine)["files/var/log/dpkg.log"].text
    assert SECRET not in text
    assert "END PRIVATE KEY" not in text
    assert text.endswith("line\nline\n")


def test_gathering_it_changes_nothing(machine: MemoryMachine) -> None:
    before = dict(machine.files.nodes)
    archived(machine)
    assert machine.files.nodes == before


def test_the_archive_is_root_s_alone() -> None:
    packed = tar_gz("folder", [("a.txt", "ä\n"), ("b/c.txt", "")], now=5)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = {member.name: (member.mode, member.uid, member.size) for member in archive}
    assert members == {"folder/a.txt": (0o600, 0, 3), "folder/b/c.txt": (0o600, 0, 0)}


@pytest.mark.slow
def test_the_command_writes_the_archive_of_a_tree_and_lists_it(tmp_path: Path) -> None:
    root, out = tmp_path / "host", tmp_path / "support.tar.gz"
    (root / "etc/gpunode").mkdir(parents=True)
    (root / "etc/gpunode/profile.toml").write_text(PLANTED["/etc/gpunode/profile.toml"])
    argv = [sys.executable, "-m", "gpunode", "doctor", "--root", str(root), "--bundle", str(out)]
    done = subprocess.run([*argv, "--output", "json"], capture_output=True, text=True, check=False)
    document = json.loads(done.stdout)
    assert out.stat().st_mode & 0o777 == 0o600
    with tarfile.open(out) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
        content = b"".join(file.read() for member in archive if (file := archive.extractfile(member)))
    assert [each["name"] for each in document["archive"]["files"]] == names
    assert document["archive"]["path"] == str(out)
    assert SECRET.encode() not in content
    assert document["unjudged"]
    shown = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    assert "files/etc/gpunode/profile.toml" in shown
    assert "1 secret taken out" in shown
