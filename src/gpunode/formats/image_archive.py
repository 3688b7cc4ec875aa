"""The names that an archive of container images gives them: an OCI layout's, or what `docker save` writes."""

from __future__ import annotations

import json
import tarfile
from typing import IO, Any

NAME, TAG = "io.containerd.image.name", "org.opencontainers.image.ref.name"
LARGEST = 1 << 20
"""Bytes of an index."""


def image_names(stream: IO[bytes]) -> tuple[str, ...]:
    """The full names, in the archive's order. Raises ValueError for an archive that names none: nothing could find such an image."""
    try:
        with tarfile.open(fileobj=stream, mode="r:*") as archive:
            names = _of_oci(archive) or _of_docker(archive)
    except (tarfile.TarError, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"it is no archive of images ({error})") from None
    if not names:
        raise ValueError("its images have no names: save them by name, as `ctr images export` and `docker save` do")
    return names


def _of_oci(archive: tarfile.TarFile) -> tuple[str, ...]:
    """A tag alone is no name: containerd's own annotation has the whole of it."""
    found = []
    for entry in (_json(archive, "index.json") or {}).get("manifests", []):
        notes = entry.get("annotations", {})
        name = notes.get(NAME) or notes.get(TAG, "")
        found += [name] if "/" in name else []
    return tuple(dict.fromkeys(found))


def _of_docker(archive: tarfile.TarFile) -> tuple[str, ...]:
    entries = _json(archive, "manifest.json") or []
    return tuple(dict.fromkeys(tag for entry in entries for tag in entry.get("RepoTags") or ()))


def _json(archive: tarfile.TarFile, name: str) -> Any:
    """A document of the archive; None where it has none."""
    info = next((each for each in archive if each.name.removeprefix("./") == name), None)
    file = archive.extractfile(info) if info and info.size <= LARGEST else None
    return json.loads(file.read()) if file else None
