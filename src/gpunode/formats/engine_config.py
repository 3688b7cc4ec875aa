"""What the editing of a container engine's configuration is given and gives back, for every engine alike. Texts only: no host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpunode.formats.toml_data import Path


class ConfigError(ValueError):
    """A configuration, or an engine, that cannot be worked with as it is. The message begins with the file's path where one is to blame."""


@dataclass(frozen=True)
class ConfigFile:
    """A file of the configuration; `text` is None where it does not exist."""

    path: str
    text: str | None


@dataclass(frozen=True)
class ConfigFiles:
    """All that an engine reads, in the order in which it merges it: the main file, then what that imports.

    `drop_in` is where a file of gpunode's own may lie so that the engine reads it, empty where there is no such place (it may be
    among `imported` already). `generated` says that the main file is written by somebody else at every start: it is never edited.
    """

    main: ConfigFile
    imported: tuple[ConfigFile, ...] = ()
    drop_in: str = ""
    generated: bool = False


@dataclass(frozen=True)
class Request:
    """What the configuration should bring about.

    `version` is the engine's release. `systemd_cgroup` is runc's SystemdCgroup where the operator or the kubelet's cgroupDriver
    decides it; None leaves it as the file has it, and in a new file on a Kubernetes node makes it true. `cdi` None leaves CDI as
    it is. `place` says where keys go: by what the release merges safely (`auto`), in the main file, or in the drop-in. `leave`
    names, by finding, the repairs that the operator does not want.
    """

    version: str
    runtime_name: str = "nvidia"
    binary: str = "/usr/bin/nvidia-container-runtime"
    set_default: bool = False
    cdi: bool | None = None
    kubernetes: bool = True
    systemd_cgroup: bool | None = None
    place: str = "auto"
    leave: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reason:
    """One change of one key of one file. `found` is None where the key was absent; `repair` names the finding that it mends."""

    path: Path
    found: Any
    wanted: Any
    why: str
    file: str = ""
    repair: str = ""


@dataclass(frozen=True)
class FileEdit:
    """A file and what it should become. `style` is how a rollback understands its text (see host/verbs/images.py)."""

    path: str
    before: str | None
    after: str
    style: str


@dataclass(frozen=True)
class Edited:
    """The files that change, each change with its reason, where the keys went and why there, and the repairs that were refused."""

    files: tuple[FileEdit, ...]
    reasons: tuple[Reason, ...]
    place: str
    left: tuple[str, ...] = ()
