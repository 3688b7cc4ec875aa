"""How the evidence is read: what a host does not tell, or tells so that it cannot be understood, is unknown and no error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from gpunode.errors import GpunodeError
from gpunode.findings.evidence import TextFile
from gpunode.host.reader import Reader

T = TypeVar("T")


def known(otherwise: T, question: Callable[..., T], *about: Any) -> T:
    """The answer, or `otherwise` where the host does not give one that can be understood."""
    try:
        return question(*about)
    except (GpunodeError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return otherwise


def understood(otherwise: T, host: Reader, path: str, question: Callable[..., T], *about: Any) -> T:
    """As `known`, of a file that was read: that it cannot be understood is told among what is not known."""
    try:
        return question(*about)
    except (GpunodeError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        host.note_unknown(path, f"{path} cannot be understood: {error}".splitlines()[0])
        return otherwise


def exists(host: Reader, path: str) -> bool | None:
    """Whether the path leads to something; None where that cannot be seen."""
    return known(None, host.exists, path)


def read_file(host: Reader, path: str) -> TextFile | None:
    """A text file; None where it is not there or cannot be read."""
    return known(None, _read, host, path)


def read_files(host: Reader, folder: str, pattern: str) -> tuple[TextFile, ...]:
    """The files of a folder whose names match a shell pattern, as far as they can be read."""
    found = (read_file(host, path) for path in glob(host, folder, pattern))
    return tuple(each for each in found if each)


def names(host: Reader, folder: str) -> list[str]:
    """What is in a folder; nothing where it is not there or cannot be read."""
    return known(list[str](), host.listdir, folder)


def glob(host: Reader, folder: str, pattern: str) -> list[str]:
    """Full paths in a folder whose names match a shell pattern."""
    return known(list[str](), host.glob, folder, pattern)


def text(host: Reader, path: str) -> str:
    """A file's text; empty where it is not there or cannot be read."""
    return (known(None, host.read, path) or b"").decode("utf-8", "replace")


def first_line(host: Reader, path: str) -> str:
    """The one line of one of the kernel's small files."""
    return text(host, path).partition("\n")[0].strip()


def _read(host: Reader, path: str) -> TextFile | None:
    content, stat = host.read(path), host.lstat(host.realpath(path))
    return TextFile(path, content.decode("utf-8", "replace"), stat.mtime) if content is not None and stat else None
