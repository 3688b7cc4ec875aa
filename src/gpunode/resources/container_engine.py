"""A container engine's configuration with the nvidia runtime in it, proved before it is written, and the daemon that runs with it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from gpunode.errors import HostError
from gpunode.formats.engine_config import ConfigError, ConfigFiles, Edited, Request
from gpunode.formats.toml_data import TomlError, dotted
from gpunode.formats.toml_edit import EditError
from gpunode.host import systemd
from gpunode.host.engines import ENGINES
from gpunode.host.engines.base import ContainerEngine, FoundEngine, Proof, digest_of
from gpunode.host.journal import Entry
from gpunode.host.reader import Reader
from gpunode.host.safety import others_can_write, trusted_ids
from gpunode.host.systemd import Unit
from gpunode.host.writer import Writer
from gpunode.resources.base import NO_CONSEQUENCES, Consequences, Difference, Local
from gpunode.resources.files import unified


@dataclass(frozen=True)
class EngineState:
    """The files, what they should become and how that was proved; the daemon's unit, and why it runs with something else."""

    files: ConfigFiles
    edited: Edited
    proof: Proof | None
    unit: Unit | None
    stale: str

    @property
    def restarts(self) -> bool:
        """True when a running daemon has to read its configuration again."""
        return bool(self.stale) or (self.proof is not None and self.proof.differs)


