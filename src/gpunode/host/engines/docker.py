"""Docker: one JSON file, tried by `dockerd --validate`, read again by the running daemon on a signal, which says what it has read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gpunode.catalog.model import Flavour
from gpunode.errors import CommandError, HostError
from gpunode.formats import docker_config
from gpunode.formats.command_line import without
from gpunode.formats.engine_config import ConfigError, ConfigFile, ConfigFiles, Edited, FileEdit, Request
from gpunode.formats.engine_keys import difference
from gpunode.formats.toml_data import dotted, lookup
from gpunode.host import systemd
from gpunode.host.engines import command, reading
from gpunode.host.engines.base import FoundEngine, Proof, digest_of
from gpunode.host.reader import Reader

if TYPE_CHECKING:
    from gpunode.host.writer import Writer

UNIT = "docker.service"
ENVIRONMENT = ("/etc/default/docker", "/etc/sysconfig/docker")
DEFAULT_CONFIG = "/etc/docker/daemon.json"
WAY_OUT = 'name it there by its full path, or set engines.docker = "never" in the profile'
INFO = ("--context", "default", "info", "--format", "{{json .}}")
INFO_SECONDS = 10.0
READS_WITHIN_SECONDS = 15.0
CDI = ("features", "cdi")


class Docker:
    """The Docker of the host's own unit. A snap's or a user's own Docker is none of gpunode's."""

    name = "docker"
    title = "Docker"

    def restarts(self, _found: FoundEngine) -> bool:
        """It reads its file on a signal; CDI alone takes more."""
        return False

    def find(self, host: Reader, _flavour: Flavour) -> FoundEngine | None:
        """By its unit's command line, else by its binary."""
        words = systemd.exec_start(host, UNIT)
        binary = host.which(command.program_of(host, words, "dockerd") or "dockerd")
        if not binary:
            return None
        config, origin = _config_of(host, words)
        return FoundEngine(
            name=self.name,
            version=reading.version_of(host, binary),
            binary=binary,
            unit=UNIT if systemd.unit_file(host, UNIT) else "",
            config=config,
            config_from=origin,
        )

    def read(self, host: Reader, found: FoundEngine) -> ConfigFiles:
        """daemon.json, and the unit with the daemon's command line, where options can be given too."""
        if not found.config:
            raise HostError(found.config_from)
        main = ConfigFile(found.config, reading.config_text(host, found.config, self.title))
        words = reading.command_line(host, found.unit, ENVIRONMENT) if found.unit else ()
        return ConfigFiles(main, (ConfigFile(found.unit, "\n".join(words)),) if words else ())

    def edit(self, files: ConfigFiles, request: Request) -> Edited:
        """See formats/docker_config.py."""
        return docker_config.edit(files, request)

    def effective(self, _host: Reader, _found: FoundEngine, files: ConfigFiles) -> dict[str, Any]:
        """daemon.json as data: Docker has no word for what it makes of it."""
        try:
            return docker_config.parse(files.main)
        except ConfigError as error:
            raise HostError(str(error), hint=f"mend {files.main.path} by hand; nothing was changed") from None

    def prove(self, host: Reader, found: FoundEngine, files: ConfigFiles, edited: Edited) -> Proof:
        """`dockerd --validate` of what is to be written, with the daemon's own options; and before and after compared as data."""
        change = edited.files[0]
        before = self.effective(host, found, files)
        after = docker_config.parse(ConfigFile(change.path, change.after))
        meant = {reason.path for reason in edited.reasons}
        for path, old, new in difference(before, after):
            if path not in meant:
                raise HostError(f"{change.path}: the change would also turn {dotted(path)} from {old} into {new}")
        words = _validated(host, found, files, change)
        self._refuse_stopping_containers(host, found, after)
        return Proof(f"{words}; before and after: nothing else changes", before != after, digest_of(after))

    def stale(self, host: Reader, found: FoundEngine, files: ConfigFiles) -> str:
        """By what the running daemon says of itself."""
        unread = self._unread(host, found, self.effective(host, found, files))
        return f"does not have {', '.join(unread)} of {files.main.path}" if unread else ""

    def reload(self, host: Writer, found: FoundEngine, *, timeout: float, loaded: str) -> None:
        """A signal, which no container notices, and a look whether the daemon took it. CDI alone takes a restart."""
        wanted = self.effective(host, found, self.read(host, found))
        if dotted(CDI) in self._unread(host, found, wanted):
            self._refuse_stopping_containers(host, found, wanted)
            host.restart_service(found.unit, timeout=timeout, loaded=loaded)
            return
        host.reload_service(found.unit, timeout=timeout)
        waited = 0.0
        while unread := self._unread(host, found, wanted):
            if waited >= min(timeout, READS_WITHIN_SECONDS):
                raise CommandError(
                    f"{found.unit} was told to read {found.config} again and does not have {', '.join(unread)}",
                    details=systemd.log_lines(host.hands.machine, found.unit),
                )
            host.wait(0.25)
            waited += 0.25

    def loaded(self, host: Reader, found: FoundEngine) -> dict[str, Any] | None:
        """What the running daemon says of itself (`docker info`); None where it does not run or there is no client to ask it."""
        client = host.which("docker")
        if not client or not found.unit or not systemd.unit(host, found.unit).active:
            return None
        try:
            info = json.loads(host.query([client, *INFO], timeout=INFO_SECONDS).stdout)
        except (ValueError, HostError):
            return None
        return info if isinstance(info, dict) and not info.get("ServerErrors") else None

    def _unread(self, host: Reader, found: FoundEngine, wanted: dict[str, Any]) -> list[str]:
        """The keys that gpunode is concerned with and that the running daemon has otherwise."""
        info = self.loaded(host, found)
        if info is None:
            return []
        runtimes = wanted.get("runtimes") or {}
        here = info.get("Runtimes") or {}
        unread = [
            dotted(("runtimes", name))
            for name, entry in runtimes.items()
            if isinstance(entry, dict) and (name not in here or entry.get("path") not in (None, here[name].get("path")))
        ]
        if wanted.get("default-runtime") not in (None, info.get("DefaultRuntime")):
            unread.append("default-runtime")
        if lookup(wanted, CDI) is (not info.get("CDISpecDirs")):
            unread.append(dotted(CDI))
        return unread

    def _refuse_stopping_containers(self, host: Reader, found: FoundEngine, wanted: dict[str, Any]) -> None:
        """Raise HostError where CDI takes a restart, and that would stop containers."""
        info = self.loaded(host, found) or {}
        running = info.get("ContainersRunning", 0)
        if running and not info.get("LiveRestoreEnabled") and dotted(CDI) in self._unread(host, found, wanted):
            raise HostError(
                f"Docker turns CDI on or off only when it starts, and a restart would stop its {running} running containers",
                hint=f'set "live-restore": true in {found.config} and run `systemctl reload {found.unit}`, or stop them, then try again',
            )


