"""A lab host is a real host: it boots, runs containers, reboots, loses power; and a snapshot sees every change to it."""

import hashlib
import io
import json
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpunode.lab import LabError, layers
from gpunode.lab.host import LabHost, hosts
from gpunode.lab.machine import is_mounted
from gpunode.lab.manifest import Change, Snapshot, report

NAME = "test-lab-host"


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    base = layers.base()
    with LabHost.create(NAME, layers=[base, layers.warm(base, layers.FRESH)]) as made:
        made.boot()
        yield made


@pytest.fixture(scope="module")
def before(host: LabHost) -> Snapshot:
    return Snapshot.take(host)


def test_systemd_runs_and_the_clean_host_survives_a_reboot_unchanged(host: LabHost, before: Snapshot) -> None:
    assert host.state() == "running"
    first = host.read("/proc/sys/kernel/random/boot_id")
    host.reboot()
    assert host.state() == "running"
    assert host.read("/proc/sys/kernel/random/boot_id") != first
    assert report(Snapshot.compare(before, Snapshot.take(host))) == "no change"


def test_commands_see_a_login_environment(host: LabHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_SECRET", "1")
    seen = host.run("env", env={"EXTRA": "2"}).stdout
    assert "LAB_SECRET" not in seen
    assert "EXTRA=2" in seen
    assert "TERM=" not in seen
    assert host.run("hostname").stdout.strip() == NAME
    assert host.run("getent", "hosts", NAME).stdout.split()[0] == host.address


def test_status_output_and_input_come_through(host: LabHost) -> None:
    assert host.run("cat", input="ein Wort\n").stdout == "ein Wort\n"
    assert host.shell("echo to-stderr >&2; exit 7", check=False).returncode == 7
    with pytest.raises(LabError, match="exited 7: to-stderr"):
        host.shell("echo to-stderr >&2; exit 7")
    with pytest.raises(LabError, match="did not finish within 1 s"):
        host.run("sleep", "4321", timeout=1)
    assert _ended(host, "sleep 4321")


def _ended(host: LabHost, command: str) -> bool:
    """Say whether no such process is left; a killed one may be a zombie for a moment."""
    for _ in range(20):
        if host.run("pgrep", "--full", "--exact", command, check=False).returncode != 0:
            return True
        time.sleep(0.1)
    return False


def test_killing_a_background_command_kills_it_and_not_its_children(host: LabHost) -> None:
    process = host.popen("sh", "-c", "echo started; sleep 5432; echo never")
    while "started" not in process.output():
        time.sleep(0.02)
    process.kill()
    assert process.wait(timeout=5) == -signal.SIGKILL
    assert host.run("pkill", "--full", "--exact", "sleep 5432", check=False).returncode == 0
    assert process.output() == "started\n"


def test_files(host: LabHost) -> None:
    host.write("/run/some where/file", "ä\n", mode=0o640)
    assert host.read("/run/some where/file") == "ä\n"
    assert host.run("stat", "-c", "%a %U", "/run/some where/file").stdout == "640 root\n"
    with pytest.raises(LabError, match="No such file"):
        host.read("/run/none")


def test_a_container_runs(host: LabHost, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    _image(archive, tmp_path)
    host.run("mkdir", "-p", "/run/images")
    leader = host.command()[2]  # nsenter -t PID: a binary file goes in by the host's own root
    Path(f"/proc/{leader}/root/run/images/hello.tar").write_bytes(archive.read_bytes())
    host.run("ctr", "images", "import", "/run/images/hello.tar")
    assert host.run("ctr", "run", "--rm", "lab.local/hello:1", "one", "/hello").stdout == "hello from a container\n"
    host.run("ctr", "images", "rm", "lab.local/hello:1")


def _image(archive: Path, scratch: Path) -> None:
    """Write an image with one static program in it."""
    (scratch / "hello.c").write_text(
        '#include <stdio.h>\nint main(void) { puts("hello from a container"); return 0; }\n'
    )
    subprocess.run(["gcc", "-static", "-o", scratch / "hello", scratch / "hello.c"], check=True)
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(scratch / "hello", "hello")
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
    config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{_sha256(layer.getvalue())}"]}
    manifest = [{"Config": "config.json", "RepoTags": ["lab.local/hello:1"], "Layers": ["layer.tar"]}]
    parts = {
        "layer.tar": layer.getvalue(),
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(archive, "w") as tar:
        for name, content in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# One way to change a host, the way back, and how the change reads.
CHANGES = [
    ("sed -i s/Debian/debian/ /etc/issue", "sed -i s/debian/Debian/ /etc/issue", "file /etc/issue: content"),
    ("chmod 600 /etc/issue", "chmod 644 /etc/issue", "file /etc/issue: mode 0644 → 0600"),
    ("chown 1 /etc/issue", "chown 0 /etc/issue", "file /etc/issue: owner 0:0 → 1:0"),
    ("touch /etc/new", "rm /etc/new", "file /etc/new: added"),
    ("rmdir /usr/local/games", "install -d /usr/local/games", "file /usr/local/games: removed"),
    ("ln -sfn /etc /etc/rmt", "ln -sfn /usr/sbin/rmt /etc/rmt", "file /etc/rmt: target /usr/sbin/rmt → /etc"),
    (
        'python3 -c \'import os; os.setxattr("/etc/issue", "user.x", b"1")\'',
        'python3 -c \'import os; os.removexattr("/etc/issue", "user.x")\'',
        "file /etc/issue: xattr user.x none → 31",
    ),
    ("apt-mark hold runc", "apt-mark unhold runc", "package runc:amd64: state ii → hi"),
    ("apt-mark manual libseccomp2", "apt-mark auto libseccomp2", "package libseccomp2:amd64: mark auto → manual"),
    (
        "systemctl enable console-getty.service",
        "systemctl disable console-getty.service",
        "unit console-getty.service: enabled enabled-runtime → enabled",
    ),
    ("systemctl stop containerd", "systemctl start containerd", "unit containerd.service: active active → none"),
    ("mount -t tmpfs none /sys/module; mkdir /sys/module/nvidia", "umount /sys/module", "module nvidia: added"),
]


@pytest.mark.parametrize(("change", "back", "expected"), CHANGES, ids=[case[2] for case in CHANGES])
def test_a_snapshot_sees(host: LabHost, before: Snapshot, change: str, back: str, expected: str) -> None:
    host.shell(change)
    try:
        seen = report(Snapshot.compare(before, Snapshot.take(host)))
    finally:
        host.shell(back)
    assert expected in seen


def test_what_was_put_back_is_no_change(host: LabHost, before: Snapshot) -> None:
    assert report(Snapshot.compare(before, Snapshot.take(host))) == "no change"


def test_installing_and_purging_a_package_is_seen(host: LabHost, before: Snapshot) -> None:
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    host.run("apt-get", "--yes", "install", "make", env=quiet)
    changes = Snapshot.compare(before, Snapshot.take(host))
    assert [c for c in changes if c.section == "package"] == [
        Change("package", "make:amd64", None, {"version": "4.4.1-2", "state": "ii", "mark": "manual"})
    ]
    host.run("apt-get", "--yes", "purge", "make", env=quiet)
    assert report(Snapshot.compare(before, Snapshot.take(host))) == "no change"


def test_power_cut_keeps_files_and_the_host_boots_again(host: LabHost) -> None:
    host.write("/etc/kept", "still here\n")
    host.popen("sleep", "6543")
    host.power_cut()
    assert not host.is_up()
    with pytest.raises(LabError, match="is down"):
        host.run("true")
    assert host.read("/etc/kept") == "still here\n"
    host.boot()
    assert host.state() == "running"
    assert host.read("/etc/kept") == "still here\n"
    assert _ended(host, "sleep 6543")
    host.run("rm", "/etc/kept")


def test_another_process_finds_the_host(host: LabHost) -> None:
    again = LabHost.open(NAME)
    assert again.run("hostname").stdout == f"{NAME}\n"
    assert again.address == host.address
    assert NAME in [one.name for one in hosts()]


def test_a_stale_host_is_replaced_and_destroyed_without_a_trace() -> None:
    seen: list[str] = []
    stale = LabHost.create(f"{NAME}-2", layers=[layers.base()])
    stale.boot()  # and its maker is gone, so far as `create` knows
    leader = int(stale.command()[2])

    def prepare(root: Path, address: str) -> None:
        seen.append(address)
        (root / "etc/prepared").write_text(address)

    with LabHost.create(f"{NAME}-2", layers=[layers.base()], prepare=[prepare]) as fresh:
        assert not Path(f"/proc/{leader}/root/etc").exists()
        assert fresh.read("/etc/prepared") == fresh.address == seen[0]
        assert fresh.address not in [one.address for one in hosts() if one.name != fresh.name]
    assert not is_mounted(fresh.root)
    assert not fresh.folder.exists()
    with pytest.raises(LabError, match="there is no lab host"):
        LabHost.open(fresh.name)


def test_a_name_cannot_lead_out_of_the_lab() -> None:
    with pytest.raises(LabError, match="is no host name"):
        LabHost.remove("../hosts")


def test_a_failed_boot_shows_the_console() -> None:
    def break_init(root: Path, _: str) -> None:
        init = root / "usr/sbin/init"
        init.unlink()
        init.write_text("#!/bin/sh\necho no init today\nexit 1\n")
        init.chmod(0o755)
        (root / "usr/lib/systemd/systemd").unlink()

    with (
        LabHost.create(f"{NAME}-3", layers=[layers.base()], prepare=[break_init]) as broken,
        pytest.raises(LabError, match="no init today"),
    ):
        broken.boot(timeout=20)