@dataclass(frozen=True)
class ContainerEngineConfig(Local):
    """The nvidia runtime in the files that an engine reads, and its daemon made to read them.

    `needed` says that the engine is the kubelet's: one that does not run is started. Another is left as its operator has it.
    """

    found: FoundEngine
    request: Request
    restart_timeout: int
    needed: bool = True

    @property
    def id(self) -> str:
        """`toml:PATH` or `json:PATH` of the engine's main file."""
        kind = "json" if self.found.config.endswith(".json") else "toml"
        return f"{kind}:{self.found.config}"

    @property
    def engine(self) -> ContainerEngine:
        """Who knows this engine's files."""
        return ENGINES[self.found.name]

    def observe(self, host: Reader) -> EngineState:
        """The files, edited in memory and proved. Raises HostError when they cannot be used, naming file and place."""
        try:
            files = self.engine.read(host, self.found)
        except ConfigError as error:
            raise HostError(str(error)) from None
        try:
            edited = self.engine.edit(files, self.request)
            proof = self.engine.prove(host, self.found, files, edited) if edited.files else None
        except (TomlError, ConfigError, EditError) as error:
            raise HostError(_located(str(error), files), hint=_hint(error, files)) from None
        unit = systemd.unit(host, self.found.unit) if self.found.unit else None
        return EngineState(files, edited, proof, unit, self.engine.stale(host, self.found, files) if unit else "")

    def differences(self, state: EngineState) -> list[Difference]:
        """Each key with its reason, or a daemon that has not read its files since they changed."""
        diffs = {each.path: unified(each.path, each.before or "", each.after) for each in state.edited.files}
        found = []
        # The main file's keys first: its difference is the one that the heading names.
        for reason in sorted(state.edited.reasons, key=lambda each: each.file not in ("", self.found.config)):
            # A file's difference is shown once, with the first of its keys.
            diff = diffs.pop(reason.file, "")
            why = f"{reason.why} ({reason.repair})" if reason.repair else reason.why
            elsewhere = "" if reason.file in ("", self.found.config) else f"{reason.file.rpartition('/')[2]}: "
            found.append(
                Difference(elsewhere + dotted(reason.path), _word(reason.found), _word(reason.wanted), why, diff)
            )
        if state.unit and not state.unit.active and self.needed:
            found.append(Difference(state.unit.name, state.unit.state, "active", "no container can run without it"))
        elif state.unit and state.stale:
            why = "a daemon reads its configuration once, when it starts"
            found.append(Difference(state.unit.name, state.stale, "restarted", why))
        return found

    def consequences(self, state: EngineState) -> Consequences:
        """Where the keys go and what proved the edit; a restart, which containers that run live through."""
        if not self.differences(state):
            return NO_CONSEQUENCES
        notes = (f"the keys go into {state.edited.place}", f"proof: {state.proof.words}") if state.proof else ()
        unit = self.found.unit if self._is_told(state) else ""
        restarts = (unit,) if unit and self.engine.restarts(self.found) else ()
        rereads = (
            (f"{unit} reads it again, without a restart",) if unit and not self.engine.restarts(self.found) else ()
        )
        idle = state.unit is not None and not state.unit.active and not self.needed
        waits = (f"{self.found.unit} does not run, and is not started: it reads this when it is",) if idle else ()
        return Consequences(restarts=restarts, notes=(*notes, *rereads, *waits, *state.edited.left))

    def _is_told(self, state: EngineState) -> bool:
        """Whether the daemon is made to read its files: one that runs with others, or one that is needed and does not run."""
        if state.unit is None or not state.unit.loaded:
            return False
        return state.restarts if state.unit.active else self.needed

    def foresee(self, host: Reader, state: EngineState) -> None:
        """A file, or what a link leads to, must lie where only root can write. Raises HostError."""
        trusted = trusted_ids((host.read("/etc/group") or b"").decode("utf-8", "replace"))
        for edit in state.edited.files if host.is_root() else ():
            real = host.realpath(edit.path)
            for folder in _folders_of(real):
                found = host.lstat(folder)
                if found is not None and others_can_write(found.mode, found.uid, found.gid, trusted):
                    leads = "" if real == edit.path else f" leads to {real}, and that"
                    raise HostError(
                        f"{edit.path}{leads} lies below {folder}, where others than root can write: it is not edited",
                        hint="put the file where only root can write, or name another by containerd.config in the profile",
                    )

    def converge(self, host: Writer, state: EngineState) -> None:
        """Replace the files, have the daemon read them; if it does not come back, restore all and say what it said."""
        loaded = state.proof.digest if state.proof else digest_of(self.engine.effective(host, self.found, state.files))
        # The main file last: until it imports a drop-in, nobody reads that.
        edits = sorted(state.edited.files, key=lambda edit: edit.path == self.found.config)
        written: list[Entry] = []
        try:
            for each in edits:
                entry = host.write_file(each.path, each.after.encode(), style=each.style)
                written += [entry] if entry else []
        except HostError:
            for entry in reversed(written):  # half an edit is none
                host.take_back(entry)
            raise
        if not self._is_told(state):
            return
        try:
            self.engine.reload(host, self.found, timeout=self.restart_timeout, loaded=loaded)
        except HostError as error:
            self._restore(host, written, error)

    def _reload_restored(self, host: Writer) -> str:
        """Have the daemon read what it had before; how it is then, in words."""
        try:
            self.engine.reload(host, self.found, timeout=self.restart_timeout, loaded="")
        except HostError as error:
            return f"does not come up with that either: {error.message}"
        return "runs again"

    def _restore(self, host: Writer, entries: list[Entry], error: HostError) -> None:
        if not entries:
            earlier = (host.unproved_write(path, self.found.unit) for path in (self.found.config, self.found.drop_in))
            entries = [entry for entry in earlier if entry]
        if not entries:
            raise error
        for entry in reversed(entries):
            host.take_back(entry)
        paths = " and ".join(str(entry.intent["path"]) for entry in entries)
        runs = self._reload_restored(host)
        raise HostError(
            f"{self.found.unit} did not come back with the new configuration; {paths} was restored and it {runs}",
            hint=error.hint,
            details=(error.message, *error.details),
        )


def _folders_of(path: str) -> list[str]:
    """Every folder on the way to a path, the root first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:count]) or "/" for count in range(1, len(parts) + 1)]


def _located(message: str, files: ConfigFiles) -> str:
    """The message, with the file's path in front where it does not begin with one."""
    return message if message.startswith("/") else f"{files.main.path}: {message}"


def _hint(error: Exception, files: ConfigFiles) -> str:
    if not isinstance(error, TomlError):
        return ""
    return f"mend {files.main.path} by hand, then run the same command again; nothing was changed"


def _word(value: object) -> str:
    if value is None:
        return "absent"
    if value == "":
        return '""'
    return json.dumps(value) if isinstance(value, (bool, list)) else str(value)
