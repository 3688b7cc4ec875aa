"""Sets of field paths: what `managedFields` is made of, and how an object is read, merged and pruned by them.

A path is a tuple of FieldsV1 elements: `f:name` for a field, `k:{"name":"x"}` for an item of an associative list and
`v:"x"` for a member of a set.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from gpunode.lab.kubernetes.kinds import Object
from gpunode.lab.kubernetes.schema import LIST_KEYS, SETS, is_atomic, item_key

Path = tuple[str, ...]

_UNOWNED = frozenset(
    ("f:metadata", f"f:{name}")
    for name in ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
) | {("f:apiVersion",), ("f:kind",), ("f:metadata", "f:selfLink")}
"""Fields that no manager owns: they name the object or belong to the server."""

_MEMBER = object()
"""The value of a path that stands for being in a list, so that it never counts as changed."""


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _element(name: str, item: Any) -> str:
    key = item_key(name, item)
    return f"v:{_dump(item)}" if key is None else f"k:{_dump(key)}"


def _walk(value: Any, name: str, path: Path) -> Iterator[tuple[Path, Any]]:
    if path and is_atomic(name, value):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, key, (*path, f"f:{key}"))
    else:
        for item in value:
            here = (*path, _element(name, item))
            yield here, _MEMBER
            if isinstance(item, dict):
                yield from _walk(item, "", here)


def leaves(body: Object) -> dict[Path, Any]:
    """The object's ownable fields and their values."""
    return {path: value for path, value in _walk(body, "", ()) if path not in _UNOWNED}


def encode(paths: Iterable[Path]) -> Object:
    """The FieldsV1 form of a set."""
    root: Object = {}
    members = set(paths)
    for path in sorted(members):
        node = root
        for depth, element in enumerate(path):
            if depth and path[:depth] in members:
                node.setdefault(".", {})
            node = node.setdefault(element, {})
    return root


def decode(fields: Object, path: Path = ()) -> frozenset[Path]:
    """The set that a FieldsV1 document holds."""
    found: set[Path] = set()
    if path and (not fields or "." in fields):
        found.add(path)
    for element, child in fields.items():
        if element != ".":
            found |= decode(child, (*path, element))
    return frozenset(found)


def describe(path: Path) -> str:
    """A path as error messages write it: `.spec.containers[name="x"].image`."""
    text = ""
    for element in path:
        form, _, rest = element.partition(":")
        if form == "f":
            text += f".{rest}"
        elif form == "k":
            text += "[" + ",".join(f"{key}={_dump(value)}" for key, value in json.loads(rest).items()) + "]"
        else:
            text += f"[={rest}]"
    return text


def merge(live: Any, applied: Any, name: str = "") -> Any:
    """`live` with the applied configuration laid over it, lists and maps merged as their schema says."""
    if type(live) is not type(applied) or (name and is_atomic(name, applied)):
        return applied
    if isinstance(applied, dict):
        return live | {key: merge(live[key], item, key) if key in live else item for key, item in applied.items()}
    if name in SETS:
        return live + [item for item in applied if item not in live]
    if name not in LIST_KEYS:
        return applied
    wanted = {_element(name, item): item for item in applied}
    kept = [merge(item, wanted.pop(_element(name, item), item)) for item in live]
    return kept + list(wanted.values())


def _child(node: Any, element: str, name: str) -> tuple[Any, Any]:
    """Where `element` lies in `node`: its index or key, and its value; `(None, None)` when it is absent."""
    if isinstance(node, dict):
        key = element[2:]
        return (key, node[key]) if key in node else (None, None)
    for index, item in enumerate(node if isinstance(node, list) else []):
        if _element(name, item) == element:
            return index, item
    return None, None


def remove(node: Any, path: Path, name: str = "") -> None:
    """Take the field at `path` out of the object, and what it leaves empty; absent fields are left alone."""
    where, value = _child(node, path[0], name)
    if where is None:
        return
    if len(path) > 1:
        remove(value, path[1:], path[0][2:] if path[0].startswith("f:") else "")
        if value not in ({}, []):
            return
    del node[where]
