"""A driver that a lab host is delivered with, as cloud images are: libraries, nvidia-smi and a module that others look after."""

import os
import platform
import shutil
from importlib.resources import files
from pathlib import Path

from gpunode.lab import mocklibs
from gpunode.lab.machine import command, run_in
from gpunode.lab.paths import CACHE

MODULE = """\
__attribute__((section(".modinfo"), used)) static const char license[] = "license=Dual MIT/GPL";
__attribute__((section(".modinfo"), used)) static const char version[] = "version={version}";
__attribute__((section(".modinfo"), used)) static const char name[] = "name=nvidia";
"""


def prepare(root: Path, version: str) -> None:
    """Put the driver of this version into a host that is not booted yet: it is loaded at every boot. Raises LabError, MockBuildError."""
    libraries = root / f"usr/lib/{platform.machine()}-linux-gnu"
    for name, built in mocklibs.build(version, CACHE / "mocks").items():
        shutil.copyfile(built, libraries / built.name)
        (libraries / f"{name}.1").symlink_to(built.name)
    program = root / "usr/bin/nvidia-smi"
    program.write_bytes((files("gpunode.lab") / "stubs" / "nvidia-smi").read_bytes())
    program.chmod(0o755)
    kernel = os.uname().release
    module = root / f"usr/lib/modules/{kernel}/updates/nvidia.ko"
    module.parent.mkdir(parents=True, exist_ok=True)
    command("gcc", "-x", "c", "-c", "-o", module, "-", stdin=MODULE.format(version=version))
    (root / "etc/modules-load.d/nvidia.conf").write_text("nvidia\nnvidia-uvm\n")
    run_in(root, "ldconfig")
    run_in(root, "depmod", kernel)
