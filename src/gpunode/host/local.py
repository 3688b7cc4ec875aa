"""The machine this process runs on. With `state.py`'s paths, the only place that opens its files or runs its commands."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import stat as stat_module
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO

from gpunode.errors import HostError, LockHeldError
from gpunode.host import commands
from gpunode.host import download as downloads
from gpunode.host.machine import FileStat, Kind, OnBytes, OnLine, Output
from gpunode.host.safety import others_can_write, trusted_ids

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"
LOCK_WAIT_SECONDS = 2.0


class LocalMachine:
    """Machine for the host itself. Commands get a small, fixed environment: neither locale nor a stray variable decides."""

    def __init__(self) -> None:
        # The probes are run by this interpreter with this process's module path: it may be a bundle of its own.
        self.python: tuple[str, ...] = (sys.executable, "-B")
        self.module_path = os.pathsep.join(path for path in sys.path if path)
        self.looking_at = ""

    def read(self, path: str) -> bytes:
        self.looking_at = path
        with open(path, "rb") as file:
            return file.read()

    def stream(self, path: str) -> IO[bytes]:
        self.looking_at = path
        return open(path, "rb")

    def lstat(self, path: str) -> FileStat | None:
        self.looking_at = path
        try:
            return describe_stat(path)
        except OSError as error:
            raise HostError(f"cannot look at {path}: {error.strerror}") from None

    def realpath(self, path: str) -> str:
        self.looking_at = path
        return os.path.realpath(path)

    def listdir(self, path: str) -> list[str]:
        self.looking_at = path
        try:
            return sorted(os.listdir(path))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise HostError(f"cannot list {path}: {error.strerror}") from None

    def free_bytes(self, path: str) -> int:
        while not os.path.exists(path):
            path = os.path.dirname(path)
        found = os.statvfs(path)
        return found.f_bfree * found.f_frsize

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
        self.looking_at = ""  # a command has a deadline of its own
        environment = _environment(env)
        if on_line is not None:
            return commands.run_streaming(argv, timeout=timeout, env=environment, on_line=on_line)
        return commands.run(argv, stdin=stdin, timeout=timeout, env=environment, instead=instead)

    def fetch(self, url: str, *, limit: int, proxy: str | None = None, ca_bundle: str | None = None) -> bytes:
        self.looking_at = ""  # so has a server
        return downloads.fetch(url, limit=limit, proxy=proxy, ca_bundle=ca_bundle)

    def download(
        self, url: str, path: str, *, on_bytes: OnBytes | None, proxy: str | None = None, ca_bundle: str | None = None
    ) -> None:
        downloads.download(url, path, on_bytes=on_bytes, proxy=proxy, ca_bundle=ca_bundle)

    def os_release(self) -> dict[str, str]:
        import distro

        return dict(distro.LinuxDistribution(include_lsb=False, include_uname=False).os_release_info())

    def architecture(self) -> str:
        return platform.machine()

    def kernel_release(self) -> str:
        return os.uname().release

    def effective_uid(self) -> int:
        return os.geteuid()

    def now(self) -> float:
        return time.time()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def write_atomic(self, path: str, content: bytes, *, stat: FileStat, temporary: str) -> None:
        self.write_stream(path, (content,), stat=stat, temporary=temporary)

    def write_stream(self, path: str, chunks: Iterable[bytes], *, stat: FileStat, temporary: str) -> None:
        require_safe_folder(os.path.dirname(path))
        with _explained("write", path), _gone_on_failure(temporary):
            self.remove(temporary)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fchown(file.fileno(), stat.uid, stat.gid)
                os.fchmod(file.fileno(), stat.mode)
                for name, value in stat.xattrs.items():
                    os.setxattr(file.fileno(), name, value)
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path)

    def append_durably(self, path: str, content: bytes) -> None:
        with _explained("write", path):
            fresh = not os.path.exists(path)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if fresh:
                _sync_folder(path)

    def remove(self, path: str) -> None:
        with _explained("remove", path), contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def make_directory(self, path: str, *, mode: int, uid: int = 0, gid: int = 0) -> None:
        with _explained("make", path), contextlib.suppress(FileExistsError):
            require_safe_folder(os.path.dirname(path) or ".")
            os.mkdir(path, mode)
            os.chmod(path, mode)  # the umask has no say
            os.chown(path, uid, gid, follow_symlinks=False)
            _sync_folder(path)

    def remove_directory(self, path: str) -> bool:
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def make_link(self, path: str, target: str, *, temporary: str) -> None:
        require_safe_folder(os.path.dirname(path))
        with _explained("link", path), _gone_on_failure(temporary):
            self.remove(temporary)
            os.symlink(target, temporary)
            os.replace(temporary, path)
            _sync_folder(path)

    @contextlib.contextmanager
    def lock(self, path: str, note: str) -> Iterator[None]:
        with _explained("lock", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _take_lock(descriptor, path)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note.encode(), 0)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)


def describe_stat(path: str) -> FileStat | None:
    """What lies at a path of this machine, links not followed; None when nothing does. Raises OSError."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    kind = _kind(found.st_mode)
    return FileStat(
        kind=kind,
        mode=stat_module.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        size=found.st_size,
        mtime=found.st_mtime,
        target=os.readlink(path) if kind == "link" else "",
        xattrs=_xattrs(path) if kind == "file" else {},
    )


