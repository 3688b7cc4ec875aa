"""What Docker's and CRI-O's configurations have in common: a runtime's entry, and how two states of a configuration differ."""

from __future__ import annotations

from typing import Any

from gpunode.formats.toml_data import MISSING, Path, leaves, lookup, same

OTHER_BINARY = "runtime-other-binary"
"""The finding: a runtime of the wanted name calls another program."""

CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")


def difference(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[Path, Any, Any]]:
    """Each value that differs, with what it was and what it is; None for absent."""
    old, new = dict(leaves(before)), dict(leaves(after))
    paths = [path for path in {**old, **new} if not same(old.get(path, MISSING), new.get(path, MISSING))]
    # An empty object or null that takes in its first key said nothing of its own.
    filled = [path for path in paths if old.get(path, MISSING) in ({}, None) and isinstance(lookup(after, path), dict)]
    return [(path, old.get(path), new.get(path)) for path in paths if path not in filled]
