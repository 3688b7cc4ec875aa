"""Configurations that containerd's step cannot or must not work with, on one real host: a clear line, and nothing changed."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from gpunode.lab.host import ENVIRONMENT, LabHost
from gpunode.lab.node import create_node

PROFILE = """\
[driver]
source = "preinstalled"
[kubernetes]
flavour = "plain"
[device_plugin]
mode = "none"
[verify]
level = "host"
"""
CONFIG = "/etc/containerd/config.toml"
APPLY = ("gpunode", "apply", "--step=containerd")
# What there is, contents and times of files; the daemon by its pid. A journal's run is no change of the host.
STATE = """\
find /etc /srv/theirs -mindepth 1 -type d -printf '%p %m %U\\n' -o -printf '%p %y %m %U %T@ %l\\n' 2>/dev/null | sort
find /etc/containerd /srv/theirs -type f -exec sha256sum {} + 2>/dev/null | sort
systemctl show --property=MainPID,ActiveState containerd
"""
# `chattr` with this flag (0: none), which a small host does not have: FS_IOC_SETFLAGS, FS_IMMUTABLE_FL.
CHATTR = """
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[2], os.O_RDONLY), 0x40086602, struct.pack("l", int(sys.argv[1], 0)))
"""
IMMUTABLE = "0x10"
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    """A host that lacks nothing but the nvidia runtime in containerd's configuration."""
    with create_node("engine-bad-input", cluster=False, driver="580.126.20") as host:
        host.boot()
        host.write("/etc/gpunode/profile.toml", PROFILE)
        host.run("gpunode", "apply", "--yes", "--step=container_toolkit", timeout=300)
        yield host


@pytest.fixture
def good(host: LabHost) -> Iterator[str]:
    """The configuration as the distribution has it, which is there again afterwards and which the daemon runs with."""
    text = host.read(CONFIG)
    yield text
    host.shell(f"umount -q /etc/containerd || true; rm -rf {CONFIG}")
    host.shell("rm -rf /etc/containerd/conf.d /srv/site /srv/theirs")
    host.write(CONFIG, text)
    host.run(
        "systemctl", "reset-failed", "containerd"
    )  # restarts by many tests within seconds are none of a daemon's faults
    host.run("systemctl", "start", "containerd")


def state(host: LabHost) -> str:
    return host.run("sh", "-c", STATE).stdout


def apply(host: LabHost) -> Done:
    return host.run(*APPLY, "--yes", check=False, timeout=120)


