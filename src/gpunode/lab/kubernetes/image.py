"""The image of the lab's device plugin: the host's Python and gRPC with `plugin.py`, under the real image's name."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import gpunode
from gpunode.lab.images import GPU_ENVIRONMENT, oci_archive
from gpunode.lab.machine import lock, mount_overlay, unmount
from gpunode.lab.paths import CACHE

REFERENCE = "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"
_LIBRARIES = "/opt/gpunode/lib"
_INSIDE = "/opt/plugin"
_SKIPPED = re.compile(r"/(test|tests|idlelib|tkinter|lib2to3|ensurepip|pydoc_data|__pycache__|config-[^/]+)(/|$)")
_WHEELS = ("grpc", "google", "yaml", "typing_extensions.py")
_SOURCES = (
    *("__init__.py", "probes/__init__.py", "probes/nvml.py", "probes/devices.py", "lab/__init__.py"),
    *("lab/kubernetes/__init__.py", "lab/kubernetes/deviceplugin.py", "lab/kubernetes/plugin.py"),
)


def _files(root: Path, folder: str) -> Iterator[str]:
    """The paths of the files under `folder` inside the root that a running Python wants."""
    top = root / folder.lstrip("/")
    if top.is_file():
        yield folder
    for place, _, names in os.walk(top):
        for name in names:
            path = "/" + os.path.relpath(os.path.join(place, name), root)
            if not _SKIPPED.search(path) and (root / path[1:]).is_file():
                yield path


def _shared_libraries(root: Path, programs: list[str]) -> set[str]:
    """The libraries that the loader of the root gives to the programs; raises CalledProcessError."""
    done = subprocess.run(
        ["chroot", str(root), "ldd", *programs], capture_output=True, text=True, timeout=60, check=False
    )
    return set(re.findall(r"(/\S+) \(0x", done.stdout))


def _read(root: Path, path: str) -> bytes:
    """The file's bytes, its links followed inside the root."""
    real = subprocess.run(["chroot", str(root), "realpath", path], capture_output=True, text=True, check=True).stdout
    return (root / real.strip().lstrip("/")).read_bytes()


def device_plugin(layers: Sequence[Path], folder: Path) -> Path:
    """The image's archive, built once from a lab host's layers (bottom first; the product's libraries among them).

    It lies under `folder`, by a hash of what it is made of. Raises LabError when the layers cannot be mounted.
    """
    digest = hashlib.sha256("\0".join(layer.name for layer in layers).encode())
    for source in (Path(__file__), *_sources().values()):
        digest.update(source.read_bytes())
    home = folder / f"device-plugin-{digest.hexdigest()[:16]}"
    with lock("device-plugin-image"):
        found = list(home.glob("*.tar"))
        return found[0] if found else _build(layers, home)


def _build(layers: Sequence[Path], home: Path) -> Path:
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        root, place = Path(scratch) / "root", Path(scratch) / "image"
        mount_overlay(layers, upper=Path(scratch) / "upper", work=Path(scratch) / "work", root=root)
        try:
            archive = _archive(root, place)
        finally:
            unmount(root)
        home.mkdir(parents=True, exist_ok=True)
        return archive.rename(home / archive.name)


def _sources() -> dict[str, Path]:
    """The product's modules in the image: their name below the package, and their file."""
    package = Path(gpunode.__file__).parent
    return {name: package / name for name in _SOURCES}


def _archive(root: Path, folder: Path) -> Path:
    python = _read_link(root, "/usr/bin/python3")
    standard = list(_files(root, f"/usr/lib/{Path(python).name}"))
    wheels = [path for name in _WHEELS for path in _files(root, f"{_LIBRARIES}/{name}")]
    native = [path for path in (*standard, *wheels) if ".so" in Path(path).name]
    files = {path: (root / path[1:]).read_bytes() for path in (python, *standard)}
    files |= {path.replace(_LIBRARIES, _INSIDE): (root / path[1:]).read_bytes() for path in wheels}
    files |= {path: _read(root, path) for path in _shared_libraries(root, [python, *native])}
    files |= {f"{_INSIDE}/gpunode/{name}": source.read_bytes() for name, source in _sources().items()}
    env = {**GPU_ENVIRONMENT, "PYTHONPATH": _INSIDE, "PYTHONDONTWRITEBYTECODE": "1"}
    entrypoint = [python, "-m", "gpunode.lab.kubernetes.plugin"]
    return oci_archive(files, reference=REFERENCE, entrypoint=entrypoint, env=env, folder=folder)


def _read_link(root: Path, path: str) -> str:
    """The target of a link inside the root, as an absolute path there."""
    return os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(root / path[1:])))
