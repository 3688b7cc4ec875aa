"""A bundle unpacked: its files stream from the archive to their places, each one's hash compared on the way."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from gpunode.errors import HostError
from gpunode.formats.bundle import HEAD
from gpunode.host import bundle
from gpunode.host.machine import FileStat
from gpunode.host.verbs.base import Hands, Json, NeverConflicts, Taken
from gpunode.host.verbs.files import temporary_of

READABLE = FileStat(kind="file", mode=0o644)


@dataclass(frozen=True)
class UnpackBundle(NeverConflicts):  # the folder is gpunode's own
    """Unpack a bundle into a folder that is gpunode's alone.

    `manifest` is the sha256 of the manifest that was verified before, `sha256` that of the whole file where it was verified by it.
    """

    name: ClassVar[str] = "unpack-bundle"
    path: str
    folder: str
    manifest: str
    sha256: str = ""

    def intent(self, hands: Hands) -> Json | None:
        """The paths that unpacking makes, and those that it renews. Raises HostError when it is another bundle by now.

        An undo removes only what was absent: what is there already an earlier unpacking has made, and its own undo removes it.
        """
        found = _read(hands, self.path, self.manifest)
        names = [*HEAD, bundle.MARK, *(member.name for member in found.manifest.files)]
        absent = [name for name in names if hands.reader.lstat(f"{self.folder}/{name}") is None]
        # The store keeps no copy: the archive is the copy, and what is unpacked is nobody's to edit.
        return {
            "bundle": self.path,
            "folder": self.folder,
            "manifest": self.manifest,
            "sha256": self.sha256,
            "folders": [path for path in _folders(self.folder, absent) if hands.reader.lstat(path) is None],
            "files": absent,
            "renewed": [name for name in names if name not in absent],
        }

    def act(self, hands: Hands, intent: Json) -> None:
        """Unpack it, the manifest last: a folder that has one is whole. Raises HostError naming the file that is not as it should be."""
        found, folder = _read(hands, intent["bundle"], intent["manifest"]), intent["folder"]
        for path in intent["folders"]:
            hands.machine.make_directory(path, mode=0o755)
        for content in bundle.contents(hands.reader, intent["bundle"], found.manifest):
            path = f"{folder}/{content.member.name}"
            with bundle.naming(intent["bundle"]):
                hands.machine.write_stream(path, content.chunks, stat=READABLE, temporary=temporary_of(path))
        for name, data in ((bundle.MARK, intent["sha256"].encode()), *reversed(list(found.head.parts()))):
            path = f"{folder}/{name}"
            if data:
                hands.machine.write_atomic(path, data, stat=READABLE, temporary=temporary_of(path))

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Remove what was not there before, and what was half written."""
        folder = intent["folder"]
        for name in (*intent["files"], *intent["renewed"]):
            hands.machine.remove(temporary_of(f"{folder}/{name}"))
        for name in intent["files"]:
            hands.machine.remove(f"{folder}/{name}")
        kept = [path for path in reversed(intent["folders"]) if not hands.machine.remove_directory(path)]
        return Taken(left=tuple(f"{path}: not empty, others use it" for path in kept))


def _read(hands: Hands, path: str, manifest: str) -> bundle.Bundle:
    """The bundle, still with the manifest that was verified. Raises HostError."""
    found = bundle.read(hands.reader, path)
    if hashlib.sha256(found.head.manifest).hexdigest() != manifest:
        raise HostError(f"{path} has changed since it was verified; nothing of it was unpacked")
    return found


def _folders(folder: str, names: list[str]) -> list[str]:
    """The folders that the files need, outer ones first."""
    parts = [name.split("/")[:-1] for name in names]
    inner = {"/".join(part[: count + 1]) for part in parts for count in range(len(part))}
    return [folder, *(f"{folder}/{each}" for each in sorted(inner))]
