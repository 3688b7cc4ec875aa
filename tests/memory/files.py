"""A file tree in memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gpunode.host.machine import FileStat, Kind

LINKS_AT_MOST = 40


@dataclass(frozen=True)
class Node:
    """A file, directory or link. Frozen: a change replaces it, so that a copy of the map is a snapshot."""

    kind: Kind
    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: float = 0.0
    target: str = ""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


def error(number: int, path: str) -> OSError:
    """The OSError that the kernel would give."""
    return OSError(number, os.strerror(number), path)


class Tree:
    """Paths and what is there. Every folder of a path exists. Links are followed as the kernel follows them."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {"/": Node("directory", mode=0o755)}

    def copy(self) -> Tree:
        """Another tree with the same content."""
        other = Tree()
        other.nodes = dict(self.nodes)
        return other

    def resolve(self, path: str, *, last: bool = True, links: int = 0) -> str:
        """The path without links, its last component followed only when `last` says so."""
        if links > LINKS_AT_MOST:
            raise error(errno.ELOOP, path)
        done = ""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for index, part in enumerate(parts):
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            here = f"{done}/{part}"
            node = self.nodes.get(here)
            if node and node.kind == "link" and (last or index < len(parts) - 1):
                target = node.target if node.target.startswith("/") else f"{done}/{node.target}"
                return self.resolve("/".join([target, *parts[index + 1 :]]), last=last, links=links + 1)
            done = here
        return done or "/"

    def node(self, path: str) -> Node | None:
        """What is at the path, its last component not followed."""
        return self.nodes.get(self.resolve(path, last=False))

    def exists(self, path: str) -> bool:
        """True when the path, links followed, leads to something."""
        return self.resolve(path) in self.nodes

    def read(self, path: str) -> bytes:
        """A file's content, links followed. Raises OSError."""
        node = self.nodes.get(self.resolve(path))
        if node is None:
            raise error(errno.ENOENT, path)
        if node.kind == "directory":
            raise error(errno.EISDIR, path)
        return node.content

    def text(self, path: str) -> str:
        """A file's content as text; empty when there is no such file."""
        return self.read(path).decode() if self.exists(path) else ""

    def stat(self, path: str) -> FileStat | None:
        """As lstat."""
        node = self.node(path)
        if node is None:
            return None
        size = len(node.content)
        return FileStat(node.kind, node.mode, node.uid, node.gid, size, node.mtime, node.target, dict(node.xattrs))

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted."""
        start = self.resolve(folder).rstrip("/") + "/"
        return sorted(path[len(start) :] for path in self.nodes if path.startswith(start) and is_name(path, start))

    def put(self, path: str, node: Node) -> None:
        """Put a node at the path, replacing one that is no directory. Raises OSError."""
        path = self.resolve(path, last=False)
        folder = self.nodes.get(path.rpartition("/")[0] or "/")
        if folder is None:
            raise error(errno.ENOENT, path)
        if folder.kind != "directory":
            raise error(errno.ENOTDIR, path)
        if path in self.nodes and self.nodes[path].kind == "directory":
            raise error(errno.EISDIR, path)
        self.nodes[path] = node

    def remove(self, path: str) -> None:
        """Unlink. Raises OSError."""
        path = self.resolve(path, last=False)
        if path not in self.nodes:
            raise error(errno.ENOENT, path)
        if self.nodes[path].kind == "directory":
            raise error(errno.EISDIR, path)
        del self.nodes[path]

    def make_folders(self, folder: str) -> None:
        """Make a folder and those above it, as `mkdir -p`."""
        folder = self.resolve(folder)
        if folder in self.nodes:
            return
        self.make_folders(folder.rpartition("/")[0] or "/")
        self.nodes[folder] = Node("directory", mode=0o755)

    def lay(self, path: str, content: bytes | str, *, mode: int = 0o644, mtime: float = 0.0) -> None:
        """Write a file, folders and all; a str is a text. As the world outside gpunode does it: no effect is counted."""
        self.make_folders(path.rpartition("/")[0])
        data = content.encode() if isinstance(content, str) else content
        old = self.nodes.get(self.resolve(path))
        node = replace(old, content=data, mtime=mtime) if old else Node("file", data, mode, mtime=mtime)
        self.put(self.resolve(path), node)

    def link(self, path: str, target: str) -> None:
        """Make a link, folders and all."""
        self.make_folders(path.rpartition("/")[0])
        self.put(path, Node("link", mode=0o777, target=target))

    def erase(self, path: str) -> None:
        """Remove a path and everything below it; silent when there is nothing."""
        path = self.resolve(path, last=False)
        for name in [each for each in self.nodes if each == path or each.startswith(f"{path}/")]:
            del self.nodes[name]


def is_name(path: str, start: str) -> bool:
    """True when the path lies directly in the folder `start` (which ends with a slash)."""
    rest = path[len(start) :]
    return bool(rest) and "/" not in rest
