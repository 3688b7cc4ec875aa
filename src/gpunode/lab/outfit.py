"""What makes a Debian root a lab host: its name and addresses, and what nspawn on a shared network needs."""

import shutil
from pathlib import Path

# Units that a lab host does without, and why.
MASKED = {
    "systemd-networkd-wait-online.service": "the network is this machine's: it would wait for ever",
    "systemd-networkd.service": "the network is this machine's: nothing here may configure it",
    "systemd-networkd.socket": "starts systemd-networkd",
    "apt-daily.timer": "takes apt's lock at a random time",
    "apt-daily-upgrade.timer": "takes apt's lock at a random time",
}
CONTROLLERS = "blkio cpu cpuacct cpuset devices freezer hugetlb memory net_cls net_prio pids"

# nspawn hands version 1 controllers in read-only, which no container survives. Nothing to do where they are not mounted.
BOOT_SCRIPT = f"""#!/bin/sh
for controller in {CONTROLLERS}; do
    if mountpoint -q "/sys/fs/cgroup/$controller"; then
        mount -o remount,rw,bind "/sys/fs/cgroup/$controller"
    fi
done
"""
BOOT_UNIT = """[Unit]
Description=Lab host: writable cgroup controllers
DefaultDependencies=no
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/lab-host/boot

[Install]
WantedBy=sysinit.target
"""


def outfit(root: Path, name: str, address: str) -> None:
    """Write a lab host's own files into a root that is not booted."""
    (root / "etc/machine-id").unlink(missing_ok=True)  # every host makes its own at its first boot
    (root / "etc/hostname").write_text(f"{name}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    shutil.copyfile("/etc/resolv.conf", resolver)
    _mask(root)
    _boot_unit(root)


def _mask(root: Path) -> None:
    for unit in MASKED:
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")


def _boot_unit(root: Path) -> None:
    script = root / "usr/lib/lab-host/boot"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(BOOT_SCRIPT)
    script.chmod(0o755)
    units = root / "etc/systemd/system"
    (units / "lab-host.service").write_text(BOOT_UNIT)
    wants = units / "sysinit.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "lab-host.service").symlink_to("/etc/systemd/system/lab-host.service")
