"""The machine as gpunode needs it: a few primitive readings and effects, behind one protocol.

`LocalMachine` (local.py) is the real one. The unit tests stand on one in memory, which can stop at any effect as a crash would.
Everything above speaks to `Reader` and `Writer`, never to this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, Literal, Protocol

Kind = Literal["file", "directory", "link", "other"]
OnLine = Callable[[str], None]
OnBytes = Callable[[int, int | None], None]


@dataclass(frozen=True)
class FileStat:
    """What `lstat` says of a path, reduced to what gpunode keeps and restores. `mtime` is in seconds since the epoch."""

    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: float = 0.0
    target: str = ""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """How a command ended. `returncode` 127 means that there is no such command."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """True when the command exited with status 0."""
        return self.returncode == 0

    def last_words(self, lines: int = 12) -> tuple[str, ...]:
        """The last lines that the command printed, standard error first: they nearly always say why it failed."""
        text = self.stderr.strip() or self.stdout.strip()
        return tuple(text.splitlines()[-lines:])


class Machine(Protocol):
    """Primitive readings and effects. Paths are absolute; effects on files are atomic."""

    python: tuple[str, ...]
    """The command that runs this product's own Python modules (`-m gpunode.probes.…`)."""
    module_path: str
    """Where that command finds them: its PYTHONPATH, and no other command's."""
    looking_at: str
    """The path that was asked last: where a look stands that does not come to its end. Empty while a command runs."""

    def read(self, path: str) -> bytes:
        """The content of a regular file, links followed. Raises OSError."""

    def stream(self, path: str) -> IO[bytes]:
        """A regular file opened for reading: one that may be too large to be read at once. Raises OSError."""

    def lstat(self, path: str) -> FileStat | None:
        """The path itself, links not followed; None when there is nothing."""

    def realpath(self, path: str) -> str:
        """The path with every link resolved, whether or not it exists."""

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty when there is no such directory."""

    def free_bytes(self, path: str) -> int:
        """Bytes that root can still write to the file system that holds the path."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout: float = 30.0,
        env: Mapping[str, str] | None = None,
        on_line: OnLine | None = None,
        instead: Mapping[str, bytes] | None = None,
    ) -> Output:
        """Run a command to its end. Raises HostError when it outlasts `timeout` seconds.

        `instead` holds contents by path or mark: where the command line, `stdin` or a later content names it, that content is read.
        """

    def fetch(self, url: str, *, limit: int, proxy: str | None = None, ca_bundle: str | None = None) -> bytes:
        """The body at an https address, at most `limit` bytes. Raises HostError."""

    def download(
        self, url: str, path: str, *, on_bytes: OnBytes | None, proxy: str | None = None, ca_bundle: str | None = None
    ) -> None:
        """Stream an https address into a file of gpunode's own state. Raises HostError."""

    def os_release(self) -> dict[str, str]:
        """The fields of os-release, keys in lower case; empty when there is none."""

    def architecture(self) -> str:
        """The machine's architecture in the kernel's word: `x86_64`, `aarch64`."""

    def kernel_release(self) -> str:
        """The running kernel's release, as `uname -r` prints it."""

    def effective_uid(self) -> int:
        """The user the process acts as; 0 is root."""

    def now(self) -> float:
        """Seconds since the epoch, by the machine's own clock."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""

    def write_atomic(self, path: str, content: bytes, *, stat: FileStat, temporary: str) -> None:
        """Replace a file in one step through `temporary` (same directory), durable when it returns."""

    def write_stream(self, path: str, chunks: Iterable[bytes], *, stat: FileStat, temporary: str) -> None:
        """As `write_atomic`, from chunks as they come; what they raise leaves the path as it was."""

    def append_durably(self, path: str, content: bytes) -> None:
        """Append to a file of gpunode's own state and wait until the disk has it."""

    def remove(self, path: str) -> None:
        """Remove a file or a link; silent when there is none."""

    def make_directory(self, path: str, *, mode: int, uid: int = 0, gid: int = 0) -> None:
        """Make one directory; silent when it is there."""

    def remove_directory(self, path: str) -> bool:
        """Remove a directory if it is empty; False when it is not."""

    def make_link(self, path: str, target: str, *, temporary: str) -> None:
        """Make or replace a symbolic link in one step."""

    def lock(self, path: str, note: str) -> AbstractContextManager[None]:
        """Hold an flock on the file while in the context. Raises LockHeldError naming the holder's note."""
