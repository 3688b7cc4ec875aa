"""A kernel module's file, as far as it tells whether somebody signed it."""

from __future__ import annotations

from gpunode.host.reader import Reader

SIGNED = b"~Module signature appended~\n"


def is_signed(host: Reader, path: str) -> bool | None:
    """Whether the module carries a signature, whoever made it; None for a compressed one. Raises HostError."""
    content = host.read(path) if path.endswith(".ko") else None
    return None if content is None else content.endswith(SIGNED)
