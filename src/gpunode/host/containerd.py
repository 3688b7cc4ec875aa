"""Asking containerd what a config file comes to, without a running daemon and without writing the candidate anywhere."""

from __future__ import annotations

import sys
from typing import Any

from gpunode.errors import CommandError, HostError
from gpunode.host.reader import Reader

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def effective(reader: Reader, text: str) -> dict[str, Any]:
    """The effective configuration of a config file's text, as `containerd config dump` tells it.

    Raises CommandError with containerd's own words when it does not accept the text.
    """
    # The candidate goes in by standard input: it is judged before any file of the host is touched.
    output = reader.query_once(["containerd", "--config", "/dev/stdin", "config", "dump"], stdin=text)
    if not output.ok:
        words = output.last_words(3) or (f"exit status {output.returncode}",)
        raise CommandError(f"containerd does not accept this configuration: {words[-1]}", details=words[:-1])
    try:
        return tomllib.loads(output.stdout)
    except tomllib.TOMLDecodeError as error:
        raise HostError(f"`containerd config dump` answered no TOML: {error}") from None
