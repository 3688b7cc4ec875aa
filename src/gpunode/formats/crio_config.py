"""The nvidia runtime in CRI-O's configuration: the main file, then every file of the drop-in folder in the order of their names.

Facts, from CRI-O 1.37 run on candidates, and from its documentation: files merge key by key, but an entry of a runtime is taken
whole from the file that is read last. A runtime without a `monitor_path` needs conmon on the daemon's search path, else CRI-O
does not start: so the entry takes over what the host's default runtime has. CDI is always on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gpunode.formats import toml_edit
from gpunode.formats.engine_config import ConfigError, ConfigFile, ConfigFiles, Edited, FileEdit, Reason, Request
from gpunode.formats.engine_keys import CDI_FOLDERS, OTHER_BINARY, difference
from gpunode.formats.toml_data import MISSING, Path, TomlError, Value, dotted, leaves, lookup, parse, same

STYLE = "toml"
RUNTIME: Path = ("crio", "runtime")
RUNTIMES: Path = (*RUNTIME, "runtimes")
ENTRY = len(RUNTIMES) + 1
WHOLE = (RUNTIMES, (*RUNTIME, "workloads"))
"""Tables whose entries come whole from the file that is read last."""

OCI = "oci"
DEFAULTS = ("crun", "runc")
"""CRI-O's default runtime, of today and of before, where no file names one."""

OWN = ("runtime_path", "runtime_type", "runtime_config_path", "inherit_default_runtime", "platform_runtime_paths")
"""What a runtime does not take over from another: which program it is."""


def edit(files: ConfigFiles, request: Request) -> Edited:
    """The files with the nvidia runtime in them.

    Raises ConfigError when a file is no TOML or the runtime cannot be set, EditError when a key cannot be.
    """
    draft = _Draft(_in_order(files, request), files, request, merged(files))
    _runtime(draft)
    _default(draft)
    _cdi(draft)
    edits = [
        FileEdit(file.path, file.text, toml_edit.set_keys(file.text or "", wanted), STYLE)
        for file in draft.order
        if (wanted := draft.wanted.get(file.path))
    ]
    return Edited(tuple(edits), tuple(draft.reasons), draft.place, tuple(draft.left))


def merged(files: ConfigFiles) -> dict[str, Any]:
    """What CRI-O makes of its files, defaults aside. Raises ConfigError when one is no TOML."""
    data: dict[str, Any] = {}
    for file in (files.main, *files.imported):
        _merge(data, _parse(file), ())
    return data


def unintended(before: dict[str, Any], after: dict[str, Any], edited: Edited) -> list[tuple[Path, Any, Any]]:
    """What differs between two dumps of `crio config` besides that which the edit means to change.

    CRI-O shows every option of a runtime's entry, those that nobody set too, and its own default runtime as soon as a file
    has a runtime of its own.
    """
    meant = {reason.path[:ENTRY] for reason in edited.reasons}
    if lookup(before, RUNTIMES) is MISSING:
        meant |= {(*RUNTIMES, name) for name in DEFAULTS}
    return [each for each in difference(before, after) if each[0][:ENTRY] not in meant]


def order_of(path: str) -> list[str]:
    """What to sort the drop-in folder's files by: CRI-O goes through a folder by names, and into folders in it."""
    return path.split("/")


@dataclass
class _Draft:
    """The files in the order of reading, what is to be set in each, and why."""

    order: list[ConfigFile]
    files: ConfigFiles
    request: Request
    data: dict[str, Any]
    wanted: dict[str, dict[Path, Value]] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def home(self) -> ConfigFile:
        """The file that takes new keys."""
        path = self.files.main.path if self.request.place == "main" else self.files.drop_in
        return next(file for file in self.order if file.path == path)

    @property
    def place(self) -> str:
        """Where the keys go, and why there."""
        if self.request.place == "main":
            return f"{self.home.path}, as the profile has it"
        defined = self.holder((*RUNTIMES, self.request.runtime_name))
        if defined not in (None, self.home):
            return f"{defined.path if defined else ''}: the runtime is defined there, and CRI-O takes an entry whole from one file"
        return f"a drop-in, {self.home.path}: CRI-O merges it into {self.files.main.path}, and what others have stays untouched"

    def holder(self, path: Path) -> ConfigFile | None:
        """The file that is read last of those that have the key or table."""
        return next((file for file in reversed(self.order) if lookup(_parse(file), path) is not MISSING), None)

    def want(self, path: Path, value: Value, why: str, *, at: ConfigFile, repair: str = "") -> None:
        """Set a key in a file, unless it has the value already."""
        found = lookup(self.data, path)
        if same(found, value):
            return
        self.wanted.setdefault(at.path, {})[path] = value
        self.reasons.append(Reason(path, None if found is MISSING else found, value, why, at.path, repair))

    def last(self, path: Path) -> ConfigFile:
        """Where a key of its own must stand to count: in `home`, or in the file behind it that has it too."""
        holder = self.holder(path)
        behind = holder is not None and self.order.index(holder) > self.order.index(self.home)
        return holder if holder is not None and behind else self.home


