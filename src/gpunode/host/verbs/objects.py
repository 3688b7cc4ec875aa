"""Kubernetes objects, by server-side apply under gpunode's own field manager."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from gpunode.errors import CommandError
from gpunode.host import kubectl
from gpunode.host.kubectl import Access, Address, Object
from gpunode.host.verbs.base import Hands, Json, NeverConflicts, Taken


@dataclass(frozen=True)
class ApplyObject(NeverConflicts):  # the server keeps each manager's fields apart
    """Apply one manifest. What was there is kept whole, and with it the fields that were gpunode's."""

    name: ClassVar[str] = "apply-object"
    access: Access
    manifest: Object

    def intent(self, hands: Hands) -> Json | None:
        """The manifest, and the live object before."""
        kind, name, namespace = address(self.manifest)
        before = kubectl.get(hands.reader, self.access, kind, name, namespace)
        owned = None if before is None else owned_manifest(before)
        return {
            "access": asdict(self.access),
            "manifest": self.manifest,
            "existed": before is not None,
            "before": owned,
        }

    def act(self, hands: Hands, intent: Json) -> None:
        """`kubectl apply --server-side`. Raises CommandError."""
        kubectl.apply(hands.machine, access_of(intent), intent["manifest"])

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Delete an object that gpunode made; else go back to the fields gpunode had, or to none."""
        access = access_of(intent)
        kind, name, namespace = address(intent["manifest"])
        try:
            now = kubectl.get(hands.reader, access, kind, name, namespace)
            if now is None:
                return Taken()
            if not intent["existed"] and owned_manifest(now) is None:
                return Taken()  # somebody else made it: ours never came to be
            if not intent["existed"]:
                kubectl.delete(hands.machine, access, kind, name, namespace)
            else:
                kubectl.apply(hands.machine, access, intent["before"] or bare(intent["manifest"]), force=True)
        except CommandError as error:
            if hands.force:
                return Taken(left=(f"{kind} {name} in the cluster: {error.message}",))
            raise
        return Taken()


@dataclass(frozen=True)
class DropObject(NeverConflicts):  # as above
    """Take away an object that gpunode made; of one that others have fields of, only gpunode's fields."""

    name: ClassVar[str] = "drop-object"
    access: Access
    manifest: Object

    def intent(self, hands: Hands) -> Json | None:
        """The fields that are gpunode's; None where there is no object, or none of it is gpunode's."""
        live = kubectl.get(hands.reader, self.access, *address(self.manifest))
        owned = None if live is None else owned_manifest(live)
        if live is None or owned is None:
            return None
        return {"access": asdict(self.access), "manifest": bare(live), "before": owned, "alone": is_alone(live)}

    def act(self, hands: Hands, intent: Json) -> None:
        """Delete it, or give its fields up. Raises CommandError."""
        access, manifest = access_of(intent), intent["manifest"]
        if intent["alone"]:
            kubectl.delete(hands.machine, access, *address(manifest))
        else:
            kubectl.apply(hands.machine, access, manifest, force=True)

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Apply what gpunode had of it. Raises CommandError, unless forced to leave it."""
        try:
            kubectl.apply(hands.machine, access_of(intent), intent["before"])
        except CommandError as error:
            if not hands.force:
                raise
            kind, name, _ = address(intent["manifest"])
            return Taken(left=(f"{kind} {name} in the cluster: {error.message}",))
        return Taken()


def is_alone(live: Object) -> bool:
    """Whether nobody but gpunode has fields of an object, its status left aside."""
    entries = live.get("metadata", {}).get("managedFields", [])
    return all(each.get("manager") == kubectl.FIELD_MANAGER or each.get("subresource") for each in entries)


def address(manifest: Object) -> Address:
    """An object's kind, name and name space, as kubectl takes them."""
    metadata = manifest["metadata"]
    return str(manifest["kind"]).lower(), str(metadata["name"]), str(metadata.get("namespace", ""))


def access_of(intent: Json) -> Access:
    """The access that was recorded."""
    fields = intent["access"]
    return Access(tuple(fields["command"]), fields["kubeconfig"], fields["context"], fields["timeout"])


def bare(manifest: Object) -> Object:
    """A manifest that claims no field: applying it gives up all that gpunode had."""
    metadata = {key: manifest["metadata"][key] for key in ("name", "namespace") if key in manifest["metadata"]}
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": metadata}


def owned_manifest(live: Object) -> Object | None:
    """The part of a live object whose fields gpunode's field manager owns; None when it owns none."""
    entries = live.get("metadata", {}).get("managedFields", [])
    ours = [
        entry["fieldsV1"]
        for entry in entries
        if entry.get("manager") == kubectl.FIELD_MANAGER and entry.get("operation") == "Apply"
    ]
    if not ours:
        return None
    owned = _select(live, ours[0])
    return {**bare(live), **owned, "metadata": {**owned.get("metadata", {}), **bare(live)["metadata"]}}


def _select(value: Any, fields: Json) -> Any:
    """Cut `value` down to a managed-fields set: `f:` names a map's key, `k:` a list's item by its keys, `v:` one by its value."""
    nested = {key: inner for key, inner in fields.items() if key != "."}
    if not nested:
        return value
    if isinstance(value, list):
        return [chosen for item in value for chosen in _select_item(item, nested)]
    return {key[2:]: _select(value[key[2:]], inner) for key, inner in nested.items() if key[2:] in value}


def _select_item(item: Any, nested: Json) -> list[Any]:
    import json

    for key, inner in nested.items():
        wanted = json.loads(key[2:])
        if key.startswith("v:") and item == wanted:
            return [item]
        if key.startswith("k:") and isinstance(item, dict) and all(item.get(name) == wanted[name] for name in wanted):
            return [{**_select(item, inner), **wanted}]
    return []
