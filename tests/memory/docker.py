"""Docker, Podman and CRI-O: what their programs answer, and a Docker daemon that reads its file when it starts and on a signal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from memory import catalog, units
from memory.command import Answer, Call

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from memory.machine import MemoryMachine, Program

CONFIG = "/etc/docker/daemon.json"
SERVICE = "docker.service"
CRIO_SERVICE = "crio.service"
DOCKERD = "/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS"
STOCK = {"path": "runc"}
OPTIONS = {
    "cdi-spec-dirs", "data-root", "debug", "default-runtime", "exec-opts", "features", "hosts", "labels", "live-restore",
    "log-driver", "log-level", "log-opts", "runtimes", "storage-driver",
}  # fmt: skip


@dataclass
class Daemon:
    """dockerd as it runs: what it has read, its containers. `deaf` takes no notice of a signal."""

    version: str = "26.1.5"
    runtimes: dict[str, Any] = field(default_factory=lambda: {"runc": STOCK})
    default: str = "runc"
    cdi: bool = False
    live_restore: bool = False
    containers: int = 0
    deaf: bool = False

    def start(self, machine: MemoryMachine) -> None:
        """Read everything, with no memory of what was read before; containers live on with live-restore alone."""
        config = _read(machine)
        self.containers = self.containers if self.live_restore else 0
        self.runtimes = {"runc": STOCK, **(config.get("runtimes") or {})}
        self.default = config.get("default-runtime", "runc")
        by_default = _numbers(self.version) >= (28, 2)
        self.cdi = (config.get("features") or {}).get("cdi", by_default)
        self.live_restore = config.get("live-restore", False)

    def reload(self, machine: MemoryMachine) -> None:
        """As dockerd: runtimes are replaced where the file has any, CDI stays as it was at the start."""
        config = _read(machine)
        self.runtimes = {"runc": STOCK, **config["runtimes"]} if config.get("runtimes") else self.runtimes
        self.default = config.get("default-runtime", "runc")
        self.live_restore = config.get("live-restore", self.live_restore)

    def info(self) -> dict[str, Any]:
        """What `docker info` shows of it, as far as tests look at it."""
        return {
            "Runtimes": self.runtimes,
            "DefaultRuntime": self.default,
            "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"] if self.cdi else [],
            "LiveRestoreEnabled": self.live_restore,
            "ContainersRunning": self.containers,
        }


def install_docker(machine: MemoryMachine, daemon: Daemon, *, command: str = DOCKERD) -> None:
    """Lay Docker on the machine and start it; `systemctl` then has it read its file as systemd would."""
    for name in ("/usr/sbin/dockerd", "/usr/bin/docker"):
        machine.files.lay(name, "#!", mode=0o755)
    machine.files.lay(f"/usr/lib/systemd/system/{SERVICE}", catalog.unit(command))
    machine.files.make_folders("/etc/docker")
    machine.programs |= {"dockerd": _dockerd(daemon), "docker": _docker(daemon), "systemctl": _systemctl(daemon)}
    machine.run(["systemctl", "start", SERVICE])


def install_crio(machine: MemoryMachine, version: str = "1.37.0") -> None:
    """Lay CRI-O on the machine and start it."""
    machine.files.lay("/usr/bin/crio", "#!", mode=0o755)
    machine.files.lay(f"/usr/lib/systemd/system/{CRIO_SERVICE}", catalog.unit("/usr/bin/crio $CRIO_CONFIG_OPTIONS"))
    machine.files.make_folders("/etc/crio/crio.conf.d")
    machine.programs["crio"] = _crio(version)
    machine.run(["systemctl", "start", CRIO_SERVICE])


def install_podman(machine: MemoryMachine, version: str = "5.4.2") -> None:
    """Lay Podman on the machine."""
    machine.files.lay("/usr/bin/podman", "#!", mode=0o755)
    machine.programs["podman"] = lambda _machine, _call: Answer(f"podman version {version}\n")


def _read(machine: MemoryMachine) -> dict[str, Any]:
    text = machine.files.text(CONFIG) if machine.files.exists(CONFIG) else ""
    config: dict[str, Any] = json.loads(text) if text.strip() else {}
    return config


def _systemctl(daemon: Daemon) -> Program:
    def systemctl(machine: MemoryMachine, call: Call) -> Answer:
        answer = units.systemctl(machine, call)
        verb, *names = call.operands()
        if SERVICE in names and answer.status == 0 and verb in ("start", "restart"):
            daemon.start(machine)
        if SERVICE in names and answer.status == 0 and verb == "reload-or-restart" and not daemon.deaf:
            daemon.reload(machine)
        return answer

    return systemctl


def _dockerd(daemon: Daemon) -> Program:
    def dockerd(machine: MemoryMachine, call: Call) -> Answer:
        if "--version" in call.words:
            return Answer(f"Docker version {daemon.version}+dfsg1, build 411e817\n")
        if _numbers(daemon.version) < (23,):
            return Answer(stderr="Status: unknown flag: --validate\nSee 'dockerd --help'., Code: 125\n", status=1)
        path = call.words[call.words.index("--config-file") + 1]
        held = call.instead.get(path)
        complaint = _complaint(held.decode() if held is not None else machine.files.text(path), call.words)
        if complaint:
            words = f"unable to configure the Docker daemon with file {path}: {complaint}\n"
            return Answer(stderr=words, status=1)
        return Answer(stderr="configuration OK\n")

    return dockerd


def _complaint(text: str, words: tuple[str, ...]) -> str:
    try:
        config = json.loads(text.removeprefix("\ufeff") or "{}")
    except ValueError as error:
        return f"invalid JSON: {error}"
    unknown = [key for key in config if key not in OPTIONS]
    if unknown:
        return f"the following directives don't match any configuration option: {', '.join(unknown)}"
    twice = [key for key in config if f"--{key}" in words]
    return (
        f"the following directives are specified both as a flag and in the configuration file: {twice[0]}"
        if twice
        else ""
    )


def _docker(daemon: Daemon) -> Program:
    def docker(machine: MemoryMachine, call: Call) -> Answer:
        if "info" not in call.words:
            return Answer(f"Docker version {daemon.version}+dfsg1, build a72d7cd\n")
        if machine.units[SERVICE].active == "active":
            return Answer(json.dumps(daemon.info()) + "\n")
        return Answer(json.dumps({"ServerErrors": ["Cannot connect to the Docker daemon"], "Runtimes": None}) + "\n")

    return docker


def _crio(version: str) -> Program:
    def crio(_machine: MemoryMachine, call: Call) -> Answer:
        if "--version" in call.words:
            return Answer(f"crio version {version}\n   GitCommit:      unknown\n")
        try:
            config = tomllib.loads(call.stdin)
        except tomllib.TOMLDecodeError as error:
            return Answer(stderr=f'level=fatal msg="unable to decode configuration /dev/stdin: {error}"\n', status=1)
        runtime = config.get("crio", {}).get("runtime", {})
        default, runtimes = runtime.get("default_runtime", "crun"), runtime.get("runtimes", {})
        if runtimes:
            runtimes.setdefault("crun", {"runtime_path": "", "runtime_type": "oci"})
        if default != "crun" and default not in runtimes:
            words = f'level=fatal msg="validating runtime config: default_runtime set to \\"{default}\\", but no runtime entry table"'
            return Answer(stderr=f"{words}\n", status=1)
        return Answer(_dump(config))

    return crio


def _dump(config: Mapping[str, Any]) -> str:
    import tomlkit

    return tomlkit.dumps(config)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
