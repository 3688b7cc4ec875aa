"""What goes wrong around an apply on a real host: one clear line, nothing half-done, and a clean second try."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node
from lab.commands import restart

PROFILE = """\
[driver]
branch = "580"
[cuda]
version = "13.0"
[kubernetes]
flavour = "none"
[device_plugin]
mode = "none"
[verify]
level = "container"
"""
CONFIG = "/etc/containerd/config.toml"
HOLD_LOCK = """\
import fcntl, time
lock = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
time.sleep(20)
"""
FAULTS = "/srv/lab-mirror/faults.toml"
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    with create_node("faults") as host:
        host.boot()
        host.write("/etc/gpunode/profile.toml", PROFILE)
        host.run("apt-get", "update", "-qq")
        yield host


@pytest.fixture
def before(host: LabHost) -> Iterator[Snapshot]:
    """The host before the test; afterwards it is taken back, and must be the same again."""
    snapshot = Snapshot.take(host)
    yield snapshot
    host.run("gpunode", "rollback", "--yes", "--force", check=False, timeout=300)
    changes = Snapshot.compare(snapshot, Snapshot.take(host))
    assert not changes, report(changes)


def gpunode(host: LabHost, *words: str) -> Done:
    return host.run("gpunode", *words, check=False, timeout=300)


def refused(done: Done, exits: int, words: str) -> None:
    """One clear line that begins the error, and never a traceback."""
    assert done.returncode == exits, done.stdout + done.stderr
    first = done.stderr.splitlines()[0]
    assert first.startswith("gpunode: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def unchanged(host: LabHost, before: Snapshot) -> None:
    changes = Snapshot.compare(before, Snapshot.take(host))
    assert not changes, report(changes)


@pytest.mark.usefixtures("before")
def test_without_root_nothing_is_changed_and_plan_still_works(host: LabHost) -> None:
    nobody = ("runuser", "-u", "nobody", "--", "gpunode")
    refused(host.run(*nobody, "apply", "--yes", check=False), 2, "needs root")
    assert host.run(*nobody, "plan", check=False).returncode == 3


def test_typos_and_missing_things_are_one_line(host: LabHost) -> None:
    refused(gpunode(host, "plan", "--profile", "/nowhere.toml"), 2, "there is no profile /nowhere.toml")
    refused(gpunode(host, "plan", "--step", "drivr"), 2, "there is no step drivr")
    refused(gpunode(host, "rollback", "--yes", "--to", "99"), 2, "there is no run 99")
    refused(gpunode(host, "apply"), 2, "nobody is here to answer")
    host.write("/root/bad.toml", '[driver]\nbrnach = "580"\nmodules = "opne"\n')
    wrong = gpunode(host, "profile", "validate", "--profile", "/root/bad.toml")
    refused(wrong, 2, 'did you mean "branch"?')
    assert 'did you mean "open"?' in wrong.stderr
    host.run("rm", "/root/bad.toml")


def test_the_question_is_seen_and_a_no_changes_nothing(host: LabHost, before: Snapshot) -> None:
    done = host.run("script", "-qec", "gpunode apply", "/dev/null", input="n\n", check=False, timeout=60)
    assert "Apply these changes?" in done.stdout
    assert "Nothing was changed." in done.stdout
    assert done.returncode == 3
    unchanged(host, before)


def test_files_where_the_caller_stands_are_not_run_by_root(host: LabHost) -> None:
    host.shell('mkdir -p /tmp/theirs; echo \'open("/tmp/theirs/run", "w")\' > /tmp/theirs/json.py')
    host.shell("(cd /tmp/theirs && gpunode check >/dev/null) || true")
    assert host.run("test", "-e", "/tmp/theirs/run", check=False).returncode == 1


def test_a_step_alone_names_what_it_stands_on(host: LabHost, before: Snapshot) -> None:
    refused(gpunode(host, "apply", "--yes", "--step", "containerd"), 1, "add --step container_toolkit")
    unchanged(host, before)


def test_a_second_run_is_told_who_holds_the_lock(host: LabHost, before: Snapshot) -> None:
    first = host.popen("gpunode", "apply", "--yes")
    time.sleep(3)
    second = gpunode(host, "apply", "--yes")
    refused(second, 6, "another run holds the lock: pid ")
    assert "(gpunode apply --yes)" in second.stderr
    host.run("pkill", "-KILL", "-f", "[g]punode apply", check=False)
    first.wait(10)
    # A lock whose holder was killed never blocks; its apt, which runs on, is waited for.
    assert gpunode(host, "rollback", "--yes").returncode == 0
    del before


def test_a_key_that_is_not_the_pinned_one_is_not_trusted(host: LabHost, before: Snapshot) -> None:
    site = "/etc/gpunode/catalog.d/50-lab.toml"
    text = host.read(site)
    host.run("rm", site)
    refused(gpunode(host, "apply", "--yes"), 1, "it was not trusted")
    host.write(site, text)
    unchanged(host, before)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ('prefix = "developer.download.nvidia.com/compute/cuda"\nhtml = "<h1>Log in</h1>"\n', "answered an HTML page"),
        ('prefix = "developer.download.nvidia.com/compute/cuda"\nstatus = 503\n', "answered 503"),
    ],
)
def test_a_mirror_that_misbehaves_is_found_out_before_anything_changes(
    host: LabHost, before: Snapshot, fault: str, words: str
) -> None:
    host.write(FAULTS, f"[[fault]]\n{fault}")
    refused(gpunode(host, "apply", "--yes"), 1, words)
    host.write(FAULTS, "")
    unchanged(host, before)


def test_a_dead_mirror_is_found_out_before_anything_changes(host: LabHost, before: Snapshot) -> None:
    host.run("systemctl", "stop", "lab-mirror.service")
    refused(gpunode(host, "apply", "--yes"), 1, "cannot fetch https://developer.download.nvidia.com")
    host.run("systemctl", "start", "lab-mirror.service")
    unchanged(host, before)


@pytest.mark.usefixtures("before")
def test_a_mirror_that_dies_in_between_is_survived_by_a_second_apply(host: LabHost) -> None:
    host.write(
        FAULTS,
        '[[fault]]\nprefix = "nvidia.github.io/libnvidia-container/stable/deb/amd64/libnvidia-container1"\nstatus = 503\n',
    )
    refused(gpunode(host, "apply", "--yes", "--skip", "verify"), 1, "apt-get install failed")
    host.write(FAULTS, "")
    done = gpunode(host, "apply", "--yes", "--skip", "verify")
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("before")
def test_apts_lock_is_waited_for_and_the_wait_is_seen(host: LabHost) -> None:
    """As unattended-upgrades holds it, for a while."""
    host.popen("python3", "-c", HOLD_LOCK)
    time.sleep(1)
    done = gpunode(host, "apply", "--yes", "--step", "driver")
    assert done.returncode == 0, done.stderr
    assert re.search(r"still at .*: Waiting for cache lock: .* held by process \d+", done.stdout), done.stdout


@pytest.mark.usefixtures("before")
def test_a_kernel_that_takes_no_module_is_told_and_a_second_apply_loads_it(host: LabHost) -> None:
    """In the kernel's words for a key that is not enrolled, and for a lockdown: no kernel of the lab's says them by itself."""
    host.run("mv", "/usr/sbin/modprobe", "/usr/sbin/modprobe.real")
    for said, hint in (
        ("Key was rejected by service", "enrol the key"),
        ("Operation not permitted", "takes no modules"),
    ):
        words = f"modprobe: ERROR: could not insert 'nvidia': {said}"
        host.write("/usr/sbin/modprobe", f'#!/bin/sh\necho "{words}" >&2\nexit 1\n', 0o755)
        done = gpunode(host, "apply", "--yes", "--step", "driver")
        refused(done, 1, f"cannot load the kernel module nvidia: {words}")
        assert hint in done.stderr.splitlines()[-1]
    host.run("mv", "/usr/sbin/modprobe.real", "/usr/sbin/modprobe")
    assert gpunode(host, "apply", "--yes", "--step", "driver").returncode == 0


def test_a_full_disk_is_said_and_nothing_is_changed(host: LabHost, before: Snapshot) -> None:
    host.shell("mkdir -p /var/lib/gpunode; mount -t tmpfs -o size=8k,mode=700 tmpfs /var/lib/gpunode")
    done = gpunode(host, "apply", "--yes")
    host.run("umount", "/var/lib/gpunode")
    refused(done, 1, "No space left on device")
    unchanged(host, before)


def test_a_daemon_that_does_not_come_back_gets_its_old_file(host: LabHost, before: Snapshot) -> None:
    """The unit refuses to start with the nvidia runtime in its file: outside the product, as a broken daemon would."""
    old = host.read(CONFIG)
    dropin = "/etc/systemd/system/containerd.service.d/refuse.conf"
    refusal = "ExecStartPre=/bin/sh -c 'if grep -q nvidia /etc/containerd/config.toml; then echo no such runtime binary; exit 1; fi'"
    host.write(dropin, f"[Service]\n{refusal}\n")
    host.run("systemctl", "daemon-reload")
    done = gpunode(host, "apply", "--yes", "--skip", "verify")
    assert host.read(CONFIG) == old
    assert host.run("systemctl", "is-active", "containerd").stdout.strip() == "active"
    refused(done, 1, "did not come back with the new configuration")
    assert "no such runtime binary" in done.stderr
    host.shell("rm -r /etc/systemd/system/containerd.service.d; systemctl daemon-reload; systemctl reset-failed")
    del before


def test_edits_made_since_stay_when_our_keys_go(host: LabHost) -> None:
    old = host.read(CONFIG)
    assert gpunode(host, "apply", "--yes", "--skip", "verify").returncode == 0
    host.shell(
        f"sed -i 's#bin_dir = \"/usr/lib/cni\"#bin_dir = \"/opt/cni/bin\"#' {CONFIG}; echo '# a note of theirs' >> {CONFIG}"
    )
    assert gpunode(host, "rollback", "--yes").returncode == 0
    now = host.read(CONFIG)
    assert "nvidia" not in now
    assert 'bin_dir = "/opt/cni/bin"' in now
    assert "# a note of theirs" in now
    host.write(CONFIG, old)
    restart(host, "containerd")


@pytest.mark.usefixtures("before")
def test_a_run_that_is_asked_to_stop_says_how_to_go_on(host: LabHost) -> None:
    running = host.popen("gpunode", "apply", "--yes", "--output", "json")
    while host.run("pgrep", "-f", "[g]punode apply", check=False).returncode != 0:
        time.sleep(0.1)  # a busy machine is slow to start it
    time.sleep(4)
    host.run("pkill", "-TERM", "-f", "[g]punode apply", check=False)
    assert running.wait(30) == 130
    document = json.loads(running.output()[running.output().index("{") :])
    assert document["hint"] == "`gpunode apply` finishes the job, `gpunode rollback` undoes it"
