"""containerd: a TOML file with imports, asked what it makes of them by `config dump`, restarted to read them again."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpunode.catalog.model import Flavour
from gpunode.errors import CommandError, HostError
from gpunode.formats import containerd_config, toml_edit
from gpunode.formats.containerd_imports import is_wildcard, matching, patterns
from gpunode.formats.containerd_releases import knowledge
from gpunode.formats.containerd_rules import broken_rules
from gpunode.formats.engine_config import ConfigError, ConfigFile, ConfigFiles, Edited, Request
from gpunode.formats.toml_data import TomlError, dotted, parse
from gpunode.host import systemd
from gpunode.host.engines import command
from gpunode.host.engines.base import FoundEngine, Proof, digest_of
from gpunode.host.engines.loaded import stale_since
from gpunode.host.reader import Reader

if TYPE_CHECKING:
    from gpunode.host.writer import Writer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_CONFIG = "/etc/containerd/config.toml"
OPTIONS = ("--config", "-config", "-c", "--c")
MAIN_MARK = "@gpunode-main@"
"""Stands for a candidate of the main file on the command line: it lies nowhere."""
LARGEST_CONFIG = 1 << 20
"""Bytes. A full dump of every setting with registries for a site is some 50 KB: what is larger is no configuration."""


class Containerd:
    """containerd, the plain one of a distribution or the one that a Kubernetes distribution brings."""

    name = "containerd"
    title = "containerd"
    flavours: tuple[str, ...] = ("plain", "k3s", "rke2", "microk8s")

    def restarts(self, _found: FoundEngine) -> bool:
        """It reads its files when it starts."""
        return True

    def find(self, host: Reader, flavour: Flavour) -> FoundEngine | None:
        """By the flavour's unit and the command line that this has."""
        if flavour.name not in self.flavours:
            return None
        unit = next((each for each in flavour.units if systemd.unit_file(host, each)), flavour.units[0])
        words = systemd.exec_start(host, unit)
        binary = flavour.containerd or command.program_of(host, words, "containerd") or host.which("containerd")
        if not binary or not host.exists(binary):
            return None
        config, origin, drop_in = flavour.config, flavour.source, flavour.drop_in
        if flavour.name == "plain":
            config, origin = _config_of(host, unit, words)
            drop_in = f"{config.rpartition('/')[0]}/conf.d/99-gpunode.toml" if config else ""
        return FoundEngine(
            name=self.name,
            version=_version(host, binary),
            binary=binary,
            unit=unit,
            config=config,
            config_from=origin,
            drop_in=drop_in,
            generated=flavour.engine == "self" or is_managed(host, flavour),
            placeholders=tuple(flavour.placeholders.items()),
            socket=flavour.socket,
        )

    def read(self, host: Reader, found: FoundEngine) -> ConfigFiles:
        """The main file and what it imports, of what that imports too."""
        if not found.config:
            raise HostError(found.config_from)
        main = ConfigFile(found.config, _text(host, found.config))
        release = knowledge().release(found.version)
        imported = tuple(_imported(host, main, {}, relative=release.relative_imports))
        missing = [each.path for each in imported if each.text is None]
        if missing and release.needs_imports:
            raise HostError(
                f"{found.config} imports {missing[0]}, which is not there: containerd {found.version} does not start with that",
                hint="take it out of `imports`, or put the file back; nothing was changed",
            )
        return ConfigFiles(main, imported, found.drop_in, found.generated)

    def edit(self, files: ConfigFiles, request: Request) -> Edited:
        """See formats/containerd_config.py."""
        return containerd_config.edit(files, request)

    def effective(self, host: Reader, found: FoundEngine, files: ConfigFiles) -> dict[str, Any]:
        """`containerd config dump`, which needs no running daemon."""
        text = files.main.text or f"version = {knowledge().release(found.version).writes}\n"
        marks = {
            each.path: f"@gpunode-{number}@" for number, each in enumerate(files.imported) if each.text is not None
        }
        if parse(text).get("imports"):
            # Named one by one, so that a candidate takes its place among the files that lie on the disk.
            text = toml_edit.set_keys(
                text, {("imports",): [marks.get(each.path, each.path) for each in files.imported]}
            )
        for word, meaning in found.placeholders:
            text = text.replace(word, meaning)
        given = {marks[each.path]: _alone(each.text).encode() for each in files.imported if each.text is not None}
        return dump(host, found, text, given)

    def prove(self, host: Reader, found: FoundEngine, files: ConfigFiles, edited: Edited) -> Proof:
        """The dump of before against the dump of after, as data; and the rules of which the dump says nothing."""
        _refuse_stray_drop_in(host, edited)
        after = self.effective(host, found, self.after(host, found, files, edited))
        try:
            before = self.effective(host, found, files)
        except CommandError as error:
            words = f"`containerd config dump` of {found.version}: it accepts the files now, and did not before ({error.message})"
            return Proof(words, differs=True, digest=digest_of(after))
        _require_meant(found, files, edited, before, after)
        words = f"`containerd config dump` of {found.version}, before and after: nothing else changes"
        return Proof(words, digest_of(before) != digest_of(after), digest_of(after))

    def after(self, host: Reader, found: FoundEngine, files: ConfigFiles, edited: Edited) -> ConfigFiles:
        """The files as the edit makes them."""
        candidates = {each.path: each.after for each in edited.files}
        main = ConfigFile(files.main.path, candidates.get(files.main.path, files.main.text))
        relative = knowledge().release(found.version).relative_imports
        imported = tuple(_imported(host, main, candidates, relative=relative))
        if files.drop_in in candidates and files.drop_in not in {each.path for each in imported}:
            raise ConfigError(f"{files.drop_in}: nothing in {main.path} imports it")
        return replace(files, main=main, imported=imported)

    def stale(self, host: Reader, found: FoundEngine, files: ConfigFiles) -> str:
        """By what gpunode restarted it with, else by the times of its files."""
        paths = [files.main.path, *(each.path for each in files.imported)]
        relative = knowledge().release(found.version).relative_imports
        folders = sorted({pattern.rpartition("/")[0] for pattern in _patterns(files.main, relative=relative)})
        return stale_since(host, found.unit, paths, folders, lambda: digest_of(self.effective(host, found, files)))

    def reload(self, host: Writer, found: FoundEngine, *, timeout: float, loaded: str) -> None:
        """A restart: containerd reads its configuration when it starts. Its shims keep the containers running."""
        host.restart_service(found.unit, timeout=timeout, loaded=loaded)


