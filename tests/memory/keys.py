"""OpenPGP public keys of our own making: well-formed packets that sign nothing."""

from __future__ import annotations

import base64
import hashlib
import struct

CREATED = 1_700_000_000


def public_key(owner: str) -> bytes:
    """A v4 Ed25519 public key packet and a user id packet; the same for the same owner."""
    point = b"\x40" + hashlib.sha256(owner.encode()).digest()
    curve = bytes.fromhex("2b06010401da470f01")
    body = struct.pack(">BIB", 4, CREATED, 22) + bytes([len(curve)]) + curve + struct.pack(">H", 263) + point
    return b"\x98" + bytes([len(body)]) + body + b"\xb4" + bytes([len(owner)]) + owner.encode()


def fingerprint(key: bytes) -> str:
    """The fingerprint of a key made here: SHA-1 of its first packet, as 40 hexadecimal digits."""
    body = key[2 : 2 + key[1]]
    return hashlib.sha1(b"\x99" + struct.pack(">H", len(body)) + body, usedforsecurity=False).hexdigest().upper()


def good_until(key: bytes, end: int) -> bytes:
    """The key with a signature by itself that says until when it is good, in seconds since the epoch."""
    times = ((2, CREATED), (9, end - CREATED))
    hashed = b"".join(bytes([5, kind]) + struct.pack(">I", value) for kind, value in times)
    issuer = bytes([9, 16]) + bytes.fromhex(fingerprint(key))[-8:]
    body = b"\x04\x13\x16\x08" + struct.pack(">H", len(hashed)) + hashed + struct.pack(">H", len(issuer)) + issuer
    return key + b"\x88" + bytes([len(body)]) + body


def armored(key: bytes) -> bytes:
    """The key as its publishers serve it."""
    crc = 0xB704CE
    for byte in key:
        crc ^= byte << 16
        for _ in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    text = base64.b64encode(key).decode()
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    check = base64.b64encode((crc & 0xFFFFFF).to_bytes(3, "big")).decode()
    block = "PGP PUBLIC KEY BLOCK-----"
    return f"-----BEGIN {block}\n\n{lines}\n={check}\n-----END {block}\n".encode()


def holds(keyring: bytes, key: bytes) -> bool:
    """True when a keyring file, armored or not, holds the key."""
    if keyring.startswith(b"-----BEGIN"):
        body = keyring.split(b"\n\n", 1)[-1].split(b"\n=", 1)[0]
        keyring = base64.b64decode(body)
    return key in keyring
