"""The nvidia runtime in Docker's daemon.json, for every release.

Facts, from dockerd 20.10, 26.1 and 28.5 run on candidates, and from Docker's documentation: a runtime needs `path` alone; one with
a `runtimeType` takes no `path`, its binary is an option of that type. An option that is on the command line and in the file too
stops the daemon; `runtimes` are merged at the start, but a daemon that reads its file again then loses those of the command line.
CDI came with 25.0 as a feature to turn on, and is on by default from 28.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from gpunode.formats import command_line, json_edit
from gpunode.formats.engine_config import ConfigError, ConfigFile, ConfigFiles, Edited, FileEdit, Reason, Request
from gpunode.formats.engine_keys import CDI_FOLDERS, OTHER_BINARY
from gpunode.formats.toml_data import MISSING, Path, Value, dotted, lookup, same

STYLE = "json"
RUNC_TYPE = "io.containerd.runc.v2"
RESERVED = ("runc", RUNC_TYPE)
CDI_FIRST, CDI_BY_DEFAULT = (25, 0), (28, 2)
DAEMON_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where systemd has a daemon look for programs without a folder."""


def edit(files: ConfigFiles, request: Request) -> Edited:
    """daemon.json with the nvidia runtime in it.

    The first of `files.imported`, where there is one, is the unit with its command line, one word a line.

    Raises ConfigError when the file is no JSON or Docker would refuse the result, EditError when a key cannot be set.
    """
    command = files.imported[0] if files.imported else ConfigFile("", None)
    draft = _Draft(files.main, command, request, parse(files.main))
    _runtime(draft)
    _default(draft)
    _cdi(draft)
    before = files.main.text
    after = json_edit.set_keys(before or "", draft.wanted)
    edits = (FileEdit(files.main.path, before, after, STYLE),) if draft.wanted else ()
    return Edited(edits, tuple(draft.reasons), f"{files.main.path}: the one file that Docker reads", tuple(draft.left))


def parse(file: ConfigFile) -> dict[str, Any]:
    """The file as data. Raises ConfigError with the file's path, line and column."""
    try:
        return json_edit.parse(file.text or "")
    except json_edit.JsonError as error:
        raise ConfigError(f"{file.path}: {error}") from None


@dataclass
class _Draft:
    """What is to be set in the file, with reasons, and the repairs that were refused."""

    file: ConfigFile
    command: ConfigFile
    request: Request
    data: dict[str, Any]
    wanted: dict[Path, Value] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def want(self, path: Path, value: Value, why: str, *, repair: str = "") -> None:
        """Set a key, unless it has the value already."""
        found = lookup(self.data, path)
        if same(found, value):
            return
        self.wanted[path] = value
        self.reasons.append(Reason(path, None if found is MISSING else found, value, why, self.file.path, repair))

    def flags(self, name: str) -> list[str]:
        """The values of an option on the daemon's command line."""
        return command_line.values((self.command.text or "").split("\n"), name)

    def refuse_beside(self, flag: str, value: str, key: str) -> None:
        """Raise ConfigError: Docker does not take an option from two places."""
        then = "does not start when" if key != "runtimes" else "loses that runtime when it reads its file again and"
        unit = self.command.path
        raise ConfigError(
            f"{self.file.path}: {flag} {value} is on dockerd's command line in {unit}, and dockerd {then} the file has {key} too: "
            f"move the flag from {unit} into the file first"
        )


def _runtime(draft: _Draft) -> None:
    request, entry = draft.request, ("runtimes", draft.request.runtime_name)
    if request.runtime_name in RESERVED:
        raise ConfigError(f"{draft.file.path}: Docker keeps the runtime name {request.runtime_name} for itself")
    kind = lookup(draft.data, (*entry, "runtimeType"))
    if kind not in (MISSING, None, "", RUNC_TYPE):
        raise ConfigError(
            f"{draft.file.path}: {dotted(entry)} is of the type {kind}, which calls no {request.binary}: name another runtime"
        )
    path = (*entry, "options", "BinaryName") if kind == RUNC_TYPE else (*entry, "path")
    found = lookup(draft.data, path)
    if isinstance(found, str) and _is_same_program(found, request.binary):
        return
    flags = draft.flags("--add-runtime")
    if found is MISSING and f"{request.runtime_name}={request.binary}" in flags:
        return
    replaces = found not in (MISSING, None, "")
    if replaces and OTHER_BINARY in request.leave:
        draft.left.append(f"{OTHER_BINARY}: {dotted(path)} is {found}")
        return
    if flags:
        draft.refuse_beside("--add-runtime", flags[0], "runtimes")
    why = "this is the binary that puts the GPUs into a container before it calls runc"
    draft.want(path, request.binary, why, repair=OTHER_BINARY if replaces else "")


def _is_same_program(found: str, binary: str) -> bool:
    """A bare name is looked for where daemons look: NVIDIA's own tool writes it so."""
    folder, _, name = binary.rpartition("/")
    return found == binary or (found == name and folder in DAEMON_PATH)


def _default(draft: _Draft) -> None:
    if not draft.request.set_default:
        return
    name, flags = draft.request.runtime_name, draft.flags("--default-runtime")
    if flags and flags[-1] == name:
        return
    if flags:
        draft.refuse_beside("--default-runtime", flags[-1], "default-runtime")
    draft.want(("default-runtime",), name, f"the profile makes {name} the runtime of every container that names none")


def _cdi(draft: _Draft) -> None:
    wanted, version = draft.request.cdi, _numbers(draft.request.version)
    if wanted is None or (not wanted and version < CDI_FIRST):
        return
    if version and version < CDI_FIRST:
        raise ConfigError(f"Docker {draft.request.version} has no CDI, 25.0 is the first that does")
    flags = draft.flags("--feature")
    if f"cdi={str(wanted).lower()}" in flags:
        return
    found = lookup(draft.data, ("features", "cdi"))
    by_default = version >= CDI_BY_DEFAULT
    if (by_default if found in (MISSING, None) else found) is not wanted:
        if flags:
            draft.refuse_beside("--feature", flags[-1], "features")
        draft.want(("features", "cdi"), wanted, "the profile decides whether containers get devices by their CDI names")
    _cdi_folders(draft, wanted=wanted)


def _cdi_folders(draft: _Draft, *, wanted: bool) -> None:
    folders = draft.data.get("cdi-spec-dirs")
    missing = [each for each in CDI_FOLDERS if isinstance(folders, list) and folders and each not in folders]
    if wanted and missing and isinstance(folders, list):
        draft.want(
            ("cdi-spec-dirs",), [*folders, *missing], "NVIDIA's tools write the specifications of the GPUs there"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
