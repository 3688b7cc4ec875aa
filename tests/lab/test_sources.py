"""The distribution's own driver packages, really installed from its archive on a real host."""

from __future__ import annotations

from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node

PROFILE = """\
[driver]
source = "distro"
branch = "550"
[kubernetes]
flavour = "none"
[device_plugin]
mode = "none"
[verify]
level = "container"
"""


def test_debians_own_driver_is_installed_and_taken_back() -> None:
    """Its module cannot be built here, for this kernel's headers are the lab's own, and empty: the apply ends there, saying so."""
    with create_node("distro", cluster=False, whole_archive=True) as host:
        host.boot()
        host.write("/etc/gpunode/profile.toml", PROFILE)
        before = Snapshot.take(host)
        plan = host.run("gpunode", "plan", "--step", "driver", check=False)
        assert plan.returncode == 3
        assert "+Components: contrib non-free non-free-firmware" in plan.stdout
        done = host.run("gpunode", "apply", "--yes", "--step", "driver", check=False, timeout=900)
        assert done.returncode == 1
        assert "DKMS could not build nvidia-current-open/550.163.01 for the kernel" in done.stderr
        version = host.run("dpkg-query", "--show", "--showformat=${Version}", "nvidia-driver").stdout
        assert version.startswith("550.163.01-")
        undone = host.run("gpunode", "rollback", "--yes", check=False, timeout=300)
        assert undone.returncode == 0, undone.stdout + undone.stderr
        changes = Snapshot.compare(before, Snapshot.take(host))
        assert not changes, report(changes)