def _in_order(files: ConfigFiles, request: Request) -> list[ConfigFile]:
    drop_ins = list(files.imported)
    if request.place != "main":
        if not files.drop_in:
            raise ConfigError(f"{files.main.path}: there is no folder for a drop-in")
        if files.drop_in not in {file.path for file in drop_ins}:
            drop_ins.append(ConfigFile(files.drop_in, None))
    return [files.main, *sorted(drop_ins, key=lambda file: order_of(file.path))]


def _parse(file: ConfigFile) -> dict[str, Any]:
    try:
        return parse(file.text or "")
    except TomlError as error:
        raise ConfigError(f"{file.path}: {error}") from None


def _merge(data: dict[str, Any], later: dict[str, Any], path: Path) -> None:
    for key, value in later.items():
        if isinstance(value, dict) and isinstance(data.get(key), dict) and path not in WHOLE:
            _merge(data[key], value, (*path, key))
        elif isinstance(value, dict):
            data[key] = {}
            _merge(data[key], value, (*path, key))
        else:
            data[key] = value


def _runtime(draft: _Draft) -> None:
    request, entry = draft.request, (*RUNTIMES, draft.request.runtime_name)
    defined = draft.holder(entry)
    kind = lookup(draft.data, (*entry, "runtime_type"))
    if kind not in (MISSING, "", OCI):
        raise ConfigError(
            f"{defined.path if defined else ''}: {dotted(entry)} is of the type {kind}, "
            f"which calls no {request.binary}: name another runtime"
        )
    found = lookup(draft.data, (*entry, "runtime_path"))
    replaces = found not in (MISSING, "", request.binary)
    if replaces and OTHER_BINARY in request.leave:
        draft.left.append(f"{OTHER_BINARY}: {dotted((*entry, 'runtime_path'))} is {found}")
        return
    at = defined or draft.home
    why = "this is the binary that puts the GPUs into a container before it calls the host's runtime"
    draft.want((*entry, "runtime_path"), request.binary, why, at=at, repair=OTHER_BINARY if replaces else "")
    if defined is None:
        why = "the program speaks as runc does, and its containers have a monitor of their own"
        draft.want((*entry, "runtime_type"), OCI, why, at=at)
        _take_over(draft, entry)


def _take_over(draft: _Draft, entry: Path) -> None:
    """The options of the host's default runtime, of another where that is ours."""
    runtimes = lookup(draft.data, RUNTIMES)
    named = lookup(draft.data, (*RUNTIME, "default_runtime"))
    for name in (named, *DEFAULTS):
        options = runtimes.get(name) if isinstance(runtimes, dict) and isinstance(name, str) else None
        if isinstance(options, dict) and options.get("runtime_type", OCI) in ("", OCI):
            for path, value in leaves(options):
                if path[0] not in OWN and value not in ({}, ""):
                    draft.want((*entry, *path), value, f"the option is as {name}'s on this host", at=draft.home)
            return


def _default(draft: _Draft) -> None:
    if draft.request.set_default:
        path, name = (*RUNTIME, "default_runtime"), draft.request.runtime_name
        why = f"the profile makes {name} the runtime of every pod that names none"
        draft.want(path, name, why, at=draft.last(path))


def _cdi(draft: _Draft) -> None:
    """The two folders where specifications lie, where a file names others: CRI-O has no switch for CDI."""
    path = (*RUNTIME, "cdi_spec_dirs")
    folders = lookup(draft.data, path)
    missing = [each for each in CDI_FOLDERS if isinstance(folders, list) and each not in folders]
    if draft.request.cdi and missing:
        why = "NVIDIA's tools write the specifications of the GPUs there"
        draft.want(path, [*folders, *missing], why, at=draft.last(path))
    if draft.request.cdi is False:
        draft.left.append("CRI-O has no switch for CDI: it stays on")
