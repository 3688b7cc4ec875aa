"""Files, links and directories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpunode.errors import ConflictError, HostError
from gpunode.host.machine import FileStat
from gpunode.host.verbs import images
from gpunode.host.verbs.base import Conflict, FileView, Hands, Json, NeverConflicts, Taken


def temporary_of(path: str) -> str:
    """Where a file is prepared before it replaces the old one: known beforehand, so that a crash leaves nothing unknown."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.gpunode"


class _PathChange:
    """What changes of one path have in common: an image before, an image after."""

    deferred: ClassVar[bool] = False

    def act(self, hands: Hands, intent: Json) -> None:
        """Put the new image in place."""
        _put(hands, intent["path"], intent["after"])

    @classmethod
    def conflict(cls, hands: Hands, intent: Json, view: FileView) -> Conflict | None:
        """Judge the undo against the files as the rollback would have them by then."""
        path = intent["path"]
        now = view.images[path] if path in view.images else images.capture(hands.reader, hands.store, path)
        found = images.reverted(path, hands.store, intent["before"], intent["after"], now, intent.get("style", ""))
        # What a newer undo of this rollback puts back, gpunode has replaced once already, and it is in the store.
        intent["replaced"] = isinstance(found, Conflict) and path in view.images
        view.images[path] = intent["before"] if isinstance(found, Conflict) else found
        return found if isinstance(found, Conflict) and not intent["replaced"] else None

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Take gpunode's change out of the path, keeping what others did; with force, restore it as it was."""
        path = intent["path"]
        now = images.capture(hands.reader, hands.store, path)
        wanted = images.reverted(path, hands.store, intent["before"], intent["after"], now, intent.get("style", ""))
        note = ""
        if isinstance(wanted, Conflict):
            if not hands.force and not intent.get("replaced"):
                hint = "settle it in the file, or `gpunode rollback --force` (the edit is kept in gpunode's store)"
                raise ConflictError(f"{path}: {wanted.why}", hint=hint, details=tuple(wanted.diff.splitlines()))
            wanted = intent["before"]
            kept = f"; what was there is kept as {now['sha'][:12]} in the store" if now and "sha" in now else ""
            note = f"{path}: restored as it was before{kept}"
        hands.machine.remove(temporary_of(path))
        if wanted != now:
            _put(hands, path, wanted)
        return Taken(note=note)


@dataclass(frozen=True)
class WriteFile(_PathChange):
    """Write a whole file. A link is followed to its target, which must lie where only root can write; mode and owner are kept,
    but for a file that is `whole`ly gpunode's.
    """

    name: ClassVar[str] = "write-file"
    path: str
    content: bytes
    mode: int = 0o644
    style: str = ""
    whole: bool = False

    def intent(self, hands: Hands) -> Json | None:
        """The file before and after; None when it is as wanted. Raises HostError where there is something else than a file."""
        path = hands.reader.realpath(self.path)
        old = hands.reader.lstat(path)
        if old is not None and old.kind != "file":
            raise HostError(f"{path} is no file but a {old.kind}", hint=f"move {path} out of the way")
        stat = FileStat(kind="file", mode=self.mode) if old is None or self.whole else old
        before = images.capture(hands.reader, hands.store, path)
        after = images.of_content(hands.store, self.content, stat)
        return None if before == after else {"path": path, "before": before, "after": after, "style": self.style}


@dataclass(frozen=True)
class RemoveFile(_PathChange):
    """Remove a file or link; its content is kept in the store."""

    name: ClassVar[str] = "remove-file"
    path: str

    def intent(self, hands: Hands) -> Json | None:
        """The file before; None when there is none."""
        before = images.capture(hands.reader, hands.store, self.path)
        return None if before is None else {"path": self.path, "before": before, "after": None}


@dataclass(frozen=True)
class MakeLink(_PathChange):
    """Make a symbolic link, replacing what is there."""

    name: ClassVar[str] = "make-link"
    path: str
    target: str

    def intent(self, hands: Hands) -> Json | None:
        """What was there, and the link."""
        before = images.capture(hands.reader, hands.store, self.path)
        after = {"kind": "link", "target": self.target}
        return None if before == after else {"path": self.path, "before": before, "after": after}


@dataclass(frozen=True)
class MakeDirectory(NeverConflicts):  # a directory that others use is left to them
    """Make one directory."""

    name: ClassVar[str] = "make-directory"
    path: str
    mode: int = 0o755

    def intent(self, hands: Hands) -> Json | None:
        """None when it is there."""
        return None if hands.reader.lstat(self.path) else {"path": self.path, "mode": self.mode}

    def act(self, hands: Hands, intent: Json) -> None:
        """Make it."""
        hands.machine.make_directory(intent["path"], mode=intent["mode"])

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Remove it if it is empty."""
        if hands.machine.remove_directory(intent["path"]):
            return Taken()
        return Taken(left=(f"{intent['path']}: not empty, others use it",))


def _put(hands: Hands, path: str, image: Json | None) -> None:
    temporary = temporary_of(path)
    stat = hands.reader.lstat(path)
    if stat is not None and stat.kind == "directory":
        raise HostError(
            f"{path} is a directory now", hint=f"move {path} out of the way, then run the same command again"
        )
    if image is None:
        hands.machine.remove(path)
    elif image["kind"] == "link":
        hands.machine.make_link(path, image["target"], temporary=temporary)
    else:
        content = hands.store.get(image["sha"])
        hands.machine.write_atomic(path, content, stat=images.stat_of(image), temporary=temporary)
