"""Reboots on a real systemd: the host goes down and comes up, and the run goes on by its unit; upgrades without one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from gpunode.lab import LabError, stubs
from gpunode.lab.host import REBOOT_STATUS, LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node
from lab.commands import gpunode

PROFILE = """\
reboot = "{reboot}"
[driver]
{driver}
"""
KUBECTL = "kubectl --kubeconfig=/etc/kubernetes/admin.conf --cache-dir=/run/test-kubectl"
OTHER_BRANCH = "595.84"
UNIT = "gpunode-continue.service"
ALWAYS = "/etc/lab-nouveau-always"
# nouveau as the kernel would have it: loaded at boot unless blacklisted, or whatever is said where the file ALWAYS is.
NOUVEAU = f"""\
[Unit]
Description=Emulated nouveau
DefaultDependencies=no
After=lab-gpu.service
Before=sysinit.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'if [ -e {ALWAYS} ] || ! grep -rqs "^blacklist nouveau" /etc/modprobe.d; then mkdir -p /sys/module/nouveau; fi'

[Install]
WantedBy=sysinit.target
"""
# A job that has the GPU open, as the kernel counts it: it is there until the host goes down.
JOB = """\
import os, time
os.open("/dev/nvidia0", os.O_PATH)
count = int(open("/sys/module/nvidia/refcnt").read())
open("/sys/module/nvidia/refcnt", "w").write(str(count + 1))
time.sleep(3600)
"""


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    declared = stubs._declared()
    declared["families"]["driver"]["versions"].append(f"{OTHER_BRANCH}-1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stubs, "_declared", lambda: declared)
        node = create_node("rb-reboot")
    with node:
        node.write("/etc/systemd/system/lab-nouveau.service", NOUVEAU)
        link = node.root / "etc/systemd/system/sysinit.target.wants/lab-nouveau.service"
        link.symlink_to("/etc/systemd/system/lab-nouveau.service")
        (node.root / "var/log/journal").mkdir(exist_ok=True)  # the log of an earlier boot is kept
        # Less than a run takes, as a real module's build takes more than systemd's own 90 seconds.
        node.write("/etc/systemd/system.conf.d/lab.conf", "[Manager]\nDefaultTimeoutStartSec=15s\n")
        node.boot()
        yield node


@pytest.fixture(scope="module")
def before(host: LabHost) -> Snapshot:
    write_profile(host, 'branch = "580"')
    return Snapshot.take(host)


def write_profile(host: LabHost, driver: str, reboot: str = "auto") -> None:
    host.write("/etc/gpunode/profile.toml", PROFILE.format(driver=driver, reboot=reboot))


def come_up_again(host: LabHost) -> str:
    """Wait until the host has gone down by its own will and is up again, the unit's run over; returns what that run logged.

    A boot that the run cuts short by another reboot is followed by the next one.
    """
    for _ in range(3):
        rebooted(host)
        host.boot()
        if ended_there(host):
            return host.journal(UNIT)
    raise AssertionError("it reboots over and over")


def ended_there(host: LabHost) -> bool:
    """Wait for the unit's end; False where it had the host reboot once more."""
    try:
        while host.run("systemctl", "is-active", UNIT, check=False).stdout in ("active\n", "activating\n"):
            time.sleep(0.3)
        return host.state() not in ("stopping", "")
    except LabError:
        return False


def rebooted(host: LabHost) -> None:
    host.wait_down(90)
    assert host._nspawn is not None
    assert host._nspawn.returncode == REBOOT_STATUS, host.console()


def reboot(host: LabHost) -> None:
    """Reboot by hand, and wait for the cluster that the node belongs to."""
    host.reboot()
    host.shell(f"for i in $(seq 100); do {KUBECTL} get node >/dev/null 2>&1 && break; sleep 0.2; done")


def require_no_unit(host: LabHost) -> None:
    assert host.run("systemctl", "cat", UNIT, check=False).returncode != 0
    assert not host.run("find", "/etc/systemd", "-name", "gpunode-continue*").stdout
    assert UNIT not in host.run("systemctl", "list-units", "--all", "--no-legend", "--plain").stdout


def lasting(document: dict[str, Any]) -> str:
    return "\n".join(line for step in document["steps"] for line in step["irreversible"])


def loaded(host: LabHost) -> str:
    return host.read("/sys/module/nvidia/version").strip()


def results(host: LabHost) -> list[str]:
    return [run["result"] for run in gpunode(host, "history")["runs"]]


@pytest.mark.usefixtures("before")
def test_with_nouveau_loaded_the_run_goes_on_after_the_boot(host: LabHost) -> None:
    assert "a reboot is needed: nouveau is loaded" in lasting(gpunode(host, "plan", exits=3))
    stopped = gpunode(host, "apply", "--yes", exits=4)
    assert stopped["result"] == "reboot-required"
    log = come_up_again(host)
    assert "9 of 9 tests passed" in log, log
    assert "Deactivated successfully" in log, log
    require_no_unit(host)
    assert gpunode(host, "check")["result"] == "in-sync"
    assert gpunode(host, "verify")["result"] == "verified"
    assert results(host) == ["changed"]


