"""Container images for lab hosts, written as OCI image archives that `ctr images import` takes."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from gpunode.lab import mocklibs

VECTOR_ADD = "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0"
# What NVIDIA's base images set, and by which the container runtime knows that a container wants GPUs
GPU_ENVIRONMENT = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def oci_archive(
    layer_files: Mapping[str, bytes],
    *,
    reference: str,
    entrypoint: Sequence[str],
    env: Mapping[str, str],
    folder: Path,
) -> Path:
    """Write an image of one layer into `folder` and return the archive's path.

    `layer_files` are contents by absolute path in the image; every file can be executed and belongs to root.
    `reference` is the full image name with its tag. The same input gives the same bytes.
    """
    layer = _tar({path.lstrip("/"): content for path, content in layer_files.items()})
    config = _image_config(layer, entrypoint, env)
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [_descriptor(_LAYER, layer)],
        }
    )
    tag = reference.rpartition(":")[2]
    names = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag}
    index = {"schemaVersion": 2, "manifests": [{**_descriptor(_MANIFEST, manifest), "annotations": names}]}
    blobs = {f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}": blob for blob in (layer, config, manifest)}
    archive = folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', reference)}.oci.tar"
    folder.mkdir(parents=True, exist_ok=True)
    layout = _json({"imageLayoutVersion": "1.0.0"})
    archive.write_bytes(_tar({"oci-layout": layout, "index.json": _json(index), **blobs}))
    return archive


def program_files(program: Path, path: str) -> dict[str, bytes]:
    """The layer files that `program` needs to run at `path`: itself, its dynamic loader and its libraries.

    They are taken from this machine, each library under the folder that the loader searches. Raises
    subprocess.CalledProcessError where `ldd` cannot read the program.
    """
    listing = subprocess.run(("ldd", str(program)), capture_output=True, text=True, check=True).stdout
    files = {path: program.read_bytes()}
    for found in re.findall(r"(/\S+) \(0x", listing):
        loader = PurePosixPath(found).name.startswith("ld-linux")
        inside = found if loader else f"/usr/lib/{platform.machine()}-linux-gnu/{PurePosixPath(found).name}"
        files[inside] = Path(found).read_bytes()
    return files


def cuda_vector_add(folder: Path, reference: str = VECTOR_ADD, *, ptx: Path = mocklibs.PTX_FILE) -> Path:
    """The image of NVIDIA's vectorAdd sample: a program that adds two vectors by the kernel in `ptx`.

    Like NVIDIA's, it carries no driver library: the container runtime brings it. nvidia-smi, which NVIDIA's runtime brings
    too, is in the image. Raises MockBuildError.
    """
    program = "/cuda-samples/vectorAdd"
    files = program_files(mocklibs.build_sample(folder, ptx), program)
    files |= program_files(mocklibs.build_lister(folder), "/usr/bin/nvidia-smi")
    return oci_archive(files, reference=reference, entrypoint=[program], env=GPU_ENVIRONMENT, folder=folder)


def _image_config(layer: bytes, entrypoint: Sequence[str], env: Mapping[str, str]) -> bytes:
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **env}
    return _json(
        {
            "architecture": _ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "Env": [f"{key}={environment[key]}" for key in environment]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    )


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _tar(files: Mapping[str, bytes]) -> bytes:
    """An archive with the files and their folders in the order of their names, without times or owners' names."""
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents if str(parent) != "."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted({*folders, *files}):
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if name in folders:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            else:
                member.size = len(files[name])
                archive.addfile(member, io.BytesIO(files[name]))
    return buffer.getvalue()
