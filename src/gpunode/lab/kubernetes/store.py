"""The objects, kept on disk so that they survive a reboot or a power cut, and the log of changes that watches read."""

from __future__ import annotations

import copy
import json
import os
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpunode.lab.kubernetes.errors import ApiError
from gpunode.lab.kubernetes.kinds import Kind, Object

Key = tuple[str, str, str]
"""Qualified plural, namespace (empty for cluster-wide kinds), name."""

_LOG_LENGTH = 2000


@dataclass(frozen=True)
class Change:
    """One step of the store: `kind` is ADDED, MODIFIED or DELETED, `before` the object that was there."""

    version: int
    event: str
    key: Key
    body: Object
    before: Object | None


class Store:
    """A map of objects with one increasing version. Its methods are called with `lock` held."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.lock = threading.Condition()
        self._objects: dict[Key, Object] = {}
        self.version = 1
        self._log: deque[Change] = deque(maxlen=_LOG_LENGTH)
        self._load()
        self._oldest = self.version

    def _load(self) -> None:
        try:
            document = json.loads(self._file.read_text())
        except FileNotFoundError:
            return
        # A start is a new epoch: watches begun before it find their version gone and list again, as after a compaction.
        self.version = document["version"] + 1
        self._objects = {tuple(key.split("|")): body for key, body in document["objects"].items()}

    def _save(self) -> None:
        document = {"version": self.version, "objects": {"|".join(key): body for key, body in self._objects.items()}}
        temporary = self._file.with_suffix(".new")
        with temporary.open("w") as stream:
            json.dump(document, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self._file)

    @staticmethod
    def key(kind: Kind, namespace: str, name: str) -> Key:
        """The key of an object."""
        return kind.qualified, namespace if kind.namespaced else "", name

    def get(self, key: Key) -> Object | None:
        """A copy of the object, or None."""
        return copy.deepcopy(self._objects.get(key))

    def list(self, kind: Kind, namespace: str = "") -> list[Object]:
        """Copies of the kind's objects, in all namespaces when none is given, by namespace and name."""
        keys = sorted(key for key in self._objects if key[0] == kind.qualified and namespace in ("", key[1]))
        return [copy.deepcopy(self._objects[key]) for key in keys]

    def put(self, key: Key, body: Object) -> Object:
        """Store the object under a new version, durably, and tell the watches."""
        before = self._objects.get(key)
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self._objects[key] = copy.deepcopy(body)
        self._changed("MODIFIED" if before else "ADDED", key, body, before)
        return body

    def delete(self, key: Key) -> None:
        """Take the object out, durably, and tell the watches."""
        before = self._objects.pop(key)
        self.version += 1
        gone = copy.deepcopy(before)
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._changed("DELETED", key, gone, before)

    def _changed(self, event: str, key: Key, body: Object, before: Object | None) -> None:
        self._save()
        self._log.append(Change(self.version, event, key, copy.deepcopy(body), before))
        self.lock.notify_all()

    def changes(self, since: int, timeout: float) -> Iterator[Change]:
        """Changes after version `since`; waits up to `timeout` seconds for the first; raises ApiError (410) when too old."""
        with self.lock:
            if since < self._oldest or (
                self._log and len(self._log) == _LOG_LENGTH and since < self._log[0].version - 1
            ):
                raise ApiError(410, "Expired", f"too old resource version: {since} ({self._oldest})")
            self.lock.wait_for(lambda: self.version > since, timeout)
            found = [change for change in self._log if change.version > since]
        yield from found