def test_what_was_done_in_two_boots_is_taken_back_at_once(host: LabHost, before: Snapshot) -> None:
    undone = gpunode(host, "rollback", "--yes")
    assert undone["left"] == ["module nouveau: the reboot took it away, and the next boot brings it back"]
    reboot(host)
    assert host.run("test", "-e", "/sys/module/nouveau", check=False).returncode == 0
    changes = Snapshot.compare(before, Snapshot.take(host))
    assert not changes, report(changes)


def test_after_two_reboots_it_stops_and_says_so(host: LabHost, before: Snapshot) -> None:
    host.write(ALWAYS, "")
    gpunode(host, "apply", "--yes", exits=4)
    log = come_up_again(host)
    assert "has rebooted the host 2 times, and still: nouveau is loaded" in log, log
    earlier = host.run("journalctl", "--no-pager", "-o", "cat", "-b", "-1", "-u", UNIT).stdout
    assert "the host reboots now, and run " in earlier, earlier
    # Whoever looks after the host sees that nobody finished it.
    assert f"{UNIT} not-found failed" in " ".join(
        host.run("systemctl", "--failed", "--no-legend", "--plain").stdout.split()
    )
    host.run("systemctl", "reset-failed", UNIT)
    require_no_unit(host)
    assert results(host)[-1] == "reboot-required"
    host.run("rm", ALWAYS)
    gpunode(host, "rollback", "--yes")
    reboot(host)
    changes = Snapshot.compare(before, Snapshot.take(host))
    assert not changes, report(changes)


def have_cdi_written(host: LabHost) -> None:
    """As the finding's mend says: the toolkit's own service gives up when a driver's replacement outlasts its five tries."""
    units = "nvidia-cdi-refresh.path nvidia-cdi-refresh.service"
    host.shell(f"systemctl reset-failed {units}; systemctl start {units}")


def test_versions_and_branches_change_in_one_apply_each(host: LabHost) -> None:
    """Without nouveau, and with nobody at the GPU: no reboot."""
    host.shell("systemctl disable lab-nouveau.service; rmdir /sys/module/nouveau")
    for version in ("580.126.20", "580.159.04", "580.126.20", OTHER_BRANCH, "580.159.04"):
        write_profile(host, f'branch = "{version[:3]}"\nversion = "{version}"')
        assert gpunode(host, "apply", "--yes", "--skip", "verify")["result"] == "changed"
        have_cdi_written(host)
        found = gpunode(host, "check")
        assert found["result"] == "in-sync", found
        assert loaded(host) == version
        assert version in host.run("nvidia-smi").stdout
        held = set(host.run("apt-mark", "showhold").stdout.split())
        assert {"nvidia-open", "libcuda1", "nvidia-kernel-open-dkms", "nvidia-persistenced"} <= held
        assert host.run("systemctl", "is-active", "nvidia-persistenced").stdout.strip() == "active"


def test_a_driver_in_use_is_left_to_its_user_without_consent(host: LabHost) -> None:
    host.write("/root/job.py", JOB)
    host.run("systemd-run", "--unit=job", "python3", "/root/job.py")
    host.shell("for i in $(seq 50); do pgrep -f /root/job.py >/dev/null && break; sleep 0.1; done; sleep 1")
    write_profile(host, 'version = "580.178.01"', "never")
    assert "in use, so 580.178.01 cannot take its place: " in lasting(gpunode(host, "plan", exits=3))
    stopped = gpunode(host, "apply", "--yes", exits=4)
    assert "/root/job.py (pid " in stopped["error"]
    assert loaded(host) == "580.159.04"
    assert host.run("systemctl", "is-active", "job").stdout.strip() == "active"
    assert host.run("systemctl", "is-active", "nvidia-persistenced").stdout.strip() == "active"


def test_at_a_terminal_the_reboot_is_asked_for(host: LabHost) -> None:
    write_profile(host, 'version = "580.178.01"', "ask")
    done = host.run("script", "-qec", "gpunode apply --yes", "/dev/null", input="n\n", check=False, timeout=60)
    assert "Reboot now, and go on after it? [y/N]" in done.stdout
    assert done.returncode == 4
    require_no_unit(host)


def test_with_consent_the_boot_brings_the_new_driver(host: LabHost) -> None:
    write_profile(host, 'version = "580.178.01"', "auto")
    gpunode(host, "apply", "--yes", exits=4)
    log = come_up_again(host)
    assert "9 of 9 tests passed" in log, log
    assert loaded(host) == "580.178.01"
    assert gpunode(host, "check")["result"] == "in-sync"
    require_no_unit(host)


def test_a_rollback_of_all_upgrades_leaves_no_false_line(host: LabHost, before: Snapshot) -> None:
    undone = gpunode(host, "rollback", "--yes")
    assert (undone["result"], undone["left"]) == ("undone", [])
    host.shell("rm /root/job.py; systemctl enable lab-nouveau.service 2>/dev/null")
    reboot(host)
    write_profile(host, 'branch = "580"')
    changes = Snapshot.compare(before, Snapshot.take(host))
    assert not changes, report(changes)
