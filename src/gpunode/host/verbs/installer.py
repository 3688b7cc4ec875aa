"""A vendor's self-extracting installer (`.run`): verified before it is run, undone by its own uninstaller."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from gpunode.errors import CommandError, HostError
from gpunode.formats.bundle_archive import CHUNK
from gpunode.host import dkms
from gpunode.host.bundle import sha256
from gpunode.host.installers import Installer
from gpunode.host.state import DOWNLOADS, PRIVATE_FILE
from gpunode.host.verbs.base import Hands, Json, NeverConflicts, Taken
from gpunode.host.verbs.files import temporary_of

SECONDS = 3600.0


@dataclass(frozen=True)
class RunInstaller(NeverConflicts):  # an installation is nobody's text
    """Fetch an installer (or take the file given), compare its sha256, run it."""

    name: ClassVar[str] = "run-installer"
    installer: Installer

    def intent(self, hands: Hands) -> Json | None:
        """The verified file, kept in gpunode's own state, and what was there before it: an installation, the beginning of one, a link."""
        wanted, exists = self.installer, hands.reader.exists
        # Root's alone: what was verified is what is run, now and at the rollback.
        path = f"{DOWNLOADS}/{wanted.sha256}.run"
        if _digest(hands, path) != wanted.sha256:  # not there, or cut short the last time
            _fetch(hands, wanted.source, path)
        _verify(hands, path, wanted)
        return {
            **asdict(wanted),
            "file": path,
            "existed": exists(wanted.uninstaller[0]),
            "begun": exists(wanted.record),
            "led": _target(hands, wanted.link),
            # Where a temporary file may be left beside: see engine/recovery.py.
            **({"path": wanted.link} if wanted.link else {}),
        }

    def act(self, hands: Hands, intent: Json) -> None:
        """Run it. Raises CommandError with what its own log says of the failure, or the log of the build that failed in it."""
        began = hands.machine.now()
        try:
            _install(hands, intent)
        except CommandError as error:
            raise dkms.explained(error, hands.reader, began) from None

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Run the uninstaller; its log stays, as logs do."""
        wanted, exists = _recorded(intent), hands.reader.exists
        if intent["existed"]:
            return Taken(
                left=(f"the {wanted.thing}'s .run installation was there before gpunode and is left as it is now",)
            )
        leads = _target(hands, wanted.link)
        # Cut short before the uninstaller was there, or while it was at work.
        half_done = not exists(wanted.uninstaller[0]) and exists(wanted.record) and not intent["begun"]
        if half_done and wanted.takes_off:
            _verify(hands, intent["file"], wanted)
            _run(hands, ["sh", intent["file"], *wanted.takes_off])
        elif half_done:
            _install(hands, intent)
        if exists(wanted.uninstaller[0]):
            _run(hands, list(wanted.uninstaller))
        _put_back(hands, wanted, intent["led"] if _is_its_own(leads, wanted) else leads)
        hands.reader.forget()
        return Taken()


def _recorded(intent: Json) -> Installer:
    """The installer of a journal's entry."""
    values: dict[str, Any] = {}
    for each in fields(Installer):
        value = intent[each.name]  # JSON knows no tuples
        values[each.name] = tuple(value) if isinstance(value, list) else value
    return Installer(**values)


def _fetch(hands: Hands, source: str, path: str) -> None:
    """Bring the file into gpunode's state, whatever it holds."""
    network = hands.reader.network
    if source.startswith("https://"):
        hands.machine.download(source, path, on_bytes=hands.on_bytes, proxy=network.proxy, ca_bundle=network.ca_bundle)
    elif hands.reader.exists(source):
        with hands.reader.stream(source) as stream:
            chunks = iter(lambda: stream.read(CHUNK), b"")
            hands.machine.write_stream(path, chunks, stat=PRIVATE_FILE, temporary=f"{path}.new")


def _install(hands: Hands, intent: Json) -> None:
    """Run the installer to its end, and take the link out of its hands. Raises CommandError."""
    wanted = _recorded(intent)
    _verify(hands, intent["file"], wanted)
    before = hands.reader.lstat(wanted.log)
    output = hands.machine.run(["sh", intent["file"], *wanted.arguments], timeout=SECONDS, on_line=hands.on_line)
    hands.reader.forget()
    _put_back(hands, wanted, intent["led"])
    if output.ok:
        return
    # An installer that ended before it wrote there left the log of another run.
    log = None if hands.reader.lstat(wanted.log) == before else hands.reader.read(wanted.log)
    lines = (log or b"").decode(errors="replace").splitlines()
    raise CommandError(
        f"the installer {wanted.name} failed with exit status {output.returncode}",
        hint=f"its log is {wanted.log}" if lines else "it ended before it wrote a log: its file may be damaged",
        details=tuple(line for line in lines if "ERROR" in line) or tuple(lines[-10:]) or output.last_words(),
    )


def _run(hands: Hands, command: list[str]) -> None:
    output = hands.machine.run(command, timeout=SECONDS, on_line=hands.on_line)
    hands.reader.forget()
    if not output.ok:
        words = f"{' '.join(command)} failed with exit status {output.returncode}"
        raise CommandError(words, details=output.last_words())


def _target(hands: Hands, link: str) -> str | None:
    """Where a link leads; empty for what is no link, None for nothing."""
    found = hands.reader.lstat(link) if link else None
    return found.target if found else None


def _is_its_own(target: str | None, wanted: Installer) -> bool:
    """Whether the installer made a link lead there, or nobody made one."""
    return target is None or target.rstrip("/") == wanted.record


def _put_back(hands: Hands, wanted: Installer, target: str | None) -> None:
    """Make the installer's link lead there again; what is no link was never the installer's."""
    if not wanted.link or target == "" or _target(hands, wanted.link) == target:
        return
    if target is None:
        hands.machine.remove(wanted.link)
    else:
        hands.machine.make_link(wanted.link, target, temporary=temporary_of(wanted.link))
    hands.reader.forget()


def _digest(hands: Hands, path: str) -> str:
    """The sha256 of a file; empty when there is none."""
    return sha256(hands.reader, path) if hands.reader.exists(path) else ""


def _verify(hands: Hands, path: str, wanted: Installer) -> None:
    found = _digest(hands, path)
    if not found:
        raise HostError(f"there is no installer {wanted.source}", hint=f"{wanted.key} in the profile says where it is")
    if found != wanted.sha256:
        hands.machine.remove(path)
        raise HostError(
            f"{wanted.source}: sha256 is {found}, wanted {wanted.sha256}; it was not run",
            hint=f"fetch it again, or correct {wanted.key}.sha256 in the profile",
        )
