"""Render: what apply would write, from texts alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpunode.catalog import load
from gpunode.catalog.model import Flavour
from gpunode.errors import UsageError
from gpunode.formats import containerd_config as editing
from gpunode.formats.containerd_imports import is_wildcard, matching, patterns
from gpunode.formats.containerd_releases import Release, knowledge
from gpunode.formats.engine_config import ConfigError, ConfigFile, ConfigFiles, FileEdit
from gpunode.formats.manifests import documents
from gpunode.formats.toml_data import TomlError, parse
from gpunode.formats.toml_edit import EditError
from gpunode.resources.files import unified
from gpunode.steps.containerd import request_of
from gpunode.steps.plugin_config import node_labels
from gpunode.steps.plugin_objects import objects

if TYPE_CHECKING:
    from gpunode.profile.model import HostProfile


@dataclass(frozen=True)
class Rendered:
    """What goes to standard output, and lines on what had to be assumed."""

    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Import:
    """A file that the operator gives for one of the host's: where it lies there, its text, and what the operator calls it."""

    path: str
    text: str
    name: str


def containerd_config(
    text: str | None,
    version: str,
    profile: HostProfile | None,
    *,
    name: str,
    imported: Sequence[Import] = (),
    diff: bool = False,
) -> Rendered:
    """The files with the nvidia runtime in them, or the unified diffs to them. Raises UsageError naming file, line and column.

    The main file alone, changed or not, is given byte for byte. In all other cases each file that changes is opened by a comment
    line with its path. `name` is what the operator calls the main file, for messages.
    """
    wanted = profile or _defaults()
    release = _release(version)
    names = {**{each.path: each.name for each in imported}, _path(wanted): name}
    try:
        given = {each.path: each.text for each in imported}
        files, assumed = _followed(_files(text, version, wanted), given, release)
        edited = editing.edit(files, request_of(wanted, load(), version))
    except (TomlError, EditError) as error:
        raise UsageError(f"{_called(name)}: {error}") from None
    except ConfigError as error:
        raise UsageError(_named(str(error), names)) from None
    notes = (*_release_note(version), *(_named(note, names) for note in assumed))
    main = files.main.path
    edits = edited.files or (FileEdit(main, text, text or "", ""),)
    return Rendered(_differences(edits) if diff else _texts(edits, main), notes)


def _differences(edits: Sequence[FileEdit]) -> str:
    return "".join(unified(each.path, each.before or "", each.after) for each in edits)


def _texts(edits: Sequence[FileEdit], main: str) -> str:
    if [each.path for each in edits] == [main]:
        return edits[0].after
    return "".join(f"# --- {each.path} ---\n{_ended(each.after)}" for each in edits)


# --- the release ---------------------------------------------------------------------------------------------------


def _release(version: str) -> Release:
    """Raises UsageError that blames the option."""
    try:
        return knowledge().release(version)
    except ConfigError as error:
        raise UsageError(f"--containerd-version: {error}") from None


