"""containerd's files seen as one: how they merge, which of two sections of other names is in effect, and what is to be set where."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gpunode.formats import toml_edit
from gpunode.formats.containerd_releases import Knowledge, Layout, Release, knowledge
from gpunode.formats.engine_config import ConfigError, ConfigFile, ConfigFiles, Reason, Request
from gpunode.formats.toml_data import MISSING, Path, TomlError, Value, dotted, lookup, parse, same


@dataclass
class File:
    """One file: as it was, its text and data with what was changed so far, and the keys that are yet to be written into the text."""

    path: str
    before: str | None
    text: str
    data: dict[str, Any]
    wanted: dict[Path, Value] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """True when there is no file, or nothing but comments in it."""
        return not self.data

    @property
    def after(self) -> str:
        """The text with the wanted keys. Raises EditError where one cannot be set faithfully."""
        return toml_edit.set_keys(self.text, self.wanted)

    def replace(self, text: str) -> None:
        """Give the file another text, before any key is wanted."""
        self.text, self.data = text, parse(text)

    def want(self, path: Path, value: Value) -> None:
        """Note a key; where something that is no table is in its way, writing it will say so."""
        self.wanted[path] = value
        table: Any = self.data
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                return
        table[path[-1]] = value


class View:
    """The files of one containerd, and the changes to them as they are gathered.

    Paths are written with the section names of `layout`, which is the one in effect. Raises ConfigError for files that this
    containerd does not read, and TomlError when the main one is no TOML.
    """

    def __init__(self, files: ConfigFiles, request: Request) -> None:
        self.request = request
        self.known: Knowledge = knowledge()
        self.release: Release = self.known.release(request.version)
        self.given = files
        self.main = _file(files.main, files)
        self.files = [self.main, *(_file(each, files) for each in files.imported)]
        self.says_nothing = all(file.is_empty for file in self.files)
        self.reasons: list[Reason] = []
        self.left: list[str] = []
        self.kept: set[Path] = set()  # keys that a refused repair would have set
        for file in self.files:
            self._refuse_unreadable(file)

    # --- what is in effect -------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The config version by which containerd reads all of the files: that of the last version line."""
        lines = [file.data["version"] for file in self.files if "version" in file.data]
        if lines:
            return int(lines[-1])
        return self.release.writes if self.says_nothing else 1

    @property
    def reads_newest(self) -> bool:
        """Whether the release reads the newest names from files of any version, which is so from 2.0 on."""
        return self.release.version_1_layout != 1

    @property
    def newest(self) -> Layout:
        """The newest section names of all."""
        return self.known.layouts[max(self.known.layouts)]

    @property
    def layout(self) -> Layout:
        """The names by which runtimes take effect: those of the files' version, or newer ones that some file has them under."""
        version = self.version
        shadowed = self.reads_newest and any(_has(file, self.newest.runtimes) for file in self.files)
        return (
            self.newest if shadowed else self.known.layouts[self.release.version_1_layout if version == 1 else version]
        )

    @cached_property
    def merged(self) -> dict[str, Any]:
        """The files' data as the release merges it, section names as written."""
        result: dict[str, Any] = {}
        for file in self.files:
            if self.release.imports_replace and not self.given.generated:
                for plugin in table(file.data, ("plugins",)):
                    table(result, ("plugins",)).pop(plugin, None)
            _merge(result, file.data)
        return result

    @property
    def runtimes(self) -> dict[str, Any]:
        """The runtimes in effect that some file lists."""
        return table(self.merged, self.layout.runtimes)

    def lookup(self, path: Path) -> Any:
        """The value or table in effect; MISSING where no file has one."""
        return lookup(self.merged, self.spelled(path))

    def spelled(self, path: Path) -> Path:
        """The path as the section is called that has this very key in effect; under other names than `layout`'s it may be read, too."""
        cri = self.layout.cri
        if (
            path[: len(cri)] != cri
            or not self.reads_newest
            or self.version != 2
            or path[: len(cri) + 2] == self.layout.runtimes
        ):
            return path
        names = [(*layout.cri, *path[len(cri) :]) for layout in (self.newest, self.known.layouts[2])]
        return next((name for name in names if lookup(self.merged, name) is not MISSING), path)

    def holder(self, path: Path) -> File | None:
        """The last file that has the key or table, and whose word on it counts."""
        for file in reversed(self.files):
            if _has(file, path):
                return file
            if (
                self.release.imports_replace
                and not self.given.generated
                and path[0] == "plugins"
                and _has(file, path[:2])
            ):
                return None
        return None

    def live(self) -> list[File]:
        """The files whose CRI sections count: all of them, or the last that has one where that replaces the others."""
        owners = [file for file in self.files if _has(file, self.layout.cri)]
        return owners[-1:] if self.release.imports_replace and not self.given.generated else owners

    def dead_sections(self) -> Iterator[tuple[File, Layout]]:
        """CRI sections under names by which this containerd reads no runtimes from these files."""
        for file in self.files:
            for version in (1, 2, max(self.known.layouts)):
                layout = self.known.layouts[version]
                if layout.cri != self.layout.cri and isinstance(lookup(file.data, layout.cri), dict):
                    yield file, layout

    # --- what is to be set -------------------------------------------------------------------------------------------

    def want(self, path: Path, value: Value, why: str, *, home: File, repair: str = "") -> None:
        """Have a key in effect, by setting it in `home` or in a later file that says otherwise; nothing where it is so already."""
        path = self.spelled(path)
        if same(lookup(self.merged, path), value):
            return
        holder = self.holder(path)
        later = holder and self.files.index(holder) > self.files.index(home)
        self.want_in(holder if holder and later and self.may_edit(holder) else home, path, value, why, repair=repair)

    def want_in(self, file: File, path: Path, value: Value, why: str, *, repair: str = "") -> None:
        """Set a key in that very file; nothing where it is so already. Raises ConfigError for a file that is not ours to edit."""
        found = lookup(file.data, path)
        if same(found, value) or path in self.kept:
            return
        earlier = next(
            (each for each in self.reasons if path in file.wanted and (each.file, each.path) == (file.path, path)), None
        )
        if earlier:
            # Two reasons for one key are one change, told with the last word on it.
            self.reasons.remove(earlier)
            found, repair = earlier.found, earlier.repair or repair
        self.tell(file, path, None if found is MISSING else found, value, why, repair=repair)
        file.want(path, value)
        self.changed()

    def tell(self, file: File, path: Path, found: Any, wanted: Any, why: str, *, repair: str = "") -> None:
        """Note the reason of a change. Raises ConfigError for a file that is not ours to edit."""
        if not self.may_edit(file):
            raise ConfigError(
                f"{file.path}: {dotted(path)} would have to change, and the file is written anew at every start"
            )
        self.reasons.append(Reason(path, found, wanted, why, file.path, repair))

    def changed(self) -> None:
        """Forget what was derived from the files' data."""
        self.__dict__.pop("merged", None)

    def may_edit(self, file: File) -> bool:
        """Whether the file is the operator's: where the main one is generated only those are that lie where drop-ins do."""
        return not self.given.generated or folder(file.path) == folder(self.given.drop_in)

    def refused(self, repair: str, what: str, *, keeping: Path = ()) -> bool:
        """Whether the operator leaves this repair out; notes it then, and keeps the key as it is whatever else asks for it."""
        if repair not in self.request.leave:
            return False
        self.kept |= {keeping} if keeping else set()
        line = f"left as it is, by containerd.leave: {what} ({repair})"
        self.left += [] if line in self.left else [line]
        return True

    def refuse_obstacles(self) -> None:
        """Raise ConfigError where a value stands where a table must: whichever file takes the keys, containerd reads none of them."""
        options = (*self.layout.runtimes, self.request.runtime_name, "options")
        for file in self.live():
            for length in range(1, len(options) + 1):
                found = lookup(file.data, options[:length])
                if found is not MISSING and not isinstance(found, dict):
                    kind = "an array" if isinstance(found, list) else "a value"
                    raise ConfigError(f"{file.path}: {dotted(options[:length])} is {kind} in this file and not a table")

    def _refuse_unreadable(self, file: File) -> None:
        version = file.data.get("version", 1)
        if isinstance(version, bool) or not isinstance(version, int) or version not in self.release.reads:
            readable = " and ".join(str(each) for each in self.release.reads)
            raise ConfigError(
                f"{file.path}: config version {version!r} is not read by containerd {self.request.version}, which reads {readable}"
            )


def table(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The table at path; an empty one where there is none."""
    found = lookup(data, path)
    return found if isinstance(found, dict) else {}


def folder(path: str) -> str:
    """The folder that a path lies in."""
    return path.rpartition("/")[0]


def _has(file: File, path: Path) -> bool:
    return lookup(file.data, path) is not MISSING


def _file(file: ConfigFile, files: ConfigFiles) -> File:
    try:
        return File(file.path, file.text, file.text or "", parse(file.text or ""))
    except TomlError as error:
        if file.path == files.main.path:
            raise
        raise ConfigError(f"{file.path}: {error}") from None


def _merge(into: dict[str, Any], data: Mapping[str, Any]) -> None:
    for key, value in data.items():
        inner = into.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            _merge(inner, value)
        else:
            into[key] = copy.deepcopy(value)
