"""check, plan and doctor watched by strace on a booted host: nothing is written, nothing is changed; and they end when things hang.

What hangs is emulated: a stopped PID 1 is a systemd that does not answer, a stopped server a dead API, a pipe that nobody
writes to a file on a mount that hangs (its reader blocks in the kernel, though unlike NFS's it could be woken).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpunode.host.queries import is_read_only
from gpunode.lab.host import ENVIRONMENT, LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node

WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND")
CHANGING = (
    *("creat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "link", "linkat"),
    *(
        "symlink",
        "symlinkat",
        "mknod",
        "mknodat",
        "chmod",
        "fchmod",
        "fchmodat",
        "chown",
        "fchown",
        "lchown",
        "fchownat",
    ),
    *("truncate", "ftruncate", "utime", "utimes", "utimensat", "futimesat", "setxattr", "lsetxattr", "fsetxattr"),
    *("removexattr", "mount", "umount2", "init_module", "finit_module", "delete_module", "reboot", "sethostname"),
)
CACHE = "/run/gpunode/kubectl"
"""Where kubectl keeps what it learned of the API: on a tmpfs, and gone with the boot."""
OWN = ("/dev/null", "/dev/tty", "/proc/self/fd/", f"{CACHE}/")
CALL = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
DRIFT = "rm /etc/profile.d/cuda.sh; apt-mark unhold nvidia-open >/dev/null; : > /etc/modprobe.d/gpunode-nouveau.conf"
TIMES = (
    "find / -xdev ! -path '/var/log/*' ! -path '/run/gpunode/*' ! -path '/tmp*' -printf '%p %T@ %C@ %i %s %m %U\\n'"
    " 2>/dev/null | sort"
)


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    with create_node("read-only") as host:
        host.boot()
        host.run("gpunode", "init")
        host.run("gpunode", "apply", "--yes", timeout=600)
        yield host


@pytest.fixture(scope="module", params=["converged", "drifted"])
def state(request: pytest.FixtureRequest, host: LabHost) -> str:
    if request.param == "drifted":
        host.shell(DRIFT)
    return str(request.param)


def watched(host: LabHost, trace: Path, *words: str) -> list[str]:
    """Run a command on the host under strace, and return what it and its children asked of the kernel."""
    kept = "execve,open,openat,openat2," + ",".join(f"?{name}" for name in CHANGING)
    strace = ["strace", "-f", "-y", "-s", "4096", "-e", f"trace={kept}", "-o", str(trace)]
    subprocess.run([*strace, *host.command(*words)], env=ENVIRONMENT, capture_output=True, check=False, timeout=300)
    return trace.read_text(errors="replace").splitlines()


def changes(calls: list[str]) -> list[str]:
    """The calls that succeeded and opened a file for writing, or changed something, outside of OWN."""
    found = []
    for line in calls:
        call = CALL.match(line)
        if call is None or int(call[4]) < 0:
            continue
        writes = call[2] in CHANGING or (call[2].startswith("open") and WRITING.search(call[3]))
        paths = re.findall(r'"(/[^"]*)"|<(/[^>]*)>', call[3])
        named = [one or other for one, other in paths]
        if writes and not (named and all(f"{path}/".startswith(OWN) or path.startswith(OWN) for path in named)):
            found.append(line)
    return found


def commands(calls: list[str]) -> list[list[str]]:
    """The programs that gpunode ran, as they were called."""
    found = [re.search(r"execve\(\"[^\"]*\", (\[.*?\]), 0x.* = 0$", line) for line in calls]
    words = [json.loads(re.sub(r"\\(?![\"\\n])", r"\\\\", each[1])) for each in found if each]
    return [each for each in words if each[0].rpartition("/")[2] not in ("nsenter", "gpunode", "check")]


@pytest.mark.parametrize("command", ["check", "plan", "doctor"])
def test_nothing_is_written_and_nothing_is_changed(host: LabHost, state: str, tmp_path: Path, command: str) -> None:
    before, times = Snapshot.take(host), host.shell(TIMES).stdout
    calls = watched(host, tmp_path / "trace", "gpunode", command)

    assert any("execve" in line and "gpunode" in line for line in calls), "strace saw nothing"
    assert changes(calls) == [], state
    ran = [words for words in commands(calls) if "gpunode.probes.nvml" not in words]
    assert ran
    assert [words for words in ran if not is_read_only(words)] == []
    assert host.shell(TIMES).stdout == times
    difference = Snapshot.compare(before, Snapshot.take(host))
    assert not difference, report(difference)


def test_the_watch_sees_a_write(host: LabHost, tmp_path: Path) -> None:
    calls = watched(host, tmp_path / "trace", "sh", "-c", "echo x > /root/written; rm /root/written")
    assert len(changes(calls)) == 2


def checked(host: LabHost) -> tuple[dict[str, object], float]:
    """check's document, and the seconds that it took."""
    began = time.monotonic()
    done = host.run("gpunode", "check", "--output", "json", check=False, timeout=120)
    document: dict[str, object] = json.loads(done.stdout)
    return document, time.monotonic() - began


def test_a_systemd_that_does_not_answer(host: LabHost) -> None:
    leader = host._find_leader()
    os.kill(leader, signal.SIGSTOP)
    try:
        document, seconds = checked(host)
    finally:
        os.kill(leader, signal.SIGCONT)
    assert seconds < 45
    assert "did not answer in 10 s" in str(document)
    assert document["result"] != "in-sync"


def test_an_api_server_that_does_not_answer(host: LabHost) -> None:
    host.run("systemctl", "kill", "--signal=STOP", "lab-apiserver.service")
    try:
        document, seconds = checked(host)
    finally:
        host.run("systemctl", "kill", "--signal=CONT", "lab-apiserver.service")
    assert seconds < 60
    assert document["result"] == "failed"
    assert "kubectl" in str(document["error"])


def test_a_file_on_a_mount_that_hangs(host: LabHost) -> None:
    host.shell("rm -f /etc/profile.d/cuda.sh; mkfifo /etc/profile.d/cuda.sh")
    try:
        document, seconds = checked(host)
    finally:
        host.run("rm", "/etc/profile.d/cuda.sh")
    assert 55 < seconds < 75
    assert "/etc/profile.d/cuda.sh does not answer" in str(document["error"])


def test_a_full_disk_where_temporary_files_lie(host: LabHost) -> None:
    host.shell(
        "mkdir -p /run/full; mount -t tmpfs -o size=64k tmpfs /run/full; dd if=/dev/zero of=/run/full/x 2>/dev/null || true"
    )
    host.shell("mount --bind /run/full /tmp; mount --bind /run/full /var/lib/gpunode/downloads")
    try:
        assert checked(host)[0]["result"] == "drift"
    finally:
        host.shell("umount /tmp /var/lib/gpunode/downloads; umount /run/full")
