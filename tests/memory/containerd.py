"""containerd and ctr: a configuration read and merged as the release does it, as far as runtimes are concerned."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memory.command import Answer, Call

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from memory.machine import MemoryMachine, Program

CONFIG = "/etc/containerd/config.toml"
RUNC: dict[str, Any] = {"runtime_type": "io.containerd.runc.v2", "options": {"BinaryName": "", "SystemdCgroup": False}}


class ConfigError(Exception):
    """A configuration that containerd refuses; its words are the daemon's."""


@dataclass(frozen=True)
class Release:
    """What differs between releases of containerd."""

    version: str
    package_version: str

    @property
    def is_old(self) -> bool:
        """True for 1.x: version 2 of the configuration, and runtimes replaced instead of merged."""
        return self.version.startswith("1.")

    @property
    def section(self) -> str:
        """The plugin that holds the runtimes."""
        return "io.containerd.grpc.v1.cri" if self.is_old else "io.containerd.cri.v1.runtime"

    def defaults(self) -> dict[str, Any]:
        """What `config default` holds, reduced to what tests look at."""
        runtimes = {"default_runtime_name": "runc", "runtimes": {"runc": RUNC}}
        section = {
            "enable_cdi": not self.is_old,
            "cdi_spec_dirs": ["/etc/cdi", "/var/run/cdi"],
            "max_container_log_line_size": 16384,
            "containerd": runtimes,
        }
        document: dict[str, Any] = {
            "version": 2 if self.is_old else 3,
            "root": "/var/lib/containerd",
            "state": "/run/containerd",
            "disabled_plugins": [],
            "imports": [],
            "plugins": {self.section: section},
        }
        return copy.deepcopy(document)


def effective(
    machine: MemoryMachine, release: Release, text: str, name: str, instead: Mapping[str, bytes] | None = None
) -> dict[str, Any]:
    """The configuration that the daemon would run with; `instead` holds contents of files to be. Raises ConfigError."""
    document = release.defaults()
    given = _parse(text, name)
    # A version 1.x daemon reads version 2 keys without the line as version 1: silently nothing of theirs.
    if release.is_old and given.get("version", 1) == 1:
        given.pop("plugins", None)
    _merge(document, given, release)
    for pattern in given.get("imports", ()):
        for path in _matching(machine, pattern):
            held = (instead or {}).get(path)
            imported = machine.files.text(path) if held is None else held.decode()
            _import(document, _parse(imported, path), release)
    for runtime in _runtimes(document, release).values():
        if isinstance(runtime, dict):
            runtime.setdefault("runtime_type", "")
            runtime.setdefault("options", {})
    return document


def complaint(machine: MemoryMachine, release: Release) -> str:
    """What a daemon that is started now would die of; empty when it lives."""
    try:
        effective(machine, release, machine.files.text(CONFIG), CONFIG)
    except ConfigError as error:
        return f"containerd: {error}"
    return ""


def programs(release: Release) -> dict[str, Program]:
    """`containerd` and `ctr` of the release."""

    def containerd(machine: MemoryMachine, call: Call) -> Answer:
        if "--version" in call.words:
            return Answer(f"containerd github.com/containerd/containerd {release.version} {release.package_version}\n")
        if "default" in call.words:
            return Answer(_write(release.defaults()))
        path = call.words[call.words.index("--config") + 1] if "--config" in call.words else CONFIG
        text = call.instead[path].decode() if path in call.instead else machine.files.text(path)
        try:
            return Answer(_write(effective(machine, release, text, path, call.instead)))
        except ConfigError as error:
            return Answer(stderr=f"containerd: {error}\n", status=1)

    def ctr(machine: MemoryMachine, call: Call) -> Answer:
        if machine.units["containerd.service"].active != "active":
            socket = "/run/containerd/containerd.sock"
            words = f'ctr: failed to dial "{socket}": context deadline exceeded: connection error: no such file or directory'
            return Answer(stderr=f"{words}\n", status=1)
        if "version" in call.words:
            return Answer(f"Client:\n  Version:  {release.version}\n\nServer:\n  Version:  {release.version}\n")
        return Answer("REF TYPE DIGEST SIZE PLATFORMS LABELS\n")

    return {"containerd": containerd, "ctr": ctr}


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"failed to load TOML: {name}: {error}") from None


def _merge(into: dict[str, Any], given: dict[str, Any], release: Release) -> None:
    for key, value in given.items():
        replaced = key == "runtimes" and release.is_old
        if isinstance(value, dict) and isinstance(into.get(key), dict) and not replaced:
            _merge(into[key], value, release)
        else:
            into[key] = copy.deepcopy(value)


def _import(into: dict[str, Any], given: dict[str, Any], release: Release) -> None:
    """1.x replaces each whole plugin's table by the imported file's, its other keys at their defaults; 2.x merges."""
    if release.is_old:
        for plugin in given.get("plugins", {}):
            into["plugins"][plugin] = release.defaults()["plugins"].get(plugin, {})
    _merge(into, given, release)


def _matching(machine: MemoryMachine, pattern: str) -> list[str]:
    import fnmatch

    folder, _, name = pattern.rpartition("/")
    if "*" not in pattern:
        return [pattern]
    return [f"{folder}/{each}" for each in machine.files.names(folder) if fnmatch.fnmatchcase(each, name)]


def _runtimes(document: dict[str, Any], release: Release) -> dict[str, Any]:
    found = document["plugins"][release.section].get("containerd", {}).get("runtimes", {})
    if not isinstance(found, dict):
        raise ConfigError("runtimes: expected a table")
    return found


def _write(document: dict[str, Any]) -> str:
    import tomlkit

    return tomlkit.dumps(document)
