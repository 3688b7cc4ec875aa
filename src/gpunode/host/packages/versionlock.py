"""The list of dnf 4's versionlock plugin: one pattern a line, and for each name that it locks only the versions it names are there."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from gpunode.host.packages.rpm import Rpm

PATH = "/etc/dnf/plugins/versionlock.list"
ALWAYS_THERE = True
MARK = "# Held by gpunode"


def any_lock(text: str) -> bool:
    """True when something is locked."""
    return bool(patterns(text))


def patterns(text: str) -> list[str]:
    """The locks in the list. Lines that begin with `!` exclude a version and hold nothing: they are left out."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and line[0] not in "#!"]


def holds(text: str, rpm: Rpm) -> bool:
    """True when a lock takes the package at the version that it has, and not at every other too."""
    return any(_takes(pattern, rpm) and not fnmatch.fnmatchcase(rpm.name, pattern) for pattern in patterns(text))


def forbids(text: str, rpm: Rpm) -> bool:
    """True when locks on the package's name take other versions, and not this one."""
    about = [pattern for pattern in patterns(text) if _is_about(pattern, rpm.name)]
    return bool(about) and not any(_takes(pattern, rpm) for pattern in about)


def with_held(text: str, rpms: Iterable[Rpm]) -> str:
    """The list with locks on these packages at their versions, each marked as gpunode's for whoever reads it."""
    start = text if not text or text.endswith("\n") else f"{text}\n"
    return start + "".join(f"{MARK}\n{_lock(rpm)}\n" for rpm in rpms)


def without(text: str, rpms: Iterable[Rpm]) -> str:
    """The list without the locks that name just these versions, as gpunode and `dnf versionlock add` write them; all else stays."""
    gone = {_lock(rpm) for rpm in rpms}
    kept: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.strip() not in gone:
            kept.append(line)
        elif kept and kept[-1].strip() == MARK:
            kept.pop()
    return "".join(kept)


def _lock(rpm: Rpm) -> str:
    return f"{rpm.name}-{_full(rpm.version)}.*"


def _full(version: str) -> str:
    return version if ":" in version else f"0:{version}"


def _takes(pattern: str, rpm: Rpm) -> bool:
    return any(fnmatch.fnmatchcase(form, pattern) for form in _forms(rpm))


def _is_about(pattern: str, name: str) -> bool:
    """An epoch tells where the name ends; without one a digit or a wildcard behind it must do."""
    if ":" in pattern:
        return fnmatch.fnmatchcase(name, pattern.partition(":")[0].rpartition("-")[0])
    follows = pattern.removeprefix(f"{name}-")[:1] if pattern.startswith(f"{name}-") else ""
    return follows.isdigit() or follows in ("*", "?", "[") or fnmatch.fnmatchcase(name, pattern)


def _forms(rpm: Rpm) -> Sequence[str]:
    """The ways in which a lock may name a package."""
    version, _, _ = rpm.version.rpartition("-")
    names = (rpm.name, rpm.bare, f"{rpm.name}-{_full(rpm.version)}")
    versions = (f"{rpm.name}-{version}", f"{rpm.name}-{version.rpartition(':')[2]}")
    return [*names, *(f"{name}.{rpm.architecture}" for name in names), *versions]
