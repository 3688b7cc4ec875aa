"""The machine: files, a clock, and small simulated programs over both."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gpunode.errors import HostError, LockHeldError
from gpunode.host.machine import FileStat, OnBytes, OnLine, Output
from memory.command import Answer, Call
from memory.crash import Effects
from memory.files import Node, Tree
from memory.kubectl import Cluster
from memory.packages import Dpkg, Repository
from memory.units import UnitState

EPOCH = 1_795_000_000.0  # 2026-11-18 08:53:20 UTC
SECONDS_PER_EFFECT = 0.25
PROGRAM_FOLDERS = ("/usr/sbin", "/usr/bin", "/usr/local/bin", "/snap/bin")


Program = Callable[["MemoryMachine", Call], Answer]


@dataclass
class Identity:
    """What the kernel and os-release say of the machine."""

    os_release: dict[str, str] = field(default_factory=dict)
    architecture: str = "x86_64"
    kernel: str = "6.12.107+deb13-amd64"
    uid: int = 0


class MemoryMachine:
    """gpunode.host.machine.Machine in memory.

    `files`, `dpkg`, `units` are the state, `repositories` and `web` the world outside, `effects` the points of a crash.
    A program exists when a file of its name lies on the PATH; `programs` says what it does. `hangs` names those that never answer.
    """

    def __init__(self, programs: Mapping[str, Program], identity: Identity | None = None) -> None:
        self.python: tuple[str, ...] = ("/usr/bin/python3",)
        self.files = Tree()
        self.effects = Effects()
        self.dpkg = Dpkg()
        self.units: dict[str, UnitState] = {}
        self.cluster: Cluster | None = None
        self.repositories: list[Repository] = []
        self.web: dict[str, bytes | Exception] = {}
        self.programs = dict(programs)
        self.identity = identity or Identity()
        self.free = 100 << 30
        self.hangs: set[str] = set()
        self.gpus: list[str] = []
        self.unit_checks: dict[str, Callable[[MemoryMachine], str]] = {}
        self.on_wait: Callable[[MemoryMachine], object] | None = None  # what others do on the host meanwhile
        self.commands: list[tuple[str, ...]] = []
        self._clock = EPOCH
        self.module_path = ""
        self.looking_at = ""
        self._locked: dict[str, str] = {}

    # --- the world's own hand, without effects -------------------------------------------------------------------

    def effect(self, name: str, change: Callable[[], None], torn: Callable[[], None] | None = None) -> None:
        """One counted effect, at its own moment of the clock."""
        self._clock += SECONDS_PER_EFFECT
        self.effects.do(name, change, torn)

    def copy(self) -> MemoryMachine:
        """Another machine in the same state, its effects counted from 0."""
        other = copy.copy(self)
        other.files, other.effects, other.commands = self.files.copy(), Effects(), []
        other.dpkg = self.dpkg.copy()
        other.units = {name: replace(unit, log=list(unit.log)) for name, unit in self.units.items()}
        other.cluster = self.cluster.copy() if self.cluster else None
        other.web, other.hangs, other._locked = dict(self.web), set(self.hangs), {}
        other.unit_checks = dict(self.unit_checks)
        return other

    def set_clock(self, now: float) -> None:
        """Set the clock, forward or back."""
        self._clock = now

    # --- reading ------------------------------------------------------------------------------------------------

    def read(self, path: str) -> bytes:
        return self.files.read(path)

    def stream(self, path: str) -> io.BytesIO:
        return io.BytesIO(self.files.read(path))

    def lstat(self, path: str) -> FileStat | None:
        return self.files.stat(path)

    def realpath(self, path: str) -> str:
        return self.files.resolve(path)

    def listdir(self, path: str) -> list[str]:
        return self.files.names(path)

    def free_bytes(self, path: str) -> int:  # noqa: ARG002 - one file system
        return self.free

    def os_release(self) -> dict[str, str]:
        return dict(self.identity.os_release)

    def architecture(self) -> str:
        return self.identity.architecture

    def kernel_release(self) -> str:
        return self.identity.kernel

    def effective_uid(self) -> int:
        return self.identity.uid

    def now(self) -> float:
        return self._clock

    def wait(self, seconds: float) -> None:
        self._clock += seconds
        if self.on_wait:
            self.on_wait(self)

    # --- commands and the network -------------------------------------------------------------------------------

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout: float = 30.0,
        env: Mapping[str, str] | None = None,  # noqa: ARG002 - no program here reads its environment
        on_line: OnLine | None = None,
        instead: Mapping[str, bytes] | None = None,
    ) -> Output:
        words = tuple(argv)
        self.commands.append(words)
        name = words[0].rpartition("/")[2]
        if name in self.hangs:
            raise HostError(f"`{' '.join(words)}` did not answer in {timeout:g} s")
        if not self._is_there(words[0]) or name not in self.programs:
            return Output(words, 127, "", f"{words[0]}: No such file or directory")
        answer = self.programs[name](self, Call(name, words[1:], stdin, dict(instead or {})))
        if on_line is None:
            return Output(words, answer.status, answer.stdout, answer.stderr)
        for line in (answer.stdout + answer.stderr).splitlines():
            on_line(line)
        return Output(words, answer.status, answer.stdout + answer.stderr, "")

    def fetch(self, url: str, *, limit: int, proxy: str | None = None, ca_bundle: str | None = None) -> bytes:  # noqa: ARG002
        found = self.web.get(url, HostError(f"cannot fetch {url}: [Errno -2] Name or service not known"))
        if isinstance(found, Exception):
            raise found
        if len(found) > limit:
            raise HostError(f"{url} answered more than {limit} bytes: that is not what was asked for")
        return found

    def download(
        self, url: str, path: str, *, on_bytes: OnBytes | None, proxy: str | None = None, ca_bundle: str | None = None
    ) -> None:
        body = self.fetch(url, limit=1 << 40, proxy=proxy, ca_bundle=ca_bundle)
        half = body[: len(body) // 2]
        self.effect(f"download {path}", lambda: self._put(path, body, 0o600), lambda: self._put(path, half, 0o600))
        if on_bytes:
            on_bytes(len(body), len(body))

    # --- effects on files ---------------------------------------------------------------------------------------

    def write_atomic(self, path: str, content: bytes, *, stat: FileStat, temporary: str) -> None:
        node = Node("file", content, stat.mode, stat.uid, stat.gid, self._clock, "", dict(stat.xattrs))
        half = replace(node, content=content[: len(content) // 2], mode=0o600)
        with _explained("write", path):
            self._effect_put(f"prepare {temporary}", temporary, node, half)
            self.effect(f"write {path}", lambda: self._move(temporary, path))

    def write_stream(self, path: str, chunks: Iterable[bytes], *, stat: FileStat, temporary: str) -> None:
        self.write_atomic(path, b"".join(chunks), stat=stat, temporary=temporary)

    def append_durably(self, path: str, content: bytes) -> None:
        with _explained("write", path):
            old = self.files.read(path) if self.files.exists(path) else b""
            half = content[: len(content) // 2]
            self.effect(
                f"append {path}",
                lambda: self._put(path, old + content, 0o600),
                lambda: self._put(path, old + half, 0o600),
            )

    def remove(self, path: str) -> None:
        if self.files.node(path) is None:
            return
        with _explained("remove", path):
            self.effect(f"remove {path}", lambda: self.files.remove(path))

    def make_directory(self, path: str, *, mode: int, uid: int = 0, gid: int = 0) -> None:
        if self.files.node(path) is not None:
            return
        with _explained("make", path):
            node = Node("directory", mode=mode, uid=uid, gid=gid, mtime=self._clock)
            self.effect(f"mkdir {path}", lambda: self.files.put(path, node))

    def remove_directory(self, path: str) -> bool:
        node = self.files.node(path)
        if node is None:
            return True
        if node.kind != "directory" or self.files.names(path):
            return False
        self.effect(f"rmdir {path}", lambda: self.files.erase(path))
        return True

    def make_link(self, path: str, target: str, *, temporary: str) -> None:
        with _explained("link", path):
            self._effect_put(f"prepare {temporary}", temporary, Node("link", mode=0o777, target=target), None)
            self.effect(f"link {path}", lambda: self._move(temporary, path))

    @contextlib.contextmanager
    def lock(self, path: str, note: str) -> Iterator[None]:
        if path in self._locked:
            raise LockHeldError(
                f"another run holds the lock: {self._locked[path]}",
                hint=f"wait for it to end, then try again (lock: {path})",
            )
        self._put(path, note.encode(), 0o600)
        self._locked[path] = note
        try:
            yield
        finally:
            del self._locked[path]

    def _effect_put(self, name: str, path: str, node: Node, half: Node | None) -> None:
        torn = (lambda: self.files.put(path, half)) if half else None
        self.effect(name, lambda: self.files.put(path, node), torn)

    def _put(self, path: str, content: bytes, mode: int) -> None:
        self.files.put(path, Node("file", content, mode, mtime=self._clock))

    def _move(self, source: str, path: str) -> None:
        node = self.files.node(source)
        if node is None:
            raise AssertionError(f"{source} was never prepared")
        self.files.put(path, node)
        self.files.remove(source)

    def _is_there(self, program: str) -> bool:
        if program.startswith("/"):
            return self.files.exists(program)
        return any(self.files.exists(f"{folder}/{program}") for folder in PROGRAM_FOLDERS)


@contextlib.contextmanager
def _explained(verb: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(f"cannot {verb} {path}: {error.strerror}") from None
