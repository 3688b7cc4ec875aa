"""When signing keys and certificates expire: just enough OpenPGP and X.509 to find one date."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import datetime, timezone

from gpunode.formats import openpgp

SIGNATURE, USERS = 2, (13, 17)
OVER_NAMES = range(0x10, 0x14)  # kinds of signature; one over the key alone (0x1F) names who may revoke it
CREATED, LASTS, ISSUER, ISSUER_FINGERPRINT = 2, 9, 16, 33
"""Subpackets: when a signature was made, for how many seconds after its creation the key is good, who signed (RFC 4880 §5.2.3)."""
TIMES, MADE_OF_OTHERS = (0x17, 0x18), 0x20  # DER: UTCTime and GeneralizedTime; the bit of a constructed value
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def key_expiries(data: bytes) -> dict[str, float | None]:
    """Seconds since the epoch at which each primary key of a keyring expires, None for one that never does. Raises KeyFormatError."""
    try:
        return {openpgp.fingerprint(key): _end(key, signatures) for key, signatures in _keys(data)}
    except IndexError:
        raise openpgp.KeyFormatError("a signature in it is cut off") from None


def _end(key: bytes, signatures: list[bytes]) -> float | None:
    own = (_lasting(body) for body in signatures if _issuer(body) == openpgp.fingerprint(key)[-16:])
    _made, lasts = max(own, default=(0, 0))
    return int.from_bytes(key[1:5], "big") + lasts if lasts else None


def _keys(data: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    """Each v4 primary key with the signatures over its names."""
    key, of_key = b"", False
    signatures: list[bytes] = []
    for tag, body in [*openpgp.packets(openpgp.binary(data)), (openpgp.PUBLIC_KEY, b"")]:
        if tag == openpgp.PUBLIC_KEY:
            if key[:1] == b"\x04":
                yield key, signatures
            key, signatures, of_key = body, [], True
        elif tag != SIGNATURE:
            of_key = tag in USERS  # a subkey's signatures speak of the subkey
        elif of_key and body[:1] == b"\x04" and body[1] in OVER_NAMES:
            signatures.append(body)


def _lasting(signature: bytes) -> tuple[int, int]:
    """When the signature was made, and the seconds for which it says that the key is good, 0 for ever."""
    hashed, _ = _areas(signature)
    return int.from_bytes(hashed.get(CREATED, b""), "big"), int.from_bytes(hashed.get(LASTS, b""), "big")


def _issuer(signature: bytes) -> str:
    """The id of the key that signed; empty where the signature does not say."""
    hashed, unhashed = _areas(signature)
    everything = unhashed | hashed
    found = everything.get(ISSUER) or everything.get(ISSUER_FINGERPRINT, b"")[-8:]
    return found.hex().upper()


def _areas(signature: bytes) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """A v4 signature's subpackets: those that it covers, and the others."""
    size = int.from_bytes(signature[4:6], "big")
    rest = signature[6 + size :]
    return dict(_subpackets(signature[6 : 6 + size])), dict(_subpackets(rest[2 : 2 + int.from_bytes(rest[:2], "big")]))


def _subpackets(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        first, size = data[at], 1
        length = first
        if first == 255:
            length, size = int.from_bytes(data[at + 1 : at + 5], "big"), 5
        elif first >= 192:
            length, size = ((first - 192) << 8) + int.from_bytes(data[at + 1 : at + 2], "big") + 192, 2
        body = data[at + size : at + size + length]
        if body:
            yield body[0] & 0x7F, body[1:]
        at += size + length


def certificate_validity(pem: bytes) -> tuple[float, float] | None:
    """From when to when the first certificate of a PEM file is good, in seconds since the epoch; None where there is none to be read."""
    found = CERTIFICATE.search(pem)
    try:
        data = base64.b64decode(b"".join(found[1].split()), validate=True) if found else b""
        first, last, *_ = _dates(data, 0, len(data))
    except (binascii.Error, ValueError, IndexError):
        return None
    return first, last


def _dates(data: bytes, at: int, end: int) -> list[float]:
    """The dates of a DER document in order: the first two are the ends of a certificate's validity."""
    found: list[float] = []
    while at + 2 <= end and len(found) < 2:
        tag, (length, at) = data[at], _length(data, at + 1)
        if tag in TIMES:
            found.append(_date(data[at : at + length].decode("ascii", "replace")))
        elif tag & MADE_OF_OTHERS:
            found += _dates(data, at, min(end, at + length))
        at += length
    return found


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A DER length, and where what it measures begins."""
    first = data[at]
    if first < 0x80:
        return first, at + 1
    size = first & 0x7F
    return int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size


def _date(text: str) -> float:
    """`261124080000Z` or `20261124080000Z`."""
    digits = text.rstrip("Z")
    if len(digits) == 12:
        digits = ("19" if digits >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc).timestamp()
