"""What containerd makes of its files, before and after: only what was meant may differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gpunode.formats.containerd_releases import Knowledge, knowledge
from gpunode.formats.containerd_repairs import VERSION_MIXED
from gpunode.formats.engine_config import ConfigFiles, Edited, Reason
from gpunode.formats.toml_data import MISSING, Path, leaves, parse, same

# One effective setting that differs: its path, its value before and after (None where it is absent).
Difference = tuple[Path, Any, Any]

RUNTIMES = [("cri", "containerd", key) for key in ("runtimes", "default_runtime", "untrusted_workload_runtime")]


def effective_difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """What differs between two parsed `containerd config dump` documents."""
    old, new = dict(leaves(before)), dict(leaves(after))
    paths = [*old, *(path for path in new if path not in old)]
    return [
        (path, old.get(path), new.get(path))
        for path in paths
        if not same(old.get(path, MISSING), new.get(path, MISSING))
    ]


def unintended(differences: Iterable[Difference], edited: Edited, files: ConfigFiles) -> list[Difference]:
    """The effective differences that none of the edit's reasons accounts for.

    containerd prints every file in its own newest version: sections are compared by what they are, not by their names. What a
    runtime's entry does not say and what it says in vain are the same: an entry that is listed for the first time lacks settings.
    """
    meant = _Meant(edited.reasons, files)
    return [each for each in differences if not meant.accounts_for(each)]


def without_effect(after: Mapping[str, Any], edited: Edited, version: str) -> list[Reason]:
    """The reasons whose keys of the CRI section are not as wanted in the parsed dump of afterwards.

    Nothing can be said of a CRI plugin that stays disabled, nor of options where this release's dump leaves them out.
    """
    known = knowledge()
    if known.cri_plugins & set(after.get("disabled_plugins", [])):
        return []
    effective = {_unversioned(path, known): value for path, value in leaves(after)}
    told = known.release(version).dumps_options
    found = []
    for reason in edited.reasons:
        path = _unversioned(reason.path, known)
        is_key = path[0:1] == ("cri",) and len(path) > 1
        if is_key and (told or "options" not in path) and not same(effective.get(path, MISSING), reason.wanted):
            found.append(reason)
    return found


class _Meant:
    """What an edit means to change."""

    def __init__(self, reasons: Iterable[Reason], files: ConfigFiles) -> None:
        self.known: Knowledge = knowledge()
        self.wanted = {_unversioned(reason.path, self.known): reason.wanted for reason in reasons}
        mixed = [reason.path for reason in reasons if reason.repair == VERSION_MIXED]
        self.renamed = [path for path in mixed if len(path) == 2 and path[0] == "plugins"]
        # A file that is read as what it was meant to be for the first time says more than its reasons do.
        texts = [file.text or "" for file in (files.main, *files.imported)] if mixed else []
        self.said = [(_unversioned(path, self.known), value) for text in texts for path, value in leaves(parse(text))]
        self.off = [str(name) for path, names in self.said if path == ("disabled_plugins",) for name in names]

    def accounts_for(self, difference: Difference) -> bool:
        full_path, found, after = difference
        path = _unversioned(full_path, self.known)
        if path == ("disabled_plugins",):
            return path in self.wanted and after == [each for each in found or [] if each not in self.known.cri_plugins]
        if path in self.wanted and same(self.wanted[path], after):
            return True
        if path in (("imports",), ("version",)):
            return True  # where it is read from, and what the dump calls itself
        if any(each == path and same(value, after) for each, value in self.said):
            return True
        if self.known.cri_plugins & set(full_path[1:2]) and path[0] != "cri" and self._is_said_of_cri(after):
            return True  # version 2's one section is several in version 3
        if after is None and (full_path[:2] in self.renamed or set(full_path[1:2]) & set(self.off)):
            return True
        if found == {} and any(each[: len(path)] == path for each in self.wanted):
            return True
        was_off = ("disabled_plugins",) in self.wanted and self.known.cri_plugins & set(full_path[1:2])
        if was_off and (found is None or after is None):
            return True  # CRI was off: its section was absent, or stood there under the name that the file has
        return self._says_the_same(path, found, after)

    def _is_said_of_cri(self, value: Any) -> bool:
        telling = isinstance(value, (str, list)) and bool(value)
        return telling and any(path[0] == "cri" and same(each, value) for path, each in self.said)

    def _says_the_same(self, path: Path, found: Any, after: Any) -> bool:
        if path[:3] not in RUNTIMES or path in self.wanted:
            return False
        implied = self.known.implied.get(path[-1])
        return bool((found or implied or None) == (after or implied or None))


def _unversioned(path: Path, known: Knowledge) -> Path:
    """The path with one name for a section that has another in every config version."""
    for layout in known.layouts.values():
        for name, section in (("cri", layout.cri), ("linux_shim", layout.linux_shim)):
            if path[: len(section)] == section:
                return (name, *path[len(section) :])
    return path
