"""A vendor's self-extracting installer (`.run`): verified before it is run, undone by its own uninstaller."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from gpunode.errors import CommandError, HostError
from gpunode.host.state import DOWNLOADS, PRIVATE_FILE
from gpunode.host.verbs.base import Conflict, FileView, Hands, Json, Taken

SECONDS = 3600.0


@dataclass(frozen=True)
class RunInstaller:
    """Fetch an installer (or take the file given), compare its sha256, run it. `uninstaller` and `record` are what it leaves behind."""

    name: ClassVar[str] = "run-installer"
    deferred: ClassVar[bool] = False
    source: str
    sha256: str
    arguments: tuple[str, ...]
    uninstaller: tuple[str, ...]
    record: str
    log: str

    def intent(self, hands: Hands) -> Json | None:
        """The verified file, kept in gpunode's own state, and whether an earlier installation is there."""
        path = (
            f"{DOWNLOADS}/{self.sha256}.run"  # root's alone: what was verified is what is run, now and at the rollback
        )
        if _digest(hands, path) != self.sha256:  # not there, or cut short the last time
            if self.source.startswith("https://"):
                network = hands.reader.network
                hands.machine.download(
                    self.source, path, on_bytes=hands.on_bytes, proxy=network.proxy, ca_bundle=network.ca_bundle
                )
            elif (content := hands.reader.read(self.source)) is not None:
                hands.machine.write_atomic(path, content, stat=PRIVATE_FILE, temporary=f"{path}.new")
        _verify(hands, path, self.sha256, self.source)
        return {
            "file": path,
            "sha256": self.sha256,
            "arguments": list(self.arguments),
            "uninstaller": list(self.uninstaller),
            "record": self.record,
            "log": self.log,
            "existed": hands.reader.exists(self.uninstaller[0]),
        }

    def act(self, hands: Hands, intent: Json) -> None:
        """Run it. Raises CommandError with the end of its own log."""
        _verify(hands, intent["file"], intent["sha256"], intent["file"])
        output = hands.machine.run(["sh", intent["file"], *intent["arguments"]], timeout=SECONDS, on_line=hands.on_line)
        hands.reader.forget()
        if not output.ok:
            log = (hands.reader.read(intent["log"]) or b"").decode(errors="replace").splitlines()
            errors = [line for line in log if "ERROR" in line] or log[-10:]
            raise CommandError(
                f"the installer {self.source.rsplit('/', 1)[-1]} failed with exit status {output.returncode}",
                hint=f"its log is {intent['log']}",
                details=tuple(errors) or output.last_words(),
            )

    @classmethod
    def conflict(cls, _hands: Hands, _intent: Json, _view: FileView) -> Conflict | None:
        """None ever: an installation is nobody's text."""
        return None

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Run the uninstaller; its log stays, as logs do."""
        if intent["existed"]:
            return Taken(left=("the driver's .run installation was there before gpunode and is left as it is now",))
        command = intent["uninstaller"]
        if not hands.reader.exists(command[0]):
            # Cut short before the uninstaller was there, or while it was at work: the installer itself knows how, by its record.
            command = ["sh", intent["file"], "--uninstall", "--silent"] if hands.reader.exists(intent["record"]) else []
        if command[:1] == ["sh"]:
            _verify(hands, intent["file"], intent["sha256"], intent["file"])
        if command:
            output = hands.machine.run(command, timeout=SECONDS, on_line=hands.on_line)
            if not output.ok:
                raise CommandError(
                    f"{' '.join(command)} failed with exit status {output.returncode}", details=output.last_words()
                )
        hands.reader.forget()
        return Taken()


def _digest(hands: Hands, path: str) -> str:
    """The sha256 of a file; empty when there is none."""
    content = hands.reader.read(path)
    return "" if content is None else hashlib.sha256(content).hexdigest()


def _verify(hands: Hands, path: str, wanted: str, source: str) -> None:
    found = _digest(hands, path)
    if not found:
        raise HostError(f"there is no installer {source}", hint="driver.runfile in the profile says where it is")
    if found != wanted:
        hands.machine.remove(path)
        raise HostError(
            f"{source}: sha256 is {found}, wanted {wanted}; it was not run",
            hint="fetch it again, or correct driver.runfile.sha256 in the profile",
        )