def refused(host: LabHost, *words: str) -> None:
    """gpunode says in its first line what is wrong, and the host is as it was."""
    before = state(host)
    done = apply(host)
    assert done.returncode == 1, done.stdout + done.stderr
    first = done.stderr.splitlines()[0]
    assert first.startswith("gpunode: ")
    assert all(word in first for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert state(host).splitlines() == before.splitlines()


def raw(host: LabHost, content: bytes, path: str = CONFIG) -> None:
    """Write bytes that no text file of the lab's could hold."""
    subprocess.run(host.command("sh", "-c", f"cat > {path}"), input=content, check=True)


def test_text_that_is_no_toml_is_named_with_line_and_column(host: LabHost, good: str) -> None:
    host.write(CONFIG, good.replace("[plugins]", "[plugins"))
    line = good.splitlines().index("[plugins]") + 1
    refused(host, f"{CONFIG}: line {line}, column 9")


def test_bytes_that_are_no_utf8_are_named_with_their_line(host: LabHost, good: str) -> None:
    raw(host, good.encode() + b"# K\xfchlung\n")
    refused(host, f"{CONFIG} line {len(good.splitlines()) + 1}: not UTF-8 (byte 0xfc)")


def test_a_file_of_five_megabytes_is_no_configuration(host: LabHost, good: str) -> None:
    raw(host, good.encode() + b"# filler\n" * (5 * (1 << 20) // 9))
    refused(host, CONFIG, "5.0 MiB")


@pytest.mark.usefixtures("good")
def test_a_directory_in_its_place(host: LabHost) -> None:
    host.shell(f"rm {CONFIG}; mkdir {CONFIG}")
    refused(host, f"{CONFIG} is a directory")


def test_an_import_that_is_not_there_is_named(host: LabHost, good: str) -> None:
    host.write(CONFIG, f'imports = ["/etc/containerd/site.toml"]\n{good}')
    refused(host, f"{CONFIG} imports /etc/containerd/site.toml, which is not there")


def test_an_import_that_matches_nothing_is_in_nobodys_way(host: LabHost, good: str) -> None:
    host.write(CONFIG, f'imports = ["/etc/containerd/conf.d/*.toml"]\n{good}')
    before = host.read(CONFIG)
    assert apply(host).returncode == 0
    assert "nvidia" in host.read(CONFIG)
    host.run("gpunode", "rollback", "--yes", "--step=containerd")
    assert host.read(CONFIG) == before


def test_a_link_to_a_place_of_roots_is_followed_and_kept(host: LabHost, good: str) -> None:
    host.write("/srv/site/containerd.toml", good)
    host.run("ln", "-sfn", "/srv/site/containerd.toml", CONFIG)
    assert apply(host).returncode == 0
    assert host.run("readlink", CONFIG).stdout.strip() == "/srv/site/containerd.toml"
    assert "nvidia" in host.read("/srv/site/containerd.toml")
    host.run("gpunode", "rollback", "--yes", "--step=containerd")
    assert host.run("readlink", CONFIG).stdout.strip() == "/srv/site/containerd.toml"
    assert host.read("/srv/site/containerd.toml") == good


@pytest.mark.parametrize("making", ["chmod 777 /srv/theirs", "chown nobody /srv/theirs"])
def test_a_link_to_a_place_that_others_can_write_is_not_followed(host: LabHost, good: str, making: str) -> None:
    host.write("/srv/theirs/containerd.toml", good)
    host.run("sh", "-c", making)
    host.run("ln", "-sfn", "/srv/theirs/containerd.toml", CONFIG)
    refused(host, "leads to /srv/theirs/containerd.toml", "below /srv/theirs, where others than root can write")


@pytest.mark.usefixtures("good")
def test_an_immutable_file(host: LabHost) -> None:
    host.run("python3", "-c", CHATTR, IMMUTABLE, CONFIG)
    try:
        refused(host, CONFIG, "Operation not permitted")
    finally:
        host.run("python3", "-c", CHATTR, "0", CONFIG)


def test_a_full_disk(host: LabHost, good: str) -> None:
    host.shell("mount -t tmpfs -o size=64k,mode=755 tmpfs /etc/containerd")
    host.write(CONFIG, good)
    host.shell("cat /dev/zero > /etc/containerd/filler 2>/dev/null || true")
    refused(host, "No space left on device")


def test_a_file_that_changed_between_the_plan_and_the_yes(host: LabHost, good: str) -> None:
    edited = good.replace('"/usr/lib/cni"', '"/opt/cni/bin"')
    told = apply_at_a_terminal(host, lambda: host.write(CONFIG, edited))
    assert "has changed since the plan was made; nothing was changed" in told
    assert '"/opt/cni/bin"' in told  # the difference as it is now
    assert host.read(CONFIG) == edited


@pytest.mark.usefixtures("good")
def test_a_file_that_did_not_change_between_them(host: LabHost) -> None:
    told = apply_at_a_terminal(host, lambda: None)
    assert "Done:" in told
    host.run("gpunode", "rollback", "--yes", "--step=containerd")


def apply_at_a_terminal(host: LabHost, meanwhile: Callable[[], None]) -> str:
    """Run apply with a terminal, do something while it asks, then say yes; returns all that was shown."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            host.command(*APPLY, "--color=never"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "300"},
            start_new_session=True,
        )
        os.close(theirs)
        told = _until(ours, "Apply these changes?")
        meanwhile()
        os.write(ours, b"y\n")
        told += _until(ours)
        process.wait(60)
    finally:
        os.close(ours)
    return told


def _until(terminal: int, words: str | None = None) -> str:
    """What the terminal shows until these words, or to its end."""
    told, deadline = b"", time.monotonic() + 60
    while words is None or words.encode() not in told:
        assert time.monotonic() < deadline, told.decode(errors="replace")
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            told += os.read(terminal, 65536)
        except OSError:  # the last of its users has closed it
            break
    return told.decode(errors="replace")
