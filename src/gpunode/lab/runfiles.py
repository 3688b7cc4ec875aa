"""NVIDIA's `.run` files of a lab: real makeself archives with a header in NVIDIA's manner, and stand-ins of the installers in them.

The files of the folder stubs/ say what an installer does. The same version gives the same bytes, so that its SHA-256 can be pinned.
"""

import hashlib
import tempfile
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

from gpunode.catalog import load
from gpunode.lab import stubs
from gpunode.lab.machine import command
from gpunode.lab.paths import CACHE

# What each installer finds in its archive, by what that is made of: see stubs.content.
DRIVER = {
    "nvidia-installer": "nvidia-installer",
    "nvidia-smi": "nvidia-smi",
    "nvidia-modprobe": "nvidia-modprobe",
    "nvidia-persistenced": "nvidia-persistenced",
    "modules-load.conf": "modules-load.conf",
    "build": "dkms-build",
    "dkms.conf": "runfile-dkms.conf",
    "libcuda.so.{upstream}": "library:libcuda.so",
    "libnvidia-ml.so.{upstream}": "library:libnvidia-ml.so",
}
TOOLKIT = {
    "cuda-installer": "cuda-installer",
    "builds/bin/nvcc": "nvcc",
    "builds/bin/cuda-uninstaller": "cuda-uninstaller",
    "builds/version.json": "cuda-version.json",
    "builds/targets/x86_64-linux/lib/libcudart.so.{runtime}": "library:libcudart.so",
}
# An archive is to depend on nothing but its contents: no times, no owners.
TAR = "--mtime=@0 --owner=0 --group=0 --numeric-owner"
GZIP_LEVEL = "9n"


def driver(version: str, libraries: Path) -> tuple[str, bytes]:
    """The driver's runfile of a version: its path on NVIDIA's server, and what it holds. `libraries` is as in stubs.packages."""
    known = load().runfile
    words = {"upstream": version, "license": "@license@"}
    label = f"NVIDIA Accelerated Graphics Driver for Linux-x86_64 {version}"
    data = _archive(_payload(DRIVER, words, libraries), f"NVIDIA-Linux-x86_64-{version}", label, "./nvidia-installer")
    return known.base + known.path.format(version=version, arch="x86_64"), data


def toolkit(words: Mapping[str, str], libraries: Path) -> tuple[str, bytes]:
    """The same of a CUDA toolkit, of which `words` are those of its packages; it carries a driver, as NVIDIA's does."""
    known, carried = load().cuda_runfile, stubs.driver_versions()[0]
    release = known.releases[words["release"]]
    payload = {**_payload(TOOLKIT, words, libraries), "builds/driver.run": driver(carried, libraries)[1]}
    data = _archive(payload, "pkg", f"CUDA Installer {words['release']}", "./cuda-installer")
    return known.base + known.path.format(release=release.release, driver=release.driver, system="linux"), data


def _payload(parts: Mapping[str, str], words: Mapping[str, str], libraries: Path) -> dict[str, bytes]:
    return {name.format_map(words): stubs.content(kind, words, libraries) for name, kind in parts.items()}


def _archive(payload: Mapping[str, bytes], folder: str, label: str, script: str) -> bytes:
    """The archive that makeself makes of this; made once."""
    header = files("gpunode.lab") / "stubs" / "runfile-header"
    inputs = repr((sorted(payload.items()), folder, label, script, header.read_bytes(), TAR, GZIP_LEVEL))
    kept = CACHE / "runfiles" / hashlib.sha256(inputs.encode()).hexdigest()
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch, as_file(header) as path:
            _lay(Path(scratch) / folder, payload)
            made = Path(scratch) / "made.run"
            options = ("--quiet", "--sha256", "--complevel", GZIP_LEVEL, "--tar-extra", TAR, "--header", path)
            command("makeself", *options, Path(scratch) / folder, made, label, script)
            made.replace(kept)
    return kept.read_bytes()


def _lay(folder: Path, payload: Mapping[str, bytes]) -> None:
    for name, data in payload.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if data.startswith(b"#!") else 0o644)
