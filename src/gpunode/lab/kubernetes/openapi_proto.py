"""`/openapi/v2` in protobuf, the one form in which older clients take it: kubectl 1.20, which Debian 11 and 12 have, looks there whether a
kind can be tried by a dry run. Field numbers are those of gnostic's OpenAPIv2.proto.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from gpunode.lab.kubernetes.kinds import KINDS, Kind

ASKED = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
MEDIA_TYPE = ASKED.replace("@", ".")  # with the @ it is no media type, as Go's clients say
_GVK = "x-kubernetes-group-version-kind"


def document(version: str, parameters: Sequence[str]) -> bytes:
    """Each kind's patch operation with the query parameters that it takes; no types' schemas, so that the server validates."""
    info = _field(1, "Kubernetes") + _field(2, version)
    paths = b"".join(_field(2, _path(kind, parameters)) for kind in KINDS)
    return _field(1, "2.0") + _field(2, info) + _field(8, paths)


def _path(kind: Kind, parameters: Sequence[str]) -> bytes:
    place = "namespaces/{namespace}/" if kind.namespaced else ""
    return _field(1, f"/{kind.prefix}/{place}{kind.plural}/{{name}}") + _field(2, _field(8, _patch(kind, parameters)))


def _patch(kind: Kind, parameters: Sequence[str]) -> bytes:
    names = b"".join(_field(8, _query_parameter(name)) for name in parameters)
    gvk = json.dumps({"group": kind.group, "version": kind.version, "kind": kind.kind})
    return _field(5, f"patch{kind.kind}") + names + _field(13, _field(1, _GVK) + _field(2, _field(2, gvk)))


def _query_parameter(name: str) -> bytes:
    return _field(1, _field(2, _field(3, _field(2, "query") + _field(4, name) + _field(6, "string"))))


def _field(number: int, content: str | bytes) -> bytes:
    """A string or an embedded message, with its length before it."""
    data = content.encode() if isinstance(content, str) else content
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    found = []
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
