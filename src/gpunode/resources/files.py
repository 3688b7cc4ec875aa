"""Whole files, links, and files that must not be there."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from gpunode.errors import HostError
from gpunode.host.machine import FileStat
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import Difference, Local


def unified(path: str, before: str, after: str) -> str:
    """A unified diff of a file's text, as `diff -u` shows it."""
    lines = (before.splitlines(keepends=True), after.splitlines(keepends=True))
    out = []
    for line in difflib.unified_diff(*lines, fromfile=path, tofile=path):
        out.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(out)


@dataclass(frozen=True)
class FileState:
    """A file as found; `text` is None when there is none. `stat` is of the file that a link leads to."""

    text: str | None
    stat: FileStat | None


@dataclass(frozen=True)
class File(Local):
    """A text file that is gpunode's own, whole. `refreshes` names what is derived from it (see host/verbs/refresh.py)."""

    path: str
    text: str
    why: str
    mode: int = 0o644
    refreshes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """`file:PATH`."""
        return f"file:{self.path}"

    def observe(self, host: Reader) -> FileState:
        """The file's text. Bytes that are no UTF-8 are no text of ours: they differ."""
        content = host.read(self.path)
        text = None if content is None else content.decode("utf-8", "replace")
        return FileState(text, host.lstat(host.realpath(self.path)))

    def differences(self, state: FileState) -> list[Difference]:
        """Absent, of other content, mode or owner."""
        found = []
        if state.text != self.text:
            word = "absent" if state.text is None else "other content"
            found.append(
                Difference("content", word, "as shown", self.why, unified(self.path, state.text or "", self.text))
            )
        if state.stat and state.stat.mode != self.mode:
            found.append(Difference("mode", f"{state.stat.mode:04o}", f"{self.mode:04o}", self.why))
        if state.stat and (state.stat.uid, state.stat.gid) != (0, 0):
            found.append(Difference("owner", f"{state.stat.uid}:{state.stat.gid}", "0:0 (root)", self.why))
        return found

    def converge(self, host: Writer, _state: FileState) -> None:
        """Write it, then make anew what is derived from it."""
        with host.refreshing(*self.refreshes):
            host.write_file(self.path, self.text.encode(), mode=self.mode, whole=True)


@dataclass(frozen=True)
class LinkState:
    """What lies at a link's path."""

    found: FileStat | None
    resolved: str
    wanted: str


@dataclass(frozen=True)
class Link(Local):
    """A symbolic link that leads to a place, directly or by way of other links (Debian's alternatives)."""

    path: str
    target: str
    why: str

    @property
    def id(self) -> str:
        """`link:PATH`."""
        return f"link:{self.path}"

    def observe(self, host: Reader) -> LinkState:
        """The path, and where it and its target lead in the end."""
        return LinkState(host.lstat(self.path), host.realpath(self.path), host.realpath(self.target))

    def differences(self, state: LinkState) -> list[Difference]:
        """It is absent, or leads elsewhere."""
        if state.found is None:
            return [Difference("target", "absent", self.target, self.why)]
        if state.resolved == state.wanted:
            return []
        found = state.resolved if state.found.kind == "link" else f"a {state.found.kind}"
        return [Difference("target", found, self.target, self.why)]

    def converge(self, host: Writer, state: LinkState) -> None:
        """Make the link. Raises HostError where a directory is in its place."""
        if state.found is not None and state.found.kind == "directory":
            raise HostError(
                f"{self.path} is a directory, not a link",
                hint=f"move {self.path} aside, then run the same command again",
            )
        host.make_link(self.path, self.target)


@dataclass(frozen=True)
class AbsentState:
    """The files found that should not be there, with their text."""

    texts: dict[str, str]


@dataclass(frozen=True)
class Absent(Local):
    """Files of one folder, by pattern, that must go when they hold a certain text; `keep` is left alone."""

    folder: str
    patterns: tuple[str, ...]
    containing: str
    keep: str
    why: str

    @property
    def id(self) -> str:
        """`absent:FOLDER/…`, with what the files hold."""
        return f"absent:{self.folder}/*{self.containing}*"

    def observe(self, host: Reader) -> AbsentState:
        """Read the candidates."""
        paths = {path for pattern in self.patterns for path in host.glob(self.folder, pattern)} - {self.keep}
        texts = {path: (host.read(path) or b"").decode("utf-8", "replace") for path in sorted(paths)}
        return AbsentState({path: text for path, text in texts.items() if self.containing in _without_comments(text)})

    def differences(self, state: AbsentState) -> list[Difference]:
        """One for each file that must go."""
        return [
            Difference(path, "present", "absent", self.why, unified(path, text, ""))
            for path, text in state.texts.items()
        ]

    def converge(self, host: Writer, state: AbsentState) -> None:
        """Move them aside."""
        for path in state.texts:
            host.remove_file(path)


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
