"""Server-side apply: who owns which field, conflicts between managers, and the removal of fields a manager drops."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

from gpunode.lab.kubernetes import field_sets
from gpunode.lab.kubernetes.clock import now
from gpunode.lab.kubernetes.errors import ApiError
from gpunode.lab.kubernetes.field_sets import Path
from gpunode.lab.kubernetes.kinds import Object


@dataclass(frozen=True)
class Manager:
    """One entry of `managedFields`, without its fields."""

    name: str
    operation: str
    subresource: str = ""


Owners = dict[Manager, frozenset[Path]]


def owners(body: Object) -> Owners:
    """The owners that the object's `managedFields` record."""
    return {_manager(entry): field_sets.decode(entry["fieldsV1"]) for entry in _entries(body)}


def _entries(body: Object) -> list[Object]:
    entries: list[Object] = body.get("metadata", {}).get("managedFields", [])
    return entries


def _manager(entry: Object) -> Manager:
    return Manager(entry["manager"], entry["operation"], entry.get("subresource", ""))


def _record(body: Object, live: Object, wanted: Owners) -> None:
    """Write `managedFields`; an entry whose fields did not change keeps its time."""
    before, known = owners(live), {_manager(entry): entry for entry in _entries(live)}
    entries = []
    for manager, paths in wanted.items():
        if not paths:
            continue
        if before.get(manager) == paths:
            entries.append(known[manager])
            continue
        entry: Object = {"manager": manager.name, "operation": manager.operation, "apiVersion": body["apiVersion"]}
        entry |= {"time": now(), "fieldsType": "FieldsV1", "fieldsV1": field_sets.encode(paths)}
        if manager.subresource:
            entry["subresource"] = manager.subresource
        entries.append(entry)
    body["metadata"]["managedFields"] = entries


def record_update(live: Object, body: Object, manager: Manager) -> None:
    """Give the fields that differ between `live` and `body` to the manager, and take them from all others."""
    before, after = field_sets.leaves(live), field_sets.leaves(body)
    half = manager.subresource == "status"
    changed = frozenset(path for path in _changed(before, after) if (path[0] == "f:status") == half)
    gone = before.keys() - after.keys()
    wanted = {owner: paths - changed - gone for owner, paths in owners(live).items()}
    wanted[manager] = wanted.get(manager, frozenset()) | changed
    _record(body, live, wanted)


def _changed(before: dict[Path, Any], after: dict[Path, Any]) -> frozenset[Path]:
    return frozenset(path for path, value in after.items() if path not in before or before[path] != value)


def apply(live: Object, applied: Object, manager: Manager, *, force: bool) -> Object:
    """The object after a server-side apply; raises ApiError (409) naming the managers in the way unless `force`."""
    applied_paths = frozenset(field_sets.leaves(applied))
    merged: Object = field_sets.merge(copy.deepcopy(live), copy.deepcopy(applied))
    changed = _changed(field_sets.leaves(live), field_sets.leaves(merged))
    wanted = owners(live)
    conflicts = {other: paths & changed for other, paths in wanted.items() if other != manager and paths & changed}
    if conflicts and not force:
        raise _conflict(conflicts, applied["apiVersion"])
    for other, paths in conflicts.items():
        wanted[other] -= paths
    others = frozenset().union(*(paths for other, paths in wanted.items() if other != manager))
    for path in _droppable(wanted.get(manager, frozenset()) - applied_paths - others, others):
        field_sets.remove(merged, path)
    wanted[manager] = applied_paths
    _record(merged, live, wanted)
    return merged


def _droppable(dropped: frozenset[Path], others: frozenset[Path]) -> list[Path]:
    """Fields to take out, outermost first; an item of which another manager owns a part stays, with its key."""
    held = {path[:depth] for path in others for depth in range(1, len(path))}
    keys = {(*item, f"f:{key}") for item in held if item[-1][0] == "k" for key in json.loads(item[-1][2:])}
    return sorted(dropped - held - keys, key=len)


def _conflict(conflicts: dict[Manager, frozenset[Path]], version: str) -> ApiError:
    causes = []
    groups: dict[str, list[str]] = {}
    for manager, paths in conflicts.items():
        subresource = f' with subresource "{manager.subresource}"' if manager.subresource else ""
        who = f'"{manager.name}"{subresource} using {version}'
        for path in sorted(paths):
            field = field_sets.describe(path)
            groups.setdefault(who, []).append(field)
            causes.append({"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": field})
    count = f"{len(causes)} conflict{'s' if len(causes) > 1 else ''}"
    if len(causes) == 1:
        text = f"{causes[0]['message']}: {causes[0]['field']}"
    else:
        text = "\n".join(
            f"conflicts with {who}:\n" + "\n".join(f"- {field}" for field in fields) for who, fields in groups.items()
        )
    return ApiError(409, "Conflict", f"Apply failed with {count}: {text}", {"causes": causes})