def _alone(text: str) -> str:
    """An imported file without imports of its own: the main one names them all."""
    return toml_edit.set_keys(text, {("imports",): []}) if parse(text).get("imports") else text


def dump(host: Reader, found: FoundEngine, text: str, instead: Mapping[str, bytes]) -> dict[str, Any]:
    """What the engine's own binary makes of a configuration. Raises CommandError with its words when it refuses it."""
    # Not by a pipe: containerd 2.x seeks in the file when it meets a key that it does not know.
    given = {**instead, MAIN_MARK: text.encode()}
    output = host.query_once([found.binary, "--config", MAIN_MARK, "config", "dump"], instead=given)
    if not output.ok:
        words = output.last_words(3) or (f"exit status {output.returncode}",)
        raise CommandError(f"containerd does not accept this configuration: {words[-1]}", details=words[:-1])
    try:
        return tomllib.loads(output.stdout)
    except tomllib.TOMLDecodeError as error:
        raise HostError(f"`containerd config dump` answered no TOML: {error}") from None


def is_managed(host: Reader, flavour: Flavour) -> bool:
    """True when the flavour writes its main file anew at every start: by the words that it puts there, or as long as there is none."""
    if not flavour.managed_mark:
        return False
    content = host.read(flavour.config)
    return content is None or flavour.managed_mark.encode() in content.partition(b"\n")[0]


def _refuse_stray_drop_in(host: Reader, edited: Edited) -> None:
    """Raise HostError where a new drop-in would replace a file that nothing has read until now."""
    for each in edited.files:
        left = host.read_text(each.path) if each.before is None and host.lstat(each.path) is not None else None
        if left and left != each.after:
            raise HostError(
                f"{each.path} is there, and no file imports it: what is in it would take effect",
                hint="move it away, or name another place by containerd.drop_in in the profile",
            )


