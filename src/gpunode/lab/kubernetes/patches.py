"""The three patch formats beside server-side apply."""

from __future__ import annotations

import copy
from typing import Any

from gpunode.lab.kubernetes.errors import ApiError, bad_request
from gpunode.lab.kubernetes.kinds import Object
from gpunode.lab.kubernetes.schema import STRATEGIC_KEYS


def merge_patch(body: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(body) if isinstance(body, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_patch(body: Any, patch: Any, name: str = "") -> Any:
    """Strategic merge patch: as a merge patch, with lists of named items merged by their key and `$patch` directives."""
    if isinstance(patch, list):
        return _strategic_list(body if isinstance(body, list) else [], patch, name)
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    result = dict(body) if isinstance(body, dict) else {}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            target = key.partition("/")[2]
            result[target] = [item for item in result.get(target, []) if item not in value]
        elif key.startswith("$retainKeys"):
            result = {kept: item for kept, item in result.items() if kept in value}
        elif key.startswith("$"):
            continue
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = strategic_patch(result.get(key), value, key)
    return result


def _strategic_list(live: list[Any], patch: list[Any], name: str) -> list[Any]:
    key = STRATEGIC_KEYS.get(name)
    if any(isinstance(item, dict) and item == {"$patch": "replace"} for item in patch):
        return [item for item in patch if item != {"$patch": "replace"}]
    if name == "finalizers":
        return live + [item for item in patch if item not in live]
    if key is None:
        return patch
    result = list(live)
    for item in patch:
        where = next((i for i, known in enumerate(result) if known.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if where is not None:
                del result[where]
        elif where is None:
            result.append(strategic_patch({}, item))
        else:
            result[where] = strategic_patch(result[where], item)
    return result


def json_patch(body: Object, operations: list[Object]) -> Object:
    """JSON patch (RFC 6902) without `move` and `copy`; raises ApiError (422) when an operation does not apply."""
    result = copy.deepcopy(body)
    for operation in operations:
        _operate(result, operation)
    return result


def _operate(body: Any, operation: Object) -> None:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    refusal = ApiError(422, "Invalid", f"the server rejected our request: {operation['op']} {operation['path']}")
    try:
        parent, key = body, parts[-1]
        for part in parts[:-1]:
            parent = parent[int(part)] if isinstance(parent, list) else parent[part]
        _act(parent, key, operation, refusal)
    except (KeyError, IndexError, ValueError, TypeError):
        raise refusal from None


def _act(parent: Any, key: str, operation: Object, refusal: ApiError) -> None:
    where: Any = (len(parent) if key == "-" else int(key)) if isinstance(parent, list) else key
    match operation["op"]:
        case "add" if isinstance(parent, list):
            parent.insert(where, operation["value"])
        case "add":
            parent[where] = operation["value"]
        case "replace":
            parent[where] = operation["value"]
        case "remove":
            del parent[where]
        case "test":
            if parent[where] != operation["value"]:
                raise refusal
        case other:
            raise bad_request(f"unsupported JSON patch operation {other}")
