"""The dynamic loader's cache, read as the loader reads it: which file it takes for a library's name."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from gpunode.host.reader import Reader

PATH = "/etc/ld.so.cache"
MAGIC = b"glibc-ld.so.cache1.1"
HEADER = struct.Struct("<20sII4xI12x")  # magic, entries, bytes of strings, extensions
ENTRY = struct.Struct("<iIIIQ")  # flags, name, path, OS version, hardware capabilities


def libraries(host: Reader) -> Mapping[str, tuple[str, ...]] | None:
    """Paths by the library's name, in the loader's order; None where there is no cache that can be understood."""
    content = host.read(PATH) or b""
    start = content.find(MAGIC)  # an older format may stand before it
    if start < 0 or len(content) < start + HEADER.size:
        return _not_understood(host, content)
    data = content[start:]
    _magic, count, _strings, _extensions = HEADER.unpack_from(data)
    if HEADER.size + count * ENTRY.size > len(data):
        return _not_understood(host, content)
    found: dict[str, tuple[str, ...]] = {}
    for number in range(count):
        _flags, name, path, _os, _capabilities = ENTRY.unpack_from(data, HEADER.size + number * ENTRY.size)
        found[_text(data, name)] = (*found.get(_text(data, name), ()), _text(data, path))
    return found


def _not_understood(host: Reader, content: bytes) -> Mapping[str, tuple[str, ...]] | None:
    """None; said where there is something that is no cache."""
    if content:
        host.note_unknown(PATH, f"{PATH} cannot be understood: `ldconfig` makes it anew")
    return None


def _text(data: bytes, at: int) -> str:
    """The NUL-terminated string at an offset; empty for one outside the cache."""
    end = data.find(b"\0", at)
    return data[at:end].decode("utf-8", "replace") if 0 <= at <= end else ""
