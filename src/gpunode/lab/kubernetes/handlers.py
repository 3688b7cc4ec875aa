"""The runtime handlers that the running containerd knows: those of the configuration it was started with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG = Path("/etc/containerd")
FILE = CONFIG / "config.toml"
_INVOCATION = Path("/run/systemd/units/invocation:containerd.service")


@dataclass(frozen=True)
class Handler:
    """How a runtime is started: the shim's type and the binary it calls."""

    runtime_type: str
    binary: str


@dataclass(frozen=True)
class Loaded:
    """What one start of the daemon loaded. `invocation` is systemd's id of that start; `cri` whether CRI is up."""

    invocation: str
    default: str
    handlers: dict[str, Handler]
    cri: bool


def parse(document: dict[str, Any], written: dict[str, Any] | None = None) -> tuple[str, dict[str, Handler]]:
    """The default runtime's name and all handlers in a `containerd config dump`, of configuration version 2 or 3.

    `written` is the daemon's own file: containerd 1.4's dump leaves the runtimes' options out.
    """
    containerd, options = _containerd(document), _runtimes(_containerd(written or {}))
    handlers = {}
    for name, runtime in _runtimes(containerd).items():
        known = runtime.get("options") or options.get(name, {}).get("options", {})
        handlers[name] = Handler(runtime.get("runtime_type", ""), known.get("BinaryName") or "runc")
    return containerd.get("default_runtime_name", "runc"), handlers


def _containerd(document: dict[str, Any]) -> dict[str, Any]:
    plugins = document.get("plugins", {})
    section = plugins.get("io.containerd.cri.v1.runtime") or plugins.get("io.containerd.grpc.v1.cri") or {}
    found: dict[str, Any] = section.get("containerd", {})
    return found


def _runtimes(containerd: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = containerd.get("runtimes", {})
    return found


class HandlerWatch:
    """Follows the daemon's starts; keeps the last look in `file`, as a later look may show a configuration not loaded."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._loaded: Loaded | None = None
        if file.exists():
            saved = json.loads(file.read_text())
            handlers = {name: Handler(**handler) for name, handler in saved["handlers"].items()}
            self._loaded = Loaded(saved["invocation"], saved["default"], handlers, saved["cri"])

    def current(self) -> Loaded | None:
        """What the running daemon has loaded; None while it is down."""
        try:
            invocation = os.readlink(_INVOCATION)
        except FileNotFoundError:
            return None
        if self._loaded is None or self._loaded.invocation != invocation:
            self._look(invocation)
        return self._loaded

    def _look(self, invocation: str) -> None:
        cri = _cri_is_up()
        if cri is None:
            return  # the daemon does not answer yet
        if self._loaded is not None and _changed_since_start():
            # The file was edited between the start and this look: the last known configuration is the honest answer.
            default, handlers = self._loaded.default, self._loaded.handlers
        else:
            dumped = tomllib.loads(_output("containerd", "config", "dump"))
            default, handlers = parse(dumped, tomllib.loads(FILE.read_text()) if FILE.exists() else {})
        self._loaded = Loaded(invocation, default, handlers, cri)
        self._file.write_text(json.dumps(asdict(self._loaded)))


def _changed_since_start() -> bool:
    """Whether a file or folder of the configuration changed (by ctime, which nobody can set) after the daemon's start."""
    started = _INVOCATION.lstat().st_ctime
    paths = [CONFIG, *CONFIG.rglob("*")] if CONFIG.exists() else []
    return any(path.lstat().st_ctime > started for path in paths)


def _cri_is_up() -> bool | None:
    """Whether the daemon has its CRI plugin loaded; None while it does not answer."""
    lines = _output("ctr", "plugins", "ls").splitlines()
    if not lines:
        return None
    states = {tuple(line.split()[:2]): line.split()[-1] for line in lines if len(line.split()) >= 4}
    return states.get(("io.containerd.grpc.v1", "cri")) == "ok"


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout if done.returncode == 0 else ""
