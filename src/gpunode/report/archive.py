"""Texts as one archive."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable


def tar_gz(folder: str, texts: Iterable[tuple[str, str]], *, now: float) -> bytes:
    """A tar.gz of texts by name, all of them root's alone, below one folder."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=int(now)) as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        for name, text in texts:
            content = text.encode()
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size, member.mode, member.mtime = len(content), 0o600, int(now)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
