"""A reboot in the middle of a run. Recorded before it is asked for, with all that the run needs to go on after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpunode.host import modules, systemd
from gpunode.host.facts import loaded_driver
from gpunode.host.reader import Reader
from gpunode.host.verbs.base import Hands, Json, NeverConflicts, Taken

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_id(reader: Reader) -> str:
    """The kernel's name for this boot: another one after each."""
    return (reader.read_text(BOOT_ID) or "").strip()


@dataclass(frozen=True)
class Reboot(NeverConflicts):
    """Reboot the host. `profile` and `steps` are what the run goes on with. It is undone in part at most, last of all."""

    name: ClassVar[str] = "reboot"
    deferred: ClassVar[bool] = True
    why: str
    profile: Json
    steps: tuple[str, ...]

    def intent(self, hands: Hands) -> Json:
        """This boot, and what was loaded in it that the next one may not have."""
        driver = loaded_driver(hands.reader)
        return {
            "boot": boot_id(hands.reader),
            "why": self.why,
            "profile": self.profile,
            "steps": list(self.steps),
            "driver": driver.version if driver else "",
            "nouveau": modules.is_loaded(hands.reader, "nouveau"),
        }

    def act(self, hands: Hands, _intent: Json) -> None:
        """`systemctl reboot`, which returns at once."""
        systemd.control(hands.machine, "reboot")

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Nothing can be done about a boot: what it changed and only another one changes back is named."""
        if boot_id(hands.reader) == intent["boot"]:
            return Taken()
        left = []
        if intent["nouveau"] and not modules.is_loaded(hands.reader, "nouveau"):
            left.append("module nouveau: the reboot took it away, and the next boot brings it back")
        driver = loaded_driver(hands.reader)
        if driver and driver.version not in (intent["driver"], _installed(hands.reader)):
            left.append(f"module nvidia {driver.version}: it stays loaded until the next boot")
        return Taken(left=tuple(left))


def _installed(reader: Reader) -> str:
    """The version of the driver's module that the next boot would load; empty where there is none."""
    output = reader.query(["modinfo", "--field", "version", "nvidia"])
    return output.stdout.strip() if output.ok else ""
