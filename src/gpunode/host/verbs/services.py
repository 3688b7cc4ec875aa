"""Services: enabled, started, restarted; modules loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpunode.errors import CommandError, HostError
from gpunode.host import modules, systemd
from gpunode.host.verbs.base import Hands, Json, NeverConflicts, Taken

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class EnableService(NeverConflicts):
    """Enable a unit and start it now."""

    name: ClassVar[str] = "enable-service"
    unit: str

    def intent(self, hands: Hands) -> Json | None:
        """Whether it was enabled and active; None when it is both."""
        now = systemd.unit(hands.reader, self.unit)
        if now.enabled and now.active:
            return None
        return {"unit": self.unit, "enabled": now.enabled, "active": now.active}

    def act(self, hands: Hands, intent: Json) -> None:
        """`systemctl enable --now`."""
        if not intent["enabled"]:
            systemd.control(hands.machine, "enable", intent["unit"])
        systemd.control(hands.machine, "start", intent["unit"])

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Stop and disable it where it was so, if it still exists."""
        now = systemd.unit(hands.reader, intent["unit"])
        if not now.loaded:
            return Taken()
        if not intent["active"] and now.active:
            systemd.control(hands.machine, "stop", intent["unit"])
        if not intent["enabled"] and now.enabled:
            systemd.control(hands.machine, "disable", intent["unit"])
        return Taken()


class _TakesUpFiles(NeverConflicts):
    """What has a unit take up files that have changed. Undone by having it take them up once more, last of all."""

    deferred: ClassVar[bool] = True
    command: ClassVar[str]
    """systemctl's word for it."""
    aftermath: ClassVar[str] = ""
    """What an undo leaves, with {unit} for the unit."""

    def act(self, hands: Hands, intent: Json) -> None:
        """Run it and wait. Raises CommandError with the daemon's own log lines when it does not come back."""
        systemd.control(hands.machine, self.command, intent["unit"], timeout=intent["timeout"])

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """The files it reads are as they were by now: let it read them."""
        now = systemd.unit(hands.reader, intent["unit"])
        if not now.loaded:
            return Taken()
        verb = cls.command if intent["active"] else "stop"
        try:
            systemd.control(hands.machine, verb, intent["unit"], timeout=intent["timeout"])
        except HostError as error:
            return Taken(left=(f"service {intent['unit']}: {error.message}",))
        return Taken(note=cls.aftermath.format(unit=intent["unit"]))


@dataclass(frozen=True)
class RestartService(_TakesUpFiles):
    """Restart a unit, and wait until it is up.

    `loaded` is a digest of the configuration that it starts with, so that a later look knows what the running daemon has read.
    """

    name: ClassVar[str] = "restart-service"
    command: ClassVar[str] = "restart"
    unit: str
    timeout: float
    loaded: str = ""

    def intent(self, hands: Hands) -> Json | None:
        """Whether it was active."""
        return _activity(hands, self.unit, self.timeout) | ({"loaded": self.loaded} if self.loaded else {})


@dataclass(frozen=True)
class ReloadService(_TakesUpFiles):
    """Have a unit read its files again without a restart, or start it where it did not run."""

    name: ClassVar[str] = "reload-service"
    command: ClassVar[str] = "reload-or-restart"
    # dockerd keeps a runtime that is no longer in its file: what it does not read, it does not forget.
    aftermath: ClassVar[str] = "{unit} may know what was taken out of its files until its next start"
    unit: str
    timeout: float

    def intent(self, hands: Hands) -> Json | None:
        """Whether it was active."""
        return _activity(hands, self.unit, self.timeout)


def _activity(hands: Hands, unit: str, timeout: float) -> Json:
    return {"unit": unit, "active": systemd.unit(hands.reader, unit).active, "timeout": timeout}


