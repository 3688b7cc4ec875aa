"""A host's files below a folder: a mounted disk, an unpacked backup, a container's view of its host. Nothing of it is run."""

from __future__ import annotations

import os
import platform
import re
import stat as stat_module
import time
from collections.abc import Sequence
from typing import IO, NoReturn

from gpunode.errors import HostError, UsageError
from gpunode.host import commands
from gpunode.host.local import PATH, describe_stat
from gpunode.host.machine import FileStat, Output

LINKS_AT_MOST = 40
DPKG = "/var/lib/dpkg"
RUNNING_KERNEL = "/proc/sys/kernel/osrelease"
MACHINES = {b"\x3e\x00": "x86_64", b"\xb7\x00": "aarch64"}
"""ELF's e_machine of a little-endian program, at byte 18."""
SHELLS = ("/bin/sh", "/usr/bin/env")
MOUNTS = {"/proc": "/proc/stat", "/sys": "/sys/bus/pci", "/dev": "/dev/null", "/run": "/run/systemd"}
"""What the kernel and services of a running host show as files, and by what it is known to be in the tree."""


class TreeMachine:
    """Machine for files below `root`. A link in it leads to a place in it, wherever it points.

    Of commands it answers `dpkg-query` alone, which reads the tree's database; all others are not there. It has no effects.
    """

    python: tuple[str, ...] = ("python3",)
    module_path = ""

    def __init__(self, root: str) -> None:
        self.looking_at = root
        self.root = os.path.realpath(root)
        if not os.path.isdir(self.root):
            raise UsageError(f"{root} is no directory", hint="name the folder in which a host's /etc and /usr lie")
        if not os.path.isdir(self._place("/etc")):
            raise UsageError(
                f"{root} has no etc: it is not the root of a host", hint="name the folder that holds etc and usr"
            )

    def unseen(self) -> tuple[str, ...]:
        """Of what only a running host has, the places that this tree does not show."""
        return tuple(folder for folder, sign in MOUNTS.items() if self.lstat(sign) is None)

    def read(self, path: str) -> bytes:
        with self.stream(path) as file:
            return file.read()

    def stream(self, path: str) -> IO[bytes]:
        """A regular file; anything else would be a device or a pipe, and could block."""
        place = self._place(path)
        if stat_module.S_ISDIR(os.stat(place, follow_symlinks=False).st_mode):
            raise IsADirectoryError(21, os.strerror(21), path)
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat_module.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(22, "not a regular file", path)
        return os.fdopen(descriptor, "rb")

    def lstat(self, path: str) -> FileStat | None:
        folder, _, name = path.rstrip("/").rpartition("/")
        try:
            return describe_stat(f"{self._place(folder or '/')}/{name}")
        except OSError as error:
            raise HostError(f"cannot look at {path} in {self.root}: {error.strerror}") from None

    def realpath(self, path: str) -> str:
        return self._resolved(path)

    def listdir(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self._place(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise HostError(f"cannot list {path} in {self.root}: {error.strerror}") from None

    def free_bytes(self, _path: str) -> int:
        found = os.statvfs(self.root)
        return found.f_bfree * found.f_frsize

    def run(self, argv: Sequence[str], *, stdin: str = "", timeout: float = 30.0, **_options: object) -> Output:
        if argv[0] != "dpkg-query" or self.lstat(f"{DPKG}/status") is None:
            return Output(tuple(argv), 127, "", f"{argv[0]}: a tree of files is looked at, and runs nothing")
        words = [argv[0], f"--admindir={self._place(DPKG)}", *argv[1:]]
        self.looking_at = ""  # a command has a deadline of its own
        return commands.run(words, stdin=stdin, timeout=timeout, env={"PATH": PATH, "LC_ALL": "C.UTF-8"})

    def os_release(self) -> dict[str, str]:
        """Empty where the tree has none: without a path, distro would read that of the host we are on."""
        import distro

        places = [self._place(f"{folder}/os-release") for folder in ("/etc", "/usr/lib")]
        path = next(filter(os.path.exists, places), None)
        if path is None:
            return {}
        return dict(
            distro.LinuxDistribution(include_lsb=False, include_uname=False, os_release_file=path).os_release_info()
        )

    def architecture(self) -> str:
        for path in SHELLS:
            try:
                head = self.read(path)[:20]
            except OSError:
                continue
            if head[:4] == b"\x7fELF" and head[18:20] in MACHINES:
                return MACHINES[head[18:20]]
        return platform.machine()

    def kernel_release(self) -> str:
        """The running kernel where the tree has a /proc, else the newest installed: the next boot's, most likely."""
        try:
            return self.read(RUNNING_KERNEL).decode().strip()
        except OSError:
            return max(self.listdir("/lib/modules"), key=_natural, default="")

    def effective_uid(self) -> int:
        return os.geteuid()

    def now(self) -> float:
        return time.time()

    def _refuse(self, *_args: object, **_options: object) -> NoReturn:
        raise HostError(f"{self.root} is a tree of files, which is only looked at")

    fetch = download = wait = lock = _refuse
    write_atomic = write_stream = append_durably = remove = make_directory = remove_directory = make_link = _refuse

    def _place(self, path: str) -> str:
        self.looking_at = self.root.rstrip("/") + path
        return self.root.rstrip("/") + self._resolved(path)

    def _resolved(self, path: str) -> str:
        """The path within the tree, every link followed as a process would that has the tree as its root."""
        done, waiting, links = "", [part for part in reversed(path.split("/")) if part not in ("", ".")], 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            target = _target(f"{self.root.rstrip('/')}{done}/{part}")
            if target is None:
                done = f"{done}/{part}"
                continue
            links += 1
            if links > LINKS_AT_MOST:
                raise HostError(f"{path} in {self.root}: too many links that lead to one another")
            done = "" if target.startswith("/") else done
            waiting += [each for each in reversed(target.split("/")) if each not in ("", ".")]
        return done or "/"


def _target(place: str) -> str | None:
    try:
        return os.readlink(place)
    except OSError:  # no link, or nothing at all
        return None


def _natural(release: str) -> list[tuple[int, str]]:
    """6.12 comes after 6.9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", release)]
