"""dnf 5's list of locks, versionlock.toml: entries of a name and conditions, and for each name only what an entry takes is there.

Format: dnf5-versionlock(8). dnf itself dies of a list that is not TOML, and drops all comments when it writes one.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import Any

from gpunode.errors import HostError
from gpunode.formats import toml_data
from gpunode.host.packages.rpm import Rpm, compare

PATH = "/etc/dnf/versionlock.toml"
ALWAYS_THERE = False
MARK = "Held by gpunode"
HEAD = 'version = "1.0"\n'
# dnf leaves this where it has taken out the last entry; none can follow it.
NO_ENTRIES = re.compile(r"^packages\s*=\s*\[\s*\]\s*\n", re.MULTILINE)
# Where an entry begins: with the empty line above it, where there is one.
ENTRY = re.compile(r"^(?=\n\[\[packages\]\])|(?<!\n\n)^(?=\[\[packages\]\])", re.MULTILINE)
COMMENT = re.compile(r"^#.*\n", re.MULTILINE)

Entry = dict[str, Any]
# By the sign of the comparison.
ORDERS: dict[str, Callable[[int], bool]] = {
    "=": lambda sign: sign == 0,
    "==": lambda sign: sign == 0,
    "!=": lambda sign: sign != 0,
    "<": lambda sign: sign < 0,
    "<=": lambda sign: sign <= 0,
    ">": lambda sign: sign > 0,
    ">=": lambda sign: sign >= 0,
}
UPPER_BOUNDS = ("=", "==", "<", "<=")


def any_lock(text: str) -> bool:
    """True when something is locked. Raises HostError when the list is not TOML."""
    return bool(_entries(text))


def holds(text: str, rpm: Rpm) -> bool:
    """True when an entry takes the package at its version, and not at every newer one. Raises HostError as `any_lock`."""
    return any(_takes(entry, rpm) and _is_bounded(entry) for entry in _entries(text) if _is_about(entry, rpm))


def forbids(text: str, rpm: Rpm) -> bool:
    """True when entries are about the package's name, and none takes this version. Raises HostError as `any_lock`."""
    about = [entry for entry in _entries(text) if _is_about(entry, rpm)]
    return bool(about) and not any(_takes(entry, rpm) for entry in about)


def with_held(text: str, rpms: Iterable[Rpm]) -> str:
    """The list with an entry for each package at its version, as `dnf versionlock add` writes it, marked as gpunode's."""
    start = NO_ENTRIES.sub("", text) or HEAD
    start = start if start.endswith("\n") else f"{start}\n"
    return start + "".join(_entry(rpm) for rpm in rpms)


def without(text: str, rpms: Iterable[Rpm]) -> str:
    """The list without the entries that name just these versions, as gpunode and `dnf versionlock add` write them; all else stays.

    Empty when nothing is left but its head: a fresh host has no list.
    """
    gone = [lock for rpm in rpms for lock in _locks(rpm)]
    kept = "".join("".join(COMMENT.findall(part)) if _bare(part) in gone else part for part in ENTRY.split(text))
    return "" if kept.strip() == HEAD.strip() else kept


def _entry(rpm: Rpm) -> str:
    lines = ["", "[[packages]]", f'name = "{rpm.name}"', f'comment = "{MARK}"', ""]
    lines += ["[[packages.conditions]]", 'key = "evr"', 'comparator = "="', f'value = "{rpm.version}"', ""]
    return "\n".join(lines)


def _locks(rpm: Rpm) -> list[Entry]:
    """The entry as data, in both forms in which an epoch of 0 is written."""
    versions = {rpm.version, rpm.version if ":" in rpm.version else f"0:{rpm.version}"}
    conditions = ({"key": "evr", "comparator": "=", "value": version} for version in versions)
    return [{"name": rpm.name, "conditions": [condition]} for condition in conditions]


def _bare(part: str) -> Entry:
    """An entry's text as data, without its comment; nothing for what is no single entry."""
    if not ENTRY.match(part):
        return {}
    found = _entries(part)
    return {key: value for key, value in found[0].items() if key != "comment"} if len(found) == 1 else {}


def _entries(text: str) -> list[Entry]:
    try:
        found = toml_data.parse(text).get("packages", [])
    except toml_data.TomlError as error:
        raise HostError(
            f"{PATH} is not TOML: {error}", hint="dnf cannot work with it either: mend it, or move it aside"
        ) from None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _conditions(entry: Entry) -> list[Entry]:
    found = entry.get("conditions", [])
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _is_about(entry: Entry, rpm: Rpm) -> bool:
    return fnmatch.fnmatchcase(rpm.name, str(entry.get("name", "")))


def _takes(entry: Entry, rpm: Rpm) -> bool:
    return all(_is_true(each, rpm) for each in _conditions(entry))


def _is_bounded(entry: Entry) -> bool:
    """Whether a newer version may be outside of it: one of an excluded version alone, or of a lowest one, holds nothing back."""
    return any(each.get("key") != "arch" and each.get("comparator") in UPPER_BOUNDS for each in _conditions(entry))


def _is_true(condition: Entry, rpm: Rpm) -> bool:
    """An operator that dnf does not know is dnf's to refuse; here it takes nothing."""
    comparator, value = str(condition.get("comparator", "")), str(condition.get("value", ""))
    return comparator in ORDERS and ORDERS[comparator](compare(_field(condition, rpm), value))


def _field(condition: Entry, rpm: Rpm) -> str:
    """What a condition speaks of. One of a version without a release takes all releases of it, an unknown architecture is any."""
    value = str(condition.get("value", ""))
    epoch, _, rest = rpm.version.rpartition(":")
    if condition.get("key") == "epoch":
        return epoch or "0"
    if condition.get("key") == "arch":
        return rpm.architecture or value
    return rpm.version if "-" in value else f"{epoch or '0'}:{rest.rpartition('-')[0]}"
