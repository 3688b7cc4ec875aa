"""Reading the machine. A Reader has no method that changes anything: check, plan and findings are given one."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from gpunode.errors import HostError
from gpunode.host.machine import FileStat, Machine, OnLine, Output
from gpunode.host.queries import is_read_only

T = TypeVar("T")
SEARCH_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/snap/bin")


@dataclass(frozen=True)
class Network:
    """How the host reaches the outside, from the profile: an http(s) proxy and a CA bundle in place of the system's."""

    proxy: str | None = None
    ca_bundle: str | None = None


class Reader:
    """Everything gpunode may learn from a host, and nothing by which it could change it."""

    def __init__(self, machine: Machine, network: Network | None = None) -> None:
        self._machine = machine
        self.network = network or Network()
        self._queries: dict[object, Any] = {}
        self._unknown: dict[str, str] = {}

    @property
    def unknown(self) -> tuple[str, ...]:
        """What was there and could not be learned, in words: files that cannot be read, commands that did not answer."""
        return tuple(self._unknown.values())

    def note_unknown(self, source: str, words: str) -> None:
        """Remember that a source (a path, a command) is there and tells nothing, and why."""
        self._unknown[source] = words

    def read(self, path: str) -> bytes | None:
        """A file's content; None when there is no such file. Raises HostError when there is one that cannot be read."""
        try:
            return self._machine.read(path)
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError):  # the last of /proc: it ended meanwhile
            return None
        except IsADirectoryError:
            raise HostError(f"{path} is a directory, not a file", hint=f"move {path} out of the way") from None
        except OSError as error:
            self.note_unknown(path, f"cannot read {path}: {error.strerror or error}")
            raise HostError(self._unknown[path]) from None

    def read_text(self, path: str) -> str | None:
        """A text file's content; None when there is none. Raises HostError when it is not UTF-8, saying where."""
        content = self.read(path)
        if content is None:
            return None
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise HostError(
                f"{path} line {line}: not UTF-8 (byte 0x{content[error.start]:02x})",
                hint="mend the file by hand; gpunode does not guess at its encoding",
            ) from None

    @contextmanager
    def stream(self, path: str) -> Iterator[IO[bytes]]:
        """A file opened for reading, one that may be too large to be read at once. Raises HostError when it cannot be."""
        try:
            with self._machine.stream(path) as file:
                yield file
        except OSError as error:
            raise HostError(f"cannot read {path}: {error.strerror or error}") from None

    def lstat(self, path: str) -> FileStat | None:
        """The path itself, links not followed; None when there is nothing."""
        return self._noted(path, self._machine.lstat)

    def exists(self, path: str) -> bool:
        """True when the path, links followed, leads to something."""
        return self.lstat(self._machine.realpath(path)) is not None

    def which(self, command: str) -> str | None:
        """The full path of a command on the host's search path; None when it has none."""
        if command.startswith("/"):
            return command if self.exists(command) else None
        return next((path for folder in SEARCH_PATH if self.exists(path := f"{folder}/{command}")), None)

    def realpath(self, path: str) -> str:
        """The path with every link resolved."""
        return self._machine.realpath(path)

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty when there is none."""
        return self._noted(path, self._machine.listdir)

    def glob(self, folder: str, pattern: str) -> list[str]:
        """Full paths in one folder whose names match a shell pattern."""
        return [f"{folder}/{name}" for name in self.listdir(folder or "/") if fnmatch.fnmatchcase(name, pattern)]

    def free_bytes(self, path: str) -> int:
        """Bytes that can still be written to the file system that holds the path."""
        return self._machine.free_bytes(path)

    def query(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout: float = 30.0,
        env: Mapping[str, str] | None = None,
        on_line: OnLine | None = None,
        instead: Mapping[str, bytes] | None = None,
    ) -> Output:
        """Run a command that is known to change nothing, and only such a one. Raises HostError when it does not answer in time.

        One that did not is not asked again until something changes: each further wait would be as long.
        `instead` holds contents by path: where the command line or `stdin` names the path, the command reads the content. So a
        candidate is tried without lying on the host.
        """
        if not is_read_only(argv):
            raise AssertionError(f"not a read-only command: {argv}")
        if argv[0] in self._unknown:
            raise HostError(self._unknown[argv[0]])
        try:
            return self._machine.run(argv, stdin=stdin, timeout=timeout, env=env, on_line=on_line, instead=instead)
        except HostError as error:
            self.note_unknown(argv[0], error.message)
            raise

    def query_once(self, argv: Sequence[str], *, stdin: str = "", instead: Mapping[str, bytes] | None = None) -> Output:
        """As `query`, remembered until something changes: several resources ask the same question."""
        key = (tuple(argv), stdin, tuple((instead or {}).items()))
        if key not in self._queries:
            self._queries[key] = self.query(argv, stdin=stdin, instead=instead)
        output: Output = self._queries[key]
        return output

    def remember(self, about: object, answer: Any) -> None:
        """Keep what one query told of several things, each under a name of its own, until something changes."""
        self._queries[about] = answer

    def recall(self, about: object) -> Any:
        """What was remembered; None when nothing was, or something has changed since."""
        return self._queries.get(about)

    def forget(self) -> None:
        """Drop remembered answers; called after each change."""
        self._queries.clear()
        self._unknown.clear()

    def probe(self, module: str, *args: str, timeout: float) -> dict[str, Any]:
        """Run one of gpunode's probes in a child process and return its JSON answer.

        A GPU that has fallen off the bus blocks its callers in the kernel: the child may hang, this process does not.
        """
        argv = [*self._machine.python, "-m", f"gpunode.probes.{module}", *args]
        try:
            output = self._machine.run(argv, timeout=timeout, env={"PYTHONPATH": self._machine.module_path})
        except HostError:
            return _probe_error("DID_NOT_ANSWER", f"did not answer in {timeout:g} s")
        try:
            answer = json.loads(output.stdout)
        except ValueError:
            return _probe_error("PROBE_DIED", " ".join(output.last_words(2)) or f"exit status {output.returncode}")
        return answer if isinstance(answer, dict) else _probe_error("PROBE_DIED", "answered no object")

    def _noted(self, path: str, look: Callable[[str], T]) -> T:
        try:
            return look(path)
        except HostError as error:
            self.note_unknown(path, error.message)
            raise

    def fetch(self, url: str, *, limit: int = 1 << 20) -> bytes:
        """A small document over https (a signing key). Raises HostError."""
        return self._machine.fetch(url, limit=limit, proxy=self.network.proxy, ca_bundle=self.network.ca_bundle)

    def os_release(self) -> dict[str, str]:
        """The fields of os-release, keys in lower case."""
        return self._machine.os_release()

    def architecture(self) -> str:
        """The machine's architecture in the kernel's word."""
        return self._machine.architecture()

    def kernel_release(self) -> str:
        """The running kernel's release."""
        return self._machine.kernel_release()

    def is_root(self) -> bool:
        """True when the process may change the host."""
        return self._machine.effective_uid() == 0

    def wait(self, seconds: float) -> None:
        """Let time pass, before asking again."""
        self.forget()
        self._machine.wait(seconds)

    def now(self) -> float:
        """Seconds since the epoch by the host's clock."""
        return self._machine.now()


def _probe_error(name: str, message: str) -> dict[str, Any]:
    return {"error": {"code": None, "name": name, "message": message, "call": ""}}
