"""CRI-O: a TOML file and a folder of drop-ins, asked what it makes of them by `crio config`, restarted to read them again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpunode.catalog.model import Flavour
from gpunode.errors import CommandError, HostError
from gpunode.formats import crio_config
from gpunode.formats.command_line import values
from gpunode.formats.engine_config import ConfigError, ConfigFile, ConfigFiles, Edited, Request
from gpunode.formats.toml_data import dotted
from gpunode.host import systemd
from gpunode.host.engines import reading
from gpunode.host.engines.base import FoundEngine, Proof, digest_of
from gpunode.host.engines.loaded import stale_since
from gpunode.host.reader import Reader

if TYPE_CHECKING:
    from gpunode.host.writer import Writer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

UNIT = "crio.service"
ENVIRONMENT = ("/etc/sysconfig/crio", "/etc/default/crio")
DEFAULT_CONFIG, DEFAULT_FOLDER = "/etc/crio/crio.conf", "/etc/crio/crio.conf.d"
DROP_IN = "99-nvidia.toml"


class Crio:
    """CRI-O, the kubelet's engine where it is installed. Without its binary its files are read and no more."""

    name = "crio"
    title = "CRI-O"

    def restarts(self, _found: FoundEngine) -> bool:
        """It reads its files when it starts."""
        return True

    def find(self, host: Reader, _flavour: Flavour) -> FoundEngine | None:
        """By its unit, or its binary."""
        words = reading.command_line(host, UNIT, ENVIRONMENT)
        own = bool(words) and words[0].rpartition("/")[2] == "crio"
        binary = host.which(words[0] if own else "crio") or ""
        if not own and not binary:
            return None
        config, folder = values(words, "--config", "-c"), values(words, "--config-dir", "-d")
        return FoundEngine(
            name=self.name,
            version=reading.version_of(host, binary) if binary else "",
            binary=binary,
            unit=UNIT if systemd.unit_file(host, UNIT) else "",
            config=config[-1] if config else DEFAULT_CONFIG,
            config_from=f"--config in the ExecStart of {UNIT}" if config else "CRI-O's default",
            drop_in=f"{(folder[-1] if folder else DEFAULT_FOLDER).rstrip('/')}/{DROP_IN}",
        )

    def read(self, host: Reader, found: FoundEngine) -> ConfigFiles:
        """The main file, then every file of the drop-in folder."""
        main = ConfigFile(found.config, reading.config_text(host, found.config, self.title))
        imported = (
            ConfigFile(path, reading.config_text(host, path, self.title)) for path in _walk(host, _folder(found))
        )
        return ConfigFiles(main, tuple(imported), found.drop_in)

    def edit(self, files: ConfigFiles, request: Request) -> Edited:
        """See formats/crio_config.py."""
        return crio_config.edit(files, request)

    def effective(self, host: Reader, found: FoundEngine, files: ConfigFiles) -> dict[str, Any]:
        """`crio config` where there is a binary, which needs no running daemon; else the files merged by gpunode."""
        try:
            merged = crio_config.merged(files)
        except ConfigError as error:
            raise HostError(str(error), hint="mend the file by hand; nothing was changed") from None
        return _asked(host, found, merged) if found.binary else merged

    def prove(self, host: Reader, found: FoundEngine, files: ConfigFiles, edited: Edited) -> Proof:
        """What CRI-O makes of the files before and after, as data; where it refuses those before, as gpunode reads them."""
        after_files = _after(files, edited)
        after = self.effective(host, found, after_files)
        words = f"`crio config` of {found.version}" if found.binary else "read by gpunode, there is no crio here to ask"
        try:
            before = self.effective(host, found, files)
            compared = (before, after)
        except CommandError:
            before = {}
            compared = (crio_config.merged(files), crio_config.merged(after_files))
            words += ", which refuses the files as they are"
        others = crio_config.unintended(*compared, edited)
        if others:
            path, old, new = others[0]
            raise HostError(
                f"{edited.files[0].path}: the change would also turn {dotted(path)} from {old} into {new}; nothing was replaced",
                hint="set that key in the file yourself, then run the same command again",
            )
        return Proof(f"{words}; before and after: nothing else changes", before != after, digest_of(after))

    def stale(self, host: Reader, found: FoundEngine, files: ConfigFiles) -> str:
        """By what gpunode restarted it with, else by the times of its files."""
        paths = [files.main.path, *(each.path for each in files.imported)]
        return stale_since(
            host, found.unit, paths, [_folder(found)], lambda: digest_of(self.effective(host, found, files))
        )

    def reload(self, host: Writer, found: FoundEngine, *, timeout: float, loaded: str) -> None:
        """A restart: each container has a monitor of its own, which keeps it running."""
        host.restart_service(found.unit, timeout=timeout, loaded=loaded)


def _folder(found: FoundEngine) -> str:
    return found.drop_in.rpartition("/")[0]


def _walk(host: Reader, folder: str) -> Iterator[str]:
    """Every file of the folder, whatever it is called, in CRI-O's order."""
    for name in host.listdir(folder):
        path = f"{folder}/{name}"
        stat = host.lstat(path)
        if stat is not None and stat.kind == "directory":
            yield from _walk(host, path)
        else:
            yield path


def _after(files: ConfigFiles, edited: Edited) -> ConfigFiles:
    """The files as the edit makes them."""
    candidates = {each.path: ConfigFile(each.path, each.after) for each in edited.files}
    main = candidates.pop(files.main.path, files.main)
    drop_ins = {file.path: file for file in files.imported} | candidates
    order = sorted(drop_ins, key=crio_config.order_of)
    return replace(files, main=main, imported=tuple(drop_ins[path] for path in order))


def _asked(host: Reader, found: FoundEngine, merged: dict[str, Any]) -> dict[str, Any]:
    import tomlkit  # heavy: loaded only where there is a CRI-O

    argv = [found.binary, "--config", "/dev/stdin", "--config-dir", "", "config"]
    output = host.query_once(argv, stdin=tomlkit.dumps(merged))
    if not output.ok:
        words = output.last_words(3) or (f"exit status {output.returncode}",)
        raise CommandError(f"CRI-O does not accept this configuration: {words[-1]}", details=words[:-1])
    try:
        return tomllib.loads(output.stdout)
    except tomllib.TOMLDecodeError as error:
        raise HostError(f"`crio config` answered no TOML: {error}") from None
