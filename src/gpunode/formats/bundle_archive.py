"""A bundle's archive: written file by file, and read so that nothing of it is handed out that the manifest does not vouch for."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

from gpunode.formats.bundle import HEAD, KEY, MANIFEST, SIGNATURE, BundleError, Manifest, Member

CHUNK = 1 << 20
LARGEST_HEAD = 16 << 20
"""Bytes that the manifest, its signature or its key may have: they are read whole."""
CUT_SHORT = "the bundle ends before it: it was cut short"


@dataclass(frozen=True)
class Head:
    """What stands before the files: the manifest's own bytes, and its signature and key where it is signed."""

    manifest: bytes
    signature: bytes = b""
    key: bytes = b""

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Each part by its name in the bundle, in the bundle's order; an empty one is not in it."""
        return zip(HEAD, (self.manifest, self.signature, self.key), strict=True)


@dataclass(frozen=True)
class Content:
    """A file of the bundle as it is read. Its chunks end in a BundleError unless they are what the manifest says."""

    member: Member
    chunks: Iterator[bytes]


def write(stream: IO[bytes], head: Head, files: Iterable[tuple[Member, IO[bytes]]]) -> None:
    """Write a bundle. The same files give the same bytes: no times, no owners. Raises BundleError for a file that has changed."""
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in head.parts():
            if data:
                archive.addfile(_info(name, len(data)), io.BytesIO(data))
        for member, content in files:
            _add(archive, member, content)


def _add(archive: tarfile.TarFile, member: Member, content: IO[bytes]) -> None:
    hashed = _Hashed(content)
    try:
        archive.addfile(_info(member.name, member.size), hashed)
    except OSError as error:
        raise BundleError(member.name, f"it cannot be copied whole: {error.strerror or error}") from None
    if hashed.digest.hexdigest() != member.sha256 or content.read(1):
        raise BundleError(member.name, "it has changed since its hash was taken")


class _Hashed(io.RawIOBase):
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info


def head(stream: IO[bytes]) -> Head:
    """The beginning of a bundle. Raises BundleError when it is none, or ends in it."""
    found: dict[str, bytes] = {}
    with _opened(stream) as archive:
        for expected in HEAD:
            info = _next(archive, expected)
            if info is None or info.name not in HEAD or info.name in found:
                break
            found[info.name] = _small(archive, info)
    if next(iter(found), "") != MANIFEST:
        raise BundleError(MANIFEST, "it is not the first in the file: this is no bundle of gpunode's")
    return Head(found[MANIFEST], found.get(SIGNATURE, b""), found.get(KEY, b""))


def contents(stream: IO[bytes], manifest: Manifest) -> Iterator[Content]:
    """Every file, in the bundle's order; each one's chunks must be read to their end before the next. Raises BundleError."""
    left = {member.name: member for member in manifest.files}
    with _opened(stream) as archive:
        while (info := _next(archive, next(iter(left), MANIFEST))) is not None:
            if info.name in HEAD:
                continue
            member = left.pop(info.name, None)
            if member is None or not info.isreg():
                raise BundleError(info.name, "it is in the bundle, and the manifest does not list it as a file")
            yield Content(member, _checked(member, archive, info))
    if left:
        raise BundleError(next(iter(left)), CUT_SHORT)


def _checked(member: Member, archive: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    found, digest = 0, hashlib.sha256()
    for chunk in _chunks(archive, info):
        found += len(chunk)
        digest.update(chunk)
        yield chunk
    if found != member.size:
        raise BundleError(member.name, f"it has {found} bytes, and the manifest says {member.size}")
    if digest.hexdigest() != member.sha256:
        raise BundleError(member.name, f"its sha256 is {digest.hexdigest()}, and the manifest says {member.sha256}")


def _chunks(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    file = archive.extractfile(info)
    if file is None:
        raise BundleError(info.name, "it is no file")
    try:
        while chunk := file.read(CHUNK):
            yield chunk
    except (tarfile.TarError, EOFError):
        raise BundleError(info.name, "the bundle ends in the middle of it: it was cut short") from None


def _small(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    if not info.isreg() or info.size > LARGEST_HEAD:
        raise BundleError(info.name, f"it is no file of at most {LARGEST_HEAD >> 20} MiB")
    return b"".join(_chunks(archive, info))


def _opened(stream: IO[bytes]) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=stream, mode="r:")
    except tarfile.TarError:
        raise BundleError(MANIFEST, "it cannot be found: this file is no bundle, or was cut short") from None


def _next(archive: tarfile.TarFile, expected: str) -> tarfile.TarInfo | None:
    """The next member's header; `expected` is whose is to come."""
    try:
        return archive.next()
    except tarfile.TarError:
        raise BundleError(expected, CUT_SHORT) from None
