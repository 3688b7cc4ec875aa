"""A driver for the probes to find: the lab's mock libraries over a folder that stands for /dev. No root needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpunode.lab import mocklibs

VERSION = "580.159.04"
MODULE_LINE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (builder@host)  \n"

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc compiles the mock NVIDIA libraries")


@dataclass
class MockDriver:
    """The loader's folder with the libraries, the folder of device nodes and the loaded module's version file."""

    libraries: Path
    dev: Path
    module_version: Path

    def plug(self, *nodes: str) -> None:
        for name in nodes:
            (self.dev / name).touch()

    def load_module(self, version: str) -> None:
        self.module_version.write_text(MODULE_LINE.format(version))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command that finds the libraries as any program does, through the dynamic loader."""
        environment = {**os.environ, "LD_LIBRARY_PATH": str(self.libraries)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def probe(self, module: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run a probe as the product does; returns its exit status and its document."""
        done = self.run(sys.executable, "-m", module, *arguments)
        assert done.stderr == ""
        document: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, document


def install(folder: Path) -> MockDriver:
    """Compile the libraries for `folder` and lay the links by which a loader finds them; no GPU is plugged in."""
    driver = MockDriver(folder / "lib", folder / "dev", folder / "version")
    driver.libraries.mkdir()
    driver.dev.mkdir()
    built = mocklibs.build(VERSION, folder, dev=str(driver.dev), proc_version=str(driver.module_version))
    for name, file in built.items():
        (driver.libraries / f"{name}.1").symlink_to(file)
    return driver


def unplug(driver: MockDriver) -> None:
    """Back to a host with the libraries and nothing else."""
    for node in driver.dev.iterdir():
        node.unlink()
    driver.module_version.unlink(missing_ok=True)
