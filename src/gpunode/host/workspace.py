"""A folder for as long as something is made in it: nothing of it is left, whatever happens."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from gpunode.errors import HostError
from gpunode.host.machine import Machine


class Workspace:
    """A folder that is this process's alone. Names are relative to it."""

    def __init__(self, machine: Machine, path: str) -> None:
        self.machine = machine
        self.path = path

    def make_folders(self, name: str) -> None:
        """Make a folder and those above it."""
        os.makedirs(f"{self.path}/{name}", exist_ok=True)

    def write(self, name: str, content: bytes) -> str:
        """Write a file, its folders too; returns its path."""
        path = f"{self.path}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def names(self, folder: str) -> list[str]:
        """The files in a folder, sorted; none where there is no such folder."""
        if not os.path.isdir(f"{self.path}/{folder}"):
            return []
        return sorted(entry.name for entry in os.scandir(f"{self.path}/{folder}") if entry.is_file())

    def place(self, source: str, name: str) -> str:
        """Have a file of the same file system here too, under a name; returns its path. A file from elsewhere is copied.

        A link is followed: a relative one would lead nowhere from here.
        """
        path = f"{self.path}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            os.link(os.path.realpath(source), path)
        except OSError:
            shutil.copyfile(source, path)
        return path


@contextmanager
def workspace(machine: Machine, beside: str) -> Iterator[Workspace]:
    """A workspace on the file system of the file `beside`: as much room is needed there anyway. Raises HostError."""
    folder = os.path.dirname(os.path.abspath(beside))
    try:
        path = tempfile.mkdtemp(prefix=".gpunode-bundle-", dir=folder)
    except OSError as error:
        raise HostError(f"cannot work in {folder}: {error.strerror}") from None
    try:
        yield Workspace(machine, path)
    except OSError as error:
        raise HostError(f"cannot work in {path}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(path, ignore_errors=True)
