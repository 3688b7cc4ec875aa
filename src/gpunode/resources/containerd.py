"""containerd's config.toml with the nvidia runtime in it, proved before it is written, and the daemon that runs with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from gpunode.errors import HostError
from gpunode.formats import containerd_config
from gpunode.formats.containerd_config import Patched, Request
from gpunode.formats.toml_data import TomlError, dotted
from gpunode.formats.toml_edit import EditError
from gpunode.host import containerd, systemd
from gpunode.host.journal import Entry
from gpunode.host.reader import Reader
from gpunode.host.systemd import Unit
from gpunode.host.writer import Writer
from gpunode.resources.base import NO_CONSEQUENCES, Consequences, Difference, Local
from gpunode.resources.files import unified


@dataclass(frozen=True)
class ConfigState:
    """The file and what it should become; the daemon's unit; `modified` is the file's mtime, None when there is no file."""

    text: str | None
    patched: Patched
    unit: Unit
    modified: float | None
    now: float

    @property
    def stale(self) -> bool:
        """True when the daemon runs with something else than the file says: it was started before the file changed.

        A file from the future says nothing: the clock was set back since.
        """
        return (
            self.unit.active
            and self.unit.started is not None
            and self.modified is not None
            and self.unit.started < self.modified <= self.now
        )


@dataclass(frozen=True)
class ContainerdConfig(Local):
    """The nvidia runtime in the config that a unit's daemon reads, and the daemon restarted when it runs with another."""

    path: str
    unit: str
    request: Request
    restart_timeout: int

    @property
    def id(self) -> str:
        """`toml:PATH`."""
        return f"toml:{self.path}"

    def observe(self, host: Reader) -> ConfigState:
        """The file, patched in memory and proved by containerd itself. Raises HostError when the file cannot be used."""
        text = host.read_text(self.path)
        try:
            patched = containerd_config.patch(text, self.request)
        except TomlError as error:
            hint = f"mend {self.path} by hand, then run the same command again; nothing was changed"
            raise HostError(f"{self.path}: {error}", hint=hint) from None
        except (containerd_config.ConfigError, EditError) as error:
            raise HostError(f"{self.path}: {error}") from None
        if patched.text != text:
            self._prove(host, text, patched)
        stat = host.lstat(host.realpath(self.path))
        return ConfigState(text, patched, systemd.unit(host, self.unit), stat.mtime if stat else None, host.now())

    def differences(self, state: ConfigState) -> list[Difference]:
        """Each key with its reason, or a daemon that has not read the file since it changed."""
        diff = unified(self.path, state.text or "", state.patched.text)
        found = [
            Difference(
                dotted(reason.path), _word(reason.found), _word(reason.wanted), reason.why, diff if first else ""
            )
            for first, reason in zip([True] + [False] * len(state.patched.reasons), state.patched.reasons, strict=False)
        ]
        if state.stale:
            why = "a daemon reads its configuration once, when it starts"
            since = f"started {_time(state.unit.started)}, before its configuration changed at {_time(state.modified)}"
            found.append(Difference(self.unit, since, "restarted", why))
        elif not state.unit.active:
            found.append(Difference(self.unit, state.unit.state, "active", "no container can run without it"))
        return found

    def consequences(self, state: ConfigState) -> Consequences:
        """A restart; containers that run go on running."""
        return Consequences(restarts=(self.unit,)) if self.differences(state) else NO_CONSEQUENCES

    def converge(self, host: Writer, state: ConfigState) -> None:
        """Replace the file, restart the daemon; if it does not come back, restore both and say what it said."""
        entry = None
        if state.patched.text != state.text:
            entry = host.write_file(self.path, state.patched.text.encode(), style="containerd")
        try:
            host.restart_service(self.unit, timeout=self.restart_timeout)
        except HostError as error:
            entry = entry or host.unproved_write(self.path, self.unit)
            if entry is None:
                raise
            self._restore(host, entry, error)

    def _restore(self, host: Writer, entry: Entry, error: HostError) -> None:
        host.take_back(entry)
        host.restart_service(self.unit, timeout=self.restart_timeout)
        raise HostError(
            f"{self.unit} did not come back with the new configuration; {self.path} was restored and it runs again",
            hint=error.hint,
            details=error.details or (error.message,),
        )

    def _prove(self, host: Reader, text: str | None, patched: Patched) -> None:
        """Exactly the intended effective settings may differ. Raises HostError naming the key that should not."""
        after = containerd.effective(host, patched.text)
        before = containerd.effective(host, text or f"version = {after.get('version', 2)}\n")
        others = containerd_config.unintended(containerd_config.effective_difference(before, after), patched)
        if others:
            path, old, new = others[0]
            raise HostError(
                f"{self.path}: the change would also turn {dotted(path)} from {_word(old)} into {_word(new)}; nothing was replaced",
                hint="set that key in the file yourself, then run the same command again",
            )


def _word(value: object) -> str:
    if value is None:
        return "absent"
    return "true" if value is True else "false" if value is False else str(value)


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds or 0, tz=timezone.utc).astimezone().strftime("%H:%M:%S")
