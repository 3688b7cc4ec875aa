"""Just enough OpenPGP to name a key: armour off, packets apart, fingerprints of primary keys (RFC 4880 §12.2, RFC 9580 §5.5.4).

A signing key is compared with the fingerprints that the catalogue pins before any other program parses it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator

PUBLIC_KEY = 6
CERTIFICATE = frozenset((2, PUBLIC_KEY, 12, 13, 14, 17))
"""Packets that a public key is made of: signatures, keys, trust, user ids and attributes. A secret key is none."""
ARMOUR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"


class KeyFormatError(ValueError):
    """The bytes are no OpenPGP public key."""


def binary(data: bytes) -> bytes:
    """The key without its armour; as it is when it has none. Raises KeyFormatError."""
    if ARMOUR not in data:
        return data
    blocks = []
    for block in data.split(ARMOUR)[1:]:
        body = block.partition(b"-----END")[0].replace(b"\r", b"")
        headers, _, text = body.partition(b"\n\n")
        lines = (text if text else headers).strip().split(b"\n")
        try:
            # The checksum line begins with `=`; headers, where there is no blank line, hold a colon.
            blocks.append(
                base64.b64decode(b"".join(line for line in lines if not line.startswith(b"=")), validate=True)
            )
        except binascii.Error:
            raise KeyFormatError("the armour of the key is damaged") from None
    return b"".join(blocks)


def fingerprints(data: bytes) -> tuple[str, ...]:
    """The fingerprints (upper-case hex) of all primary keys in a key file, armoured or not. Raises KeyFormatError."""
    parts = list(packets(binary(data)))
    strange = next((tag for tag, _ in parts if tag not in CERTIFICATE), None)
    if strange is not None:
        raise KeyFormatError(f"there is something else than public keys in it (packet {strange})")
    found = tuple(fingerprint(body) for tag, body in parts if tag == PUBLIC_KEY)
    if not found:
        raise KeyFormatError("there is no OpenPGP public key in it")
    return found


def fingerprint(body: bytes) -> str:
    """The fingerprint (upper-case hex) of a public key packet. Raises KeyFormatError for a format that is not supported."""
    version = body[:1]
    if version == b"\x04":
        # A v4 fingerprint names a key; that it is SHA-1 is the format's choice, and pinned keys are of this format.
        return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper()
    if version == b"\x06":
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    raise KeyFormatError(f"a key of format version {body[0] if body else '?'} is not supported")


def packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each packet's tag and body. Raises KeyFormatError."""
    at = 0
    while at < len(data):
        header = data[at]
        if not header & 0x80:
            raise KeyFormatError("these bytes are no OpenPGP packets")
        tag, start, length = _new_header(data, at) if header & 0x40 else _old_header(data, at)
        if start + length > len(data):
            raise KeyFormatError("the key is cut short")
        yield tag, data[start : start + length]
        at = start + length


def _new_header(data: bytes, at: int) -> tuple[int, int, int]:
    tag, first = data[at] & 0x3F, _byte(data, at + 1)
    if first < 192:
        return tag, at + 2, first
    if first < 224:
        return tag, at + 3, ((first - 192) << 8) + _byte(data, at + 2) + 192
    if first == 255:
        return tag, at + 6, int.from_bytes(data[at + 2 : at + 6], "big")
    raise KeyFormatError("partial packet lengths have no place in a key")


def _old_header(data: bytes, at: int) -> tuple[int, int, int]:
    tag, kind = (data[at] >> 2) & 0x0F, data[at] & 0x03
    if kind == 3:
        return tag, at + 1, len(data) - at - 1
    size = (1, 2, 4)[kind]
    return tag, at + 1 + size, int.from_bytes(data[at + 1 : at + 1 + size], "big")


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise KeyFormatError("the key is cut short")
    return data[at]