def _require_meant(
    found: FoundEngine, files: ConfigFiles, edited: Edited, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Raise HostError where the edit does anything else than it means to, or not all of it."""
    place = edited.files[0].path
    differences = containerd_config.effective_difference(before, after)
    for path, old, new in containerd_config.unintended(differences, edited, files):
        raise HostError(
            f"{place}: the change would also turn {dotted(path)} from {_word(old)} into {_word(new)}; nothing was replaced",
            hint="set that key in the file yourself, then run the same command again",
        )
    broken = [rule for rule in broken_rules(after) if rule not in broken_rules(before)]
    if broken:
        raise HostError(f"{place}: with the change CRI would not load: {broken[0]}; nothing was replaced")
    for reason in containerd_config.without_effect(after, edited, found.version):
        raise HostError(
            f"{reason.file}: {dotted(reason.path)} = {_word(reason.wanted)} would have no effect there; nothing was replaced",
            hint="see where containerd reads it from: `containerd config dump`",
        )


def _config_of(host: Reader, unit: str, words: tuple[str, ...]) -> tuple[str, str]:
    """The file that the daemon's command line names, and where that is said; no file, and why, where that cannot be known."""
    try:
        path, where = command.config_option(host, unit, words, "containerd", OPTIONS)
    except HostError as error:
        return "", error.message
    return (path, where) if path else (DEFAULT_CONFIG, "containerd's default")


def _version(host: Reader, binary: str) -> str:
    """`containerd github.com/containerd/containerd 1.7.24~ds1 …` → `1.7.24`; empty when it does not say."""
    output = host.query_once([binary, "--version"])
    found = re.search(r"\bv?(\d+\.\d+\.\d+)", output.stdout)
    return found[1] if found else ""


def _text(host: Reader, path: str) -> str | None:
    stat = host.lstat(host.realpath(path))
    if stat is not None and stat.size > LARGEST_CONFIG:
        raise HostError(
            f"{path}: {stat.size / (1 << 20):.1f} MiB is no configuration of containerd's",
            hint=f"look at {path}: something else was written there; nothing was changed",
        )
    return host.read_text(path)


def _imported(host: Reader, main: ConfigFile, candidates: Mapping[str, str], *, relative: bool) -> Iterator[ConfigFile]:
    """The files that containerd merges into the main one, in its order; a candidate counts as if it lay there already.

    `relative` says whether it seeks a relative path beside the file that has it; else that names nothing.
    """
    seen, waiting = {main.path}, [main]
    while waiting:
        file = waiting.pop(0)
        for path in _paths(host, file, candidates, relative=relative):
            if path not in seen:
                seen.add(path)
                text = candidates[path] if path in candidates else _text(host, path)
                waiting.append(ConfigFile(path, text))
                yield waiting[-1]


def _paths(host: Reader, file: ConfigFile, candidates: Mapping[str, str], *, relative: bool) -> Iterator[str]:
    for pattern in _patterns(file, relative=relative):
        if is_wildcard(pattern):
            yield from matching(pattern, {*_there(host, pattern), *candidates})
        else:
            yield pattern


def _there(host: Reader, pattern: str) -> list[str]:
    """What the host has where a wildcard may lead: all below each folder that its folder's part means."""
    folder = pattern.rpartition("/")[0]
    folders = matching(folder, _there(host, folder)) if is_wildcard(folder) else [folder]
    return [path for each in folders for path in host.glob(each, "*")]


def _patterns(file: ConfigFile, *, relative: bool) -> list[str]:
    """The file's imports. Raises HostError when it is no TOML."""
    try:
        return patterns(file.path, parse(file.text or "").get("imports"), relative=relative)
    except TomlError as error:
        hint = f"mend {file.path} by hand, then run the same command again; nothing was changed"
        raise HostError(f"{file.path}: {error}", hint=hint) from None


def _word(value: object) -> str:
    if value is None:
        return "absent"
    return "true" if value is True else "false" if value is False else str(value)
