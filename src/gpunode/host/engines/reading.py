"""What every engine reads of a host alike: its unit's command line, its version, its files."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpunode.errors import HostError
from gpunode.host import systemd
from gpunode.host.engines import command
from gpunode.host.reader import Reader

LARGEST_CONFIG = 1 << 20
"""Bytes. What is larger is no configuration of an engine's."""


def command_line(host: Reader, unit: str, environment: Sequence[str]) -> tuple[str, ...]:
    """The words by which the unit starts its program, wrappers aside; variables are replaced (`command.variables`), unset ones left out."""
    words = command.unwrapped(systemd.exec_start(host, unit), command.variables(host, unit, environment))
    return tuple(word for word in words if not command.is_variable(word))


def version_of(host: Reader, binary: str) -> str:
    """The first version number that `BINARY --version` prints, without suffixes; empty when it does not say."""
    found = re.search(r"\b(\d+\.\d+(\.\d+)?)", host.query_once([binary, "--version"]).stdout)
    return found[1] if found else ""


def config_text(host: Reader, path: str, title: str) -> str | None:
    """The text of a configuration file, None where there is none. Raises HostError for one that cannot be one."""
    stat = host.lstat(host.realpath(path))
    if stat is not None and stat.size > LARGEST_CONFIG:
        raise HostError(
            f"{path}: {stat.size / (1 << 20):.1f} MiB is no configuration of {title}'s",
            hint=f"look at {path}: something else was written there; nothing was changed",
        )
    return host.read_text(path)
