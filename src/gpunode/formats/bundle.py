"""A bundle's manifest: which host it is for, and each file of it with its size and hash.

A bundle is one tar file, not compressed, for packages and images are. Its first member is the manifest; the manifest's signature and
the key that made it follow where it is signed; then come the files that the manifest lists, in its order. Nothing else is in it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = "gpunode-bundle/1"
MANIFEST, SIGNATURE, KEY = "manifest.json", "manifest.json.asc", "key.asc"
HEAD = (MANIFEST, SIGNATURE, KEY)
PACKAGES, KEYS, IMAGES = "apt", "keys", "images"
"""Folders: the packages as a flat apt repository, the keys that the repositories were verified by, image archives."""
DEVICE_PLUGIN = "device-plugin.yaml"

# What may be a file's name: it is written below one folder as root. No part begins with a dot, so none leads out of it.
NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9._+~:@%-]*(/[A-Za-z0-9_+][A-Za-z0-9._+~:@%-]*)*")
SHA256 = re.compile(r"[0-9a-f]{64}")


class BundleError(ValueError):
    """A file of the bundle is not as it should be: `file` is its name in the bundle, `reason` what is wrong with it."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason


@dataclass(frozen=True)
class Member:
    """A file of the bundle. `size` is in bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class PackageEntry:
    """A package that the bundle brings, at its version."""

    name: str
    version: str


@dataclass(frozen=True)
class ImageArchive:
    """An archive of container images, and the names that it gives them."""

    file: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """The kind of host that a bundle is for, in the words of os-release (ID, and the catalogue's release) and the kernel."""

    distribution: str
    release: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.release} on {self.architecture}"


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds, and for whom. `created` is a time in ISO 8601, `gpunode` the version that made it."""

    target: Target
    created: str
    gpunode: str
    files: tuple[Member, ...]
    packages: tuple[PackageEntry, ...]
    images: tuple[ImageArchive, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(member.size for member in self.files)

    def encoded(self) -> bytes:
        """The manifest as it stands in the bundle, and is signed."""
        document = {"schema": SCHEMA, **asdict(self)}
        return json.dumps(document, indent=1).encode() + b"\n"


def parse(data: bytes) -> Manifest:
    """The manifest from its bytes. Raises BundleError."""
    try:
        document = json.loads(data)
        schema = document["schema"]
        found = _manifest(document) if schema == SCHEMA else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BundleError(MANIFEST, f"it is no manifest of a bundle ({type(error).__name__}: {error})") from None
    if found is None:
        raise BundleError(MANIFEST, f"its schema is {schema}, and this gpunode reads {SCHEMA}")
    require_sound(found)
    return found


def _manifest(document: dict[str, Any]) -> Manifest:
    return Manifest(
        target=Target(**document["target"]),
        created=str(document["created"]),
        gpunode=str(document["gpunode"]),
        files=tuple(Member(str(each["name"]), int(each["size"]), str(each["sha256"])) for each in document["files"]),
        packages=tuple(PackageEntry(**each) for each in document["packages"]),
        images=tuple(ImageArchive(str(each["file"]), tuple(each["names"])) for each in document["images"]),
    )


def require_sound(manifest: Manifest) -> None:
    """Raise BundleError for a manifest that no host takes: a name, a hash or a size that cannot be, an image that is no file of it."""
    names = [member.name for member in manifest.files]
    for member in manifest.files:
        if not NAME.fullmatch(member.name) or member.name in HEAD:
            raise BundleError(member.name, "the manifest lists a file that no bundle may have")
        if not SHA256.fullmatch(member.sha256) or member.size < 0:
            raise BundleError(member.name, "the manifest has no usable hash and size for it")
        if names.count(member.name) > 1:
            raise BundleError(member.name, "the manifest lists it twice")
    for archive in manifest.images:
        if archive.file not in names:
            raise BundleError(archive.file, "the manifest names it among the images and not among the files")


def require_target(manifest: Manifest, host: Target) -> None:
    """Raise BundleError where the bundle was made for another kind of host."""
    if manifest.target != host:
        raise BundleError(MANIFEST, f"the bundle is for {manifest.target}, and this host is {host}")
