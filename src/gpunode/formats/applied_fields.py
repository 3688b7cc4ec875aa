"""Whether a live Kubernetes object is what was applied, by the server's own record of who set which field (FieldsV1).

Kubernetes documentation, "Server-Side Apply": an apply changes nothing where the manager owns exactly the manifest's fields
and each of them has the manifest's value. https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]
UNOWNED = ("apiVersion", "kind", "metadata")


def is_applied(live: Object, manifest: Object, manager: str) -> bool:
    """True when applying the manifest would change nothing. False also where that cannot be told from the record."""
    entries = live.get("metadata", {}).get("managedFields") or []
    ours = [each for each in entries if each.get("manager") == manager and each.get("operation") == "Apply"]
    if len(ours) != 1 or ours[0].get("apiVersion") != manifest["apiVersion"]:
        return False
    return _same(_ownable(manifest), live, ours[0].get("fieldsV1", {}))


def _ownable(manifest: Object) -> dict[str, Any]:
    """Without what names the object: nobody owns that."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in ("name", "namespace")}
    fields = {key: value for key, value in manifest.items() if key not in UNOWNED}
    return {**fields, "metadata": metadata} if metadata else fields


def _same(wanted: Any, live: Any, owned: Object) -> bool:
    inner = {key: value for key, value in owned.items() if key != "."}
    if not inner:  # a plain value, or a map or list that is replaced as a whole
        return bool(wanted == live)
    if len(inner) != len(wanted) or not isinstance(live, type(wanted)):
        return False
    return all(_same_member(wanted, live, key, value) for key, value in inner.items())


def _same_member(wanted: Any, live: Any, key: str, owned: Object) -> bool:
    kind, _, name = key.partition(":")
    if kind == "f" and isinstance(wanted, Mapping):
        return name in wanted and name in live and _same(wanted[name], live[name], owned)
    if kind == "k" and isinstance(wanted, list):
        ours, theirs = _item(wanted, json.loads(name)), _item(live, json.loads(name))
        return ours is not None and theirs is not None and _same(ours, theirs, owned)
    if kind == "v" and isinstance(wanted, list):
        return json.loads(name) in wanted and json.loads(name) in live
    return False


def _item(items: list[Any], keys: Object) -> Object | None:
    """The item of a list that these keys name."""
    return next((each for each in items if all(each.get(key) == value for key, value in keys.items())), None)