def require_safe_folder(folder: str) -> None:
    """Refuse to write where somebody else could swap a path under root's hands.

    Every folder on the way must belong to root and be writable by nobody else. Raises HostError naming the first that is not.
    """
    if os.geteuid() != 0:
        return
    trusted = _trusted_groups()
    parts = os.path.realpath(folder).split("/")
    for count in range(1, len(parts) + 1):
        path = "/".join(parts[:count]) or "/"
        found = os.lstat(path)
        if others_can_write(found.st_mode, found.st_uid, found.st_gid, trusted):
            raise HostError(
                f"refusing to write below {path}: others than root can change it",
                hint=f"make {path} root's own and writable by root alone, or point the profile elsewhere",
            )


def _trusted_groups() -> frozenset[int]:
    try:
        with open("/etc/group", encoding="utf-8", errors="replace") as file:
            return trusted_ids(file.read())
    except OSError:
        return frozenset()


def _kind(mode: int) -> Kind:
    if stat_module.S_ISREG(mode):
        return "file"
    if stat_module.S_ISDIR(mode):
        return "directory"
    return "link" if stat_module.S_ISLNK(mode) else "other"


def _xattrs(path: str) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(path, name) for name in os.listxattr(path)}
    except OSError:  # the file system keeps none
        return {}


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    base = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}
    return {**base, **(extra or {})}


@contextlib.contextmanager
def _gone_on_failure(temporary: str) -> Iterator[None]:
    """What was prepared beside a file and could not take its place is not left there."""
    try:
        yield
    except Exception:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def _explained(verb: str, path: str) -> Iterator[None]:
    """Turn an OSError into one sentence that names the path and what to do about the common causes."""
    hints = {
        "No space left on device": "free some space on that file system, then run the same command again",
        "Read-only file system": "the file system is mounted read-only; remount it writable",
        "Operation not permitted": f"is the file immutable? see `lsattr -d {path}`",
        "Permission denied": "run gpunode as root",
    }
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise HostError(f"cannot {verb} {path}: {reason}", hint=hints.get(reason, "")) from None


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_lock(descriptor: int, path: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # The holder writes its note just after it took the lock: give it a moment before reading it.
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        note = b""
        while not note and time.monotonic() < deadline:
            note = os.pread(descriptor, 4096, 0)
            time.sleep(0.01)
        holder = note.decode(errors="replace") or "a process that has not said its name"
        raise LockHeldError(
            f"another run holds the lock: {holder}", hint=f"wait for it to end, then try again (lock: {path})"
        ) from None
