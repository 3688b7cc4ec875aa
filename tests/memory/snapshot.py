"""What a rollback must bring back: everything of a machine but caches, logs and gpunode's own state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory import apt

if TYPE_CHECKING:
    from memory.machine import MemoryMachine

EXCLUDED = ("/var/lib/gpunode", "/var/lib/apt", "/var/log", "/etc/ld.so.cache")
SERVER_FIELDS = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation")


def snapshot(machine: MemoryMachine, *, running: bool = True, marks: bool = True) -> dict[str, Any]:
    """Files, packages, marks, units and objects by name. `running` says whether units' activity and loaded modules count, `marks`
    whether apt's marks do: those of packages that were being laid down at a crash are not apt's to keep.
    """
    left_out = EXCLUDED if running else (*EXCLUDED, "/sys", "/proc", "/dev")
    files = {
        path: (node.kind, node.content or node.target, node.mode, node.uid, node.gid, node.xattrs)
        for path, node in machine.files.nodes.items()
        if not path.startswith(left_out)
    }
    marked = apt.auto_marks(machine)
    packages = {
        f"package {name}": (
            record.state,
            record.want,
            record.installed_version,
            marks and record.state != "config-files" and name in marked,
        )
        for name, record in machine.dpkg.records.items()
    }
    units = {f"unit {name}": unit.active for name, unit in machine.units.items() if unit.active != "inactive"}
    return {**files, **packages, **(units if running else {}), **_objects(machine)}


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs between two snapshots, by name."""
    names = sorted(before.keys() | after.keys())
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _objects(machine: MemoryMachine) -> dict[str, Any]:
    if machine.cluster is None:
        return {}
    bodies = (machine.cluster.find(kind, name, space) for kind, space, name in machine.cluster.addresses())
    found = {}
    for body in filter(None, bodies):
        metadata = {key: value for key, value in body["metadata"].items() if key not in SERVER_FIELDS}
        found[f"object {body['kind']} {metadata['name']}"] = {**body, "metadata": metadata}
    return found
