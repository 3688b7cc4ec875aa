"""Where gpunode keeps what it must not lose: one folder, root's alone, laid out here and nowhere else."""

from __future__ import annotations

import hashlib

from gpunode.errors import HostError
from gpunode.host.machine import FileStat, Machine

STATE = "/var/lib/gpunode"
RUNS = f"{STATE}/runs"
STORE = f"{STATE}/store"
DOWNLOADS = f"{STATE}/downloads"
LOCK = f"{STATE}/lock"

PRIVATE_FILE = FileStat(kind="file", mode=0o600)


def prepare(machine: Machine) -> None:
    """Make the state folders (0700) where they are missing."""
    for folder in (STATE, RUNS, STORE, DOWNLOADS):
        if machine.lstat(folder) is None:
            machine.make_directory(folder, mode=0o700)


class Store:
    """Content-addressed copies of everything gpunode replaced: `store/<sha256>`. Nothing in it is ever changed."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def put(self, content: bytes) -> str:
        """Keep the content, durably, and return its sha256."""
        digest = hashlib.sha256(content).hexdigest()
        path = f"{STORE}/{digest}"
        if self._machine.lstat(path) is None:
            self._machine.write_atomic(path, content, stat=PRIVATE_FILE, temporary=f"{path}.new")
        return digest

    def get(self, digest: str) -> bytes:
        """The content kept under a sha256. Raises HostError when it is gone or damaged."""
        path = f"{STORE}/{digest}"
        try:
            content = self._machine.read(path)
        except OSError as error:
            raise HostError(f"the backup {path} cannot be read: {error.strerror or error}") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise HostError(f"the backup {path} is damaged: its content is not what its name says")
        return content
