"""Which files an import of containerd's means, be they on a host, given by an operator, or yet to be written.

containerd joins a relative path to the folder of the file that has it, cleans the result, and expands it in Go's way where it has a
star; releases that do not are told apart in catalog/containerd.toml.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from posixpath import normpath


def patterns(path: str, imports: object, *, relative: bool) -> list[str]:
    """The imports of the file at `path`, as absolute paths; with `relative` false, a relative one names nothing."""
    listed = [each for each in imports if isinstance(each, str)] if isinstance(imports, list) else []
    folder = path.rpartition("/")[0]
    return [
        normpath(f"{folder}/{each}" if not each.startswith("/") else each)
        for each in listed
        if relative or each[:1] == "/"
    ]


def is_wildcard(pattern: str) -> bool:
    """Whether containerd expands it: only a star makes it do so."""
    return "*" in pattern


def matching(pattern: str, candidates: Iterable[str]) -> list[str]:
    """Those of the candidates that a pattern means, in containerd's order: folder by folder, by name. A star reaches over no slash."""
    if not is_wildcard(pattern):
        return [each for each in candidates if each == pattern]
    wanted = pattern.replace("[^", "[!").split("/")  # Go's word for "none of these"
    paths = (each.split("/") for each in candidates)
    met = (parts for parts in paths if len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted)))
    return ["/".join(parts) for parts in sorted(met)]
