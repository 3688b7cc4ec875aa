"""k0s's containerd: its main file is written by k0s, drop-ins are merged by k0s or its containerd, and k0s itself restarts it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpunode.errors import HostError
from gpunode.formats.containerd_releases import knowledge
from gpunode.formats.engine_config import ConfigFile, ConfigFiles, Edited
from gpunode.formats.toml_data import MISSING, dotted, lookup, parse
from gpunode.host import systemd
from gpunode.host.engines.base import FoundEngine
from gpunode.host.engines.containerd import Containerd, dump
from gpunode.host.engines.loaded import clock
from gpunode.host.reader import Reader

if TYPE_CHECKING:
    from gpunode.host.writer import Writer

NOTICED_SECONDS = 30.0
"""k0s takes up a change in its folder after about three."""


class K0s(Containerd):
    """containerd as k0s runs it. A main file that the operator has taken over is read as any other containerd's."""

    name = "k0s"
    title = "k0s's containerd"
    flavours = ("k0s",)

    def restarts(self, found: FoundEngine) -> bool:
        """k0s does that by itself where the files are its own."""
        return not found.generated

    def read(self, host: Reader, found: FoundEngine) -> ConfigFiles:
        """The main file, and every drop-in in k0s's folder, in the order of their names."""
        if not found.generated:
            return super().read(host, found)
        folder = found.drop_in.rpartition("/")[0]
        imported = tuple(ConfigFile(path, host.read_text(path)) for path in host.glob(folder, "*.toml"))
        _refuse_old_names(imported, found)
        text = host.read_text(found.config) or managed_text(found.version)
        return ConfigFiles(ConfigFile(found.config, text), imported, found.drop_in, generated=True)

    def effective(self, host: Reader, found: FoundEngine, files: ConfigFiles) -> dict[str, Any]:
        """What its containerd makes of the drop-ins, merged key by key over its defaults as k0s does."""
        if not files.generated:
            return super().effective(host, found, files)
        import tomlkit  # heavy: loaded only where something is tried

        known = knowledge()
        release = known.release(found.version)
        version = known.managed_version(found.version)
        document: dict[str, Any] = {"version": version}
        if release.replaces_runtimes:  # k0s merges over the whole default section, in which runc is listed
            runtimes = known.layouts[version].runtimes
            _merge(document, _nested((*runtimes, "runc", "runtime_type"), known.runc_type))
        for file in files.imported:
            _merge(document, parse(file.text or ""))
        return dump(host, found, tomlkit.dumps(document), {})

    def after(self, host: Reader, found: FoundEngine, files: ConfigFiles, edited: Edited) -> ConfigFiles:
        """The drop-ins as the edit makes them."""
        if not files.generated:
            return super().after(host, found, files, edited)
        texts = {each.path: each.text for each in files.imported} | {each.path: each.after for each in edited.files}
        return replace(files, imported=tuple(ConfigFile(path, texts[path]) for path in sorted(texts)))

    def stale(self, host: Reader, found: FoundEngine, files: ConfigFiles) -> str:
        """By the socket, which containerd makes anew when it starts: k0s's unit says nothing of its child."""
        socket = host.lstat(found.socket)
        if socket is None:
            return "runs, and its containerd has made no socket" if systemd.unit(host, found.unit).active else ""
        stats = (host.lstat(each.path) for each in (files.main, *files.imported))
        changed = max((stat.mtime for stat in stats if stat and stat.mtime <= host.now()), default=0.0)
        if changed <= socket.mtime:
            return ""
        return f"started {clock(socket.mtime)}, before its configuration changed at {clock(changed)}"

    def reload(self, host: Writer, found: FoundEngine, *, timeout: float, loaded: str) -> None:
        """k0s watches its folder of drop-ins and restarts containerd by itself: wait for that. Raises HostError when it does not.

        A main file that is the operator's, a worker that does not run, and a change that k0s has missed take a restart of its unit.
        """
        if not found.generated or not systemd.unit(host, found.unit).active or self._is_old_news(host, found):
            super().reload(host, found, timeout=timeout, loaded=loaded)
        files = self.read(host, found)
        paths = (files.main.path, *(each.path for each in files.imported), found.drop_in.rpartition("/")[0])
        host.await_restart(found.unit, socket=found.socket, paths=paths, timeout=timeout)

    def _is_old_news(self, host: Reader, found: FoundEngine) -> bool:
        files = self.read(host, found)
        stats = (host.lstat(each.path) for each in (files.main, *files.imported))
        return host.now() - max((stat.mtime for stat in stats if stat), default=0.0) > NOTICED_SECONDS


def _refuse_old_names(files: tuple[ConfigFile, ...], found: FoundEngine) -> None:
    """Raise HostError for a drop-in of somebody's that keeps k0s from starting: in 2.x it takes no names of version 2."""
    known = knowledge()
    if known.managed_version(found.version) == 2:
        return
    for file in files:
        if file.path != found.drop_in and lookup(parse(file.text or ""), known.layouts[2].cri) is not MISSING:
            raise HostError(
                f"{file.path}: k0s does not start with {dotted(known.layouts[2].cri)} beside containerd {found.version}",
                hint=f"give its keys the name {dotted(known.layouts[3].cri)}, or take the file away; nothing was changed",
            )


def managed_text(version: str) -> str:
    """What k0s would begin its main file with, for as long as it has not written one."""
    return f"version = {knowledge().managed_version(version)}\n"


def _nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    found: dict[str, Any] = value
    return found


def _merge(into: dict[str, Any], data: dict[str, Any]) -> None:
    for key, value in data.items():
        inner = into.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            _merge(inner, value)
        else:
            into[key] = value
