"""Compiles the lab's mock NVIDIA libraries and its vector-addition program from the C sources in `mocks/`."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

MOCKS = Path(__file__).parent / "mocks"
PTX_FILE = Path(__file__).parent.parent / "probes" / "vector_add.ptx"

_COMPILER = ("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
_SHARED = ("-shared", "-fPIC", "-fvisibility=hidden")
_LIBRARIES = {
    "libcuda.so": ("libcuda.c", "ptx_load.c", "ptx_run.c", "device_memory.c"),
    "libnvidia-ml.so": ("libnvidia-ml.c",),
}


class MockBuildError(RuntimeError):
    """A mock could not be compiled; the message holds the compiler's first complaint."""


def build(
    version: str,
    folder: Path,
    *,
    dev: str = "/dev",
    proc_version: str = "/proc/driver/nvidia/version",
) -> dict[str, Path]:
    """Compile libcuda and libnvidia-ml as driver `version` would install them, below `folder`.

    Returns the files by name ("libcuda.so", "libnvidia-ml.so"); their sonames end in `.so.1`. A build with the same
    sources and arguments is taken from `folder`. `dev` and `proc_version` are where the libraries look for device nodes
    and for the loaded module's version. Raises MockBuildError.
    """
    flags = (
        f'-DMOCK_VERSION="{version}"',
        f'-DDEV_DIR="{dev}"',
        f'-DPROC_VERSION="{proc_version}"',
    )
    return {name: _library(name, sources, version, flags, folder) for name, sources in _LIBRARIES.items()}


def build_sample(folder: Path, ptx: Path = PTX_FILE) -> Path:
    """Compile the vector-addition program around the kernel in `ptx` and return its path. Raises MockBuildError."""
    arguments = (f'-DPTX_FILE="{ptx}"', str(MOCKS / "vector_add_sample.c"))
    return _compiled(folder / f"vectorAdd-{_digest(*arguments, ptx.read_text())}", arguments)


def build_lister(folder: Path) -> Path:
    """Compile what stands for `nvidia-smi -L` in containers and return its path. Raises MockBuildError."""
    arguments = (str(MOCKS / "list_gpus.c"),)
    return _compiled(folder / f"nvidia-smi-{_digest(*arguments)}", arguments)


def _library(name: str, sources: tuple[str, ...], version: str, flags: tuple[str, ...], folder: Path) -> Path:
    soname = f"-Wl,-soname,{name}.1"
    arguments = (*_SHARED, *flags, soname, *(str(MOCKS / source) for source in sources))
    return _compiled(folder / f"mock-{_digest(*arguments)}" / f"{name}.{version}", arguments)


def _digest(*parts: str) -> str:
    """A name for a build: all C sources and headers and everything given to the compiler go into it."""
    digest = hashlib.sha256("\0".join((*_COMPILER, *parts)).encode())
    for source in sorted(MOCKS.glob("*.[ch]")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _compiled(target: Path, arguments: tuple[str, ...]) -> Path:
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        output = Path(scratch) / target.name
        _run_compiler((*_COMPILER, *arguments, "-o", str(output)))
        os.replace(output, target)  # whole or not at all: two builds may run at once
    return target


def _run_compiler(command: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise MockBuildError("gcc is not installed: the lab compiles its mock NVIDIA libraries with it") from None
    if done.returncode != 0:
        complaint = next((line for line in done.stderr.splitlines() if "error:" in line.lower()), done.stderr.strip())
        raise MockBuildError(f"gcc: {complaint}")