@dataclass(frozen=True)
class AwaitRestart(NeverConflicts):
    """Wait until a unit has started its daemon anew, as k0s does by itself. Undone by waiting for that once more, after all restarts.

    The daemon makes its `socket` anew when it starts, and reads `paths` then: files, and the folders that they lie in.
    """

    name: ClassVar[str] = "await-restart"
    deferred: ClassVar[bool] = True
    unit: str
    socket: str
    paths: tuple[str, ...]
    timeout: float

    def intent(self, hands: Hands) -> Json | None:
        """None when the daemon has started since they changed, or the unit does not run."""
        intent = {"unit": self.unit, "socket": self.socket, "paths": list(self.paths), "timeout": self.timeout}
        return intent if _is_behind(hands, intent) else None

    def act(self, hands: Hands, intent: Json) -> None:
        """Raises HostError when it has not done so within `timeout` seconds."""
        _await(hands, intent)

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """The files are as they were by now: wait for the daemon that reads it."""
        try:
            _await(hands, intent)
        except HostError as error:
            return Taken(left=(error.message,))
        return Taken()


def _await(hands: Hands, intent: Json) -> None:
    deadline = hands.reader.now() + intent["timeout"]
    while _is_behind(hands, intent):
        if hands.reader.now() > deadline:
            raise HostError(
                f"{intent['unit']} did not start its daemon anew within {intent['timeout']:g} s of the change",
                hint=f"see `journalctl -u {intent['unit']}`",
            )
        hands.reader.wait(POLL_SECONDS)


def _is_behind(hands: Hands, intent: Json) -> bool:
    """Whether the unit runs, and its daemon has not started since the last change. What comes from the future says nothing."""
    host = hands.reader
    if not systemd.unit(host, intent["unit"]).active:
        return False
    socket, stats = host.lstat(intent["socket"]), [host.lstat(path) for path in intent["paths"]]
    return socket is None or any(stat and socket.mtime <= stat.mtime <= host.now() for stat in stats)


@dataclass(frozen=True)
class StopService(NeverConflicts):
    """Stop a unit for a while. Undone by starting it where it was active, last of all."""

    name: ClassVar[str] = "stop-service"
    deferred: ClassVar[bool] = True
    unit: str

    def intent(self, hands: Hands) -> Json | None:
        """None when it is not active."""
        return {"unit": self.unit} if systemd.unit(hands.reader, self.unit).active else None

    def act(self, hands: Hands, intent: Json) -> None:
        """`systemctl stop`."""
        systemd.control(hands.machine, "stop", intent["unit"])

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Start it again, if it still exists and does not run."""
        now = systemd.unit(hands.reader, intent["unit"])
        if now.loaded and not now.active:
            systemd.control(hands.machine, "start", intent["unit"])
        return Taken()


@dataclass(frozen=True)
class LoadModule(NeverConflicts):
    """Load a kernel module."""

    name: ClassVar[str] = "load-module"
    module: str

    def intent(self, hands: Hands) -> Json | None:
        """None when it is loaded."""
        return None if modules.is_loaded(hands.reader, self.module) else {"module": self.module}

    def act(self, hands: Hands, intent: Json) -> None:
        """`modprobe`. Raises CommandError with what it and the kernel said."""
        modules.load(hands.machine, intent["module"])

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Unload it; where it is in use it stays until the next boot."""
        if not modules.is_loaded(hands.reader, intent["module"]):
            return Taken()
        try:
            modules.unload(hands.machine, intent["module"])
        except CommandError as error:
            return Taken(left=(f"module {intent['module']} stays loaded until the next boot: {error.message}",))
        return Taken()


@dataclass(frozen=True)
class UnloadModule(NeverConflicts):
    """Unload a kernel module so that another version can be loaded. Undone by loading whatever is installed, last of all."""

    name: ClassVar[str] = "unload-module"
    deferred: ClassVar[bool] = True
    module: str

    def intent(self, hands: Hands) -> Json | None:
        """None when it is not loaded."""
        return {"module": self.module} if modules.is_loaded(hands.reader, self.module) else None

    def act(self, hands: Hands, intent: Json) -> None:
        """`modprobe --remove`. Raises CommandError when it is in use."""
        modules.unload(hands.machine, intent["module"])

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """The packages are what they were by now: load their module."""
        if modules.is_loaded(hands.reader, intent["module"]):
            return Taken()
        try:
            modules.load(hands.machine, intent["module"])
        except CommandError as error:
            return Taken(left=(f"module {intent['module']} is not loaded: {error.message}",))
        return Taken()
