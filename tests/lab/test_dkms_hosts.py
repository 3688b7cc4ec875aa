"""Debian's own drivers, built by the real DKMS against Debian's headers on hosts that seem to run Debian's kernel."""

from __future__ import annotations

import pytest

from gpunode.lab import kernel, layers
from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node

PROFILE = """\
[driver]
source = "distro"
branch = "{branch}"
load = {load}
[kubernetes]
flavour = "none"
[device_plugin]
mode = "none"
[verify]
level = "container"
"""
# What DKMS's package leaves on purpose; a rollback says so.
KEY = ("/var/lib/dkms", "/var/lib/dkms/mok.key", "/var/lib/dkms/mok.pub")


def debian(name: str, suite: str, release: str, branch: str, *, load: bool) -> LabHost:
    host = create_node(name, cluster=False, suite=suite, release=release, whole_archive=True)
    host.boot()
    host.write("/etc/gpunode/profile.toml", PROFILE.format(branch=branch, load=str(load).lower()))
    return host


@pytest.mark.thorough
def test_a_driver_that_does_not_compile_is_told_by_the_compilers_own_words() -> None:
    """Debian 13's driver on Debian 13's kernel: a person who chose nothing odd meets just this."""
    release = kernel.offered(layers.warm(layers.base("trixie"), "trixie"))[-1]
    with debian("dkms-trixie", "trixie", release, "550", load=True) as host:
        before = Snapshot.take(host)
        plan = host.run("gpunode", "plan", "--step", "driver", check=False).stdout
        assert 'with driver.source = "nvidia" a newer branch comes instead' in plan
        failed = host.run("gpunode", "apply", "--yes", "--step", "driver", check=False, timeout=900)
        assert failed.returncode == 1
        first = failed.stderr.splitlines()[0]
        assert f"DKMS could not build nvidia-current-open/550.163.01 for the kernel {release}: nv-pci.c:" in first
        assert "too few arguments to function" in first
        assert 'driver.source = "nvidia" in the profile' in failed.stderr
        undone = host.run("gpunode", "rollback", "--yes", check=False, timeout=600)
        assert undone.returncode == 0, undone.stdout + undone.stderr
        assert "left: /var/lib/dkms/mok.key" in undone.stdout
        changes = [each for each in Snapshot.compare(before, Snapshot.take(host)) if each.name not in KEY]
        assert not changes, report(changes)