def _config_of(host: Reader, words: tuple[str, ...]) -> tuple[str, str]:
    """The file that the daemon's command line names, and where that is said; no file, and why, where that cannot be known."""
    try:
        path, where = command.config_option(
            host, UNIT, words, "dockerd", ("--config-file",), environment=ENVIRONMENT, way_out=WAY_OUT
        )
    except HostError as error:
        return "", error.message
    return (path, where) if path else (DEFAULT_CONFIG, "Docker's default")


def _validated(host: Reader, found: FoundEngine, files: ConfigFiles, change: FileEdit) -> str:
    """The words for what Docker said of the candidate. Raises CommandError when it refuses it."""
    words = (files.imported[0].text or "").split("\n")[1:] if files.imported else []
    argv = [found.binary, "--validate", "--config-file", change.path, *without(words, "--config-file")]
    output = host.query_once(argv, instead={change.path: change.after.encode()})
    if output.ok:
        return f"`dockerd --validate` of {found.version}"
    said = output.last_words(3) or (f"exit status {output.returncode}",)
    if any("unknown flag: --validate" in line for line in output.stderr.splitlines()):
        return f"read by gpunode, Docker {found.version} has no --validate"
    raise CommandError(f"{change.path}: Docker does not accept the change: {said[-1]}", details=said[:-1])
