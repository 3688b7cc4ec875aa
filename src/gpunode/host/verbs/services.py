"""Services: enabled, started, restarted; modules loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpunode.errors import CommandError, HostError
from gpunode.host import modules, systemd
from gpunode.host.verbs.base import Conflict, FileView, Hands, Json, Taken


class _NeverConflicts:
    deferred: ClassVar[bool] = False

    @classmethod
    def conflict(cls, _hands: Hands, _intent: Json, _view: FileView) -> Conflict | None:
        """None ever: a unit's or module's state is nobody's text."""
        return None


@dataclass(frozen=True)
class EnableService(_NeverConflicts):
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


@dataclass(frozen=True)
class RestartService(_NeverConflicts):
    """Restart a unit so that it takes up changed files, and wait until it is up. Undone by restarting it once more, last of all."""

    name: ClassVar[str] = "restart-service"
    deferred: ClassVar[bool] = True
    unit: str
    timeout: float

    def intent(self, hands: Hands) -> Json | None:
        """Whether it was active."""
        return {"unit": self.unit, "active": systemd.unit(hands.reader, self.unit).active, "timeout": self.timeout}

    def act(self, hands: Hands, intent: Json) -> None:
        """Restart and wait. Raises CommandError with the daemon's own log lines when it does not come back."""
        systemd.control(hands.machine, "restart", intent["unit"], timeout=intent["timeout"])

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """The files it reads are as they were by now: let it read them."""
        now = systemd.unit(hands.reader, intent["unit"])
        if not now.loaded:
            return Taken()
        verb = "restart" if intent["active"] else "stop"
        try:
            systemd.control(hands.machine, verb, intent["unit"], timeout=intent["timeout"])
        except HostError as error:
            return Taken(left=(f"service {intent['unit']}: {error.message}",))
        return Taken()


@dataclass(frozen=True)
class StopService(_NeverConflicts):
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
class LoadModule(_NeverConflicts):
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
class UnloadModule(_NeverConflicts):
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