def _release_note(version: str) -> Iterator[str]:
    """A line where the version is newer than all that is known of its major."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    major, minor = map(int, found.groups()) if found else (0, 0)
    newest = max((each.since for each in knowledge().releases if each.since[0] == major), default=(major, minor))
    if (major, minor) > newest:
        yield f"containerd {major}.{minor} is not known, and is treated as {newest[0]}.{newest[1]}"


# --- the files -----------------------------------------------------------------------------------------------------


def _files(text: str | None, version: str, profile: HostProfile) -> ConfigFiles:
    """The main file where the profile or its flavour has it, and where a drop-in would lie."""
    flavour = _flavour(profile)
    if flavour.engine == "self" and not profile.containerd.config:
        raise UsageError(
            f"{flavour.name} writes its containerd configuration itself and adds the runtime when it starts: there is nothing to render",
            hint="with a template of your own, name it by containerd.config in the profile",
        )
    path = _path(profile)
    beside = f"{path.rpartition('/')[0]}/conf.d/99-gpunode.toml" if flavour.name == "plain" else ""
    drop_in = profile.containerd.drop_in or flavour.drop_in or beside
    managed = bool(flavour.managed_mark) and (text is None or flavour.managed_mark in text.partition("\n")[0])
    if text is None and flavour.placeholders:
        raise UsageError(
            f"{flavour.name} has a template from which it makes its file: there is none to begin with",
            hint=f"give a copy of {path} by --config",
        )
    if text is None and managed:
        text = f"version = {knowledge().managed_version(version)}\n"
    return ConfigFiles(ConfigFile(path, text), (), drop_in, managed)


def _followed(files: ConfigFiles, given: Mapping[str, str], release: Release) -> tuple[ConfigFiles, list[str]]:
    """The files with their imports in the daemon's order, breadth first, and a line on each wildcard that nothing was given for.

    Raises ConfigError where a file is imported by its name and was not given, or was given and nothing imports it.
    """
    order, waiting = {files.main.path: files.main}, [files.main]
    missing: list[str] = []
    notes: list[str] = []
    while waiting:
        file = waiting.pop(0)
        for pattern in _patterns(file, release):
            found = matching(pattern, given)
            if not found and is_wildcard(pattern):
                notes.append(
                    f"{file.path}: nothing was given for its import {pattern}, which is taken to match no file"
                )
            elif not found and pattern not in order:
                missing.append(pattern)
            new = [ConfigFile(path, given[path]) for path in found if path not in order]
            order.update({each.path: each for each in new})
            waiting += new
    if files.generated:  # who generates the main file imports what lies where the drop-in does, whatever it says now
        beside = matching(f"{files.drop_in.rpartition('/')[0]}/*.toml", given)
        order.update({path: ConfigFile(path, given[path]) for path in beside if path not in order})
    _refuse_unmet(files.main.path, missing, [path for path in given if path not in order or path == files.main.path])
    return replace(files, imported=tuple(order.values())[1:]), notes


def _refuse_unmet(main: str, missing: Sequence[str], unread: Sequence[str]) -> None:
    if missing:
        option = " ".join(f"--import {path}=FILE" for path in missing)
        raise ConfigError(f"{main}: {', '.join(missing)} is imported and was not given; give it by {option}")
    if unread:
        raise ConfigError(f"{main}: nothing imports {', '.join(unread)}, so that containerd would not read it there")


def _patterns(file: ConfigFile, release: Release) -> list[str]:
    """The file's imports. Raises ConfigError when it is no TOML."""
    try:
        return patterns(file.path, parse(file.text or "").get("imports"), relative=release.relative_imports)
    except TomlError as error:
        raise ConfigError(f"{file.path}: {error}") from None


def _path(profile: HostProfile) -> str:
    return profile.containerd.config or _flavour(profile).config


def _flavour(profile: HostProfile) -> Flavour:
    flavours = load().flavours
    return flavours.get(profile.kubernetes.flavour, flavours["plain"])


def _named(message: str, names: Mapping[str, str]) -> str:
    """The message with the operator's name for the file that it blames, which lies elsewhere than on a host."""
    for path, name in names.items():
        if message.startswith(f"{path}: "):
            return f"{_called(name)}{message.removeprefix(path)}"
    return message


def _called(name: str) -> str:
    return "standard input" if name == "-" else name


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


# --- the device plugin ---------------------------------------------------------------------------------------------


def device_plugin_objects(profile: HostProfile, *, as_json: bool = False) -> Rendered:
    """The objects as YAML documents, or as one List in JSON; with the command that labels a node, which is no object of the plugin's."""
    found = objects(profile, _flavour(profile).device_plugins)
    listed = {"apiVersion": "v1", "kind": "List", "items": found}
    text = f"{json.dumps(listed, indent=2)}\n" if as_json else documents(found)
    return Rendered(text, _label_note(profile) if profile.device_plugin.mode == "daemonset" else ())


def _label_note(profile: HostProfile) -> tuple[str, ...]:
    labels = " ".join(f"{name}={value}" for name, value in node_labels(profile.device_plugin).items())
    name = profile.kubernetes.node_name or "NODE"
    return (f"the pods run on nodes with GPUs that are labelled so: kubectl label --overwrite node {name} {labels}",)


def _defaults() -> HostProfile:
    from gpunode.profile.model import HostProfile

    return HostProfile()
