"""The support archive: what whoever helps from afar asks for, as texts without their secrets. Reads only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from gpunode.catalog import SITE_FOLDER
from gpunode.engine.results import ArchivedFile, Report
from gpunode.engine.situation import Situation
from gpunode.errors import HostError
from gpunode.formats.redaction import redact
from gpunode.host.reader import Reader
from gpunode.host.state import RUNS
from gpunode.host.systemd import unit_file
from gpunode.steps.base import Context

LARGEST = 1 << 20
"""Characters of one text; of a longer one the end is kept, where a log has what happened last."""
LEAD = 1 << 16
"""Characters before the end that are read with it and never told: a secret of several lines that begins there is still seen whole. No key
is as long."""
SECONDS = 20.0
CONTENTS = "CONTENTS.json"
FOLDERS = (
    ("/etc/gpunode", "*.toml"),
    (SITE_FOLDER, "*.toml"),
    ("/etc/apt", "sources.list"),
    ("/etc/apt/sources.list.d", "*"),
    ("/etc/apt/preferences.d", "*"),
    ("/etc/apt/apt.conf.d", "*"),
    ("/etc/yum.repos.d", "*.repo"),
    ("/etc/zypp/repos.d", "*.repo"),
    ("/etc/cdi", "*.yaml"),
    ("/var/run/cdi", "*.yaml"),
    ("/etc/containerd/conf.d", "*.toml"),
    ("/etc/docker", "daemon.json"),
    ("/etc/modprobe.d", "*.conf"),
    ("/etc/modules-load.d", "*.conf"),
    ("/etc/nvidia-container-runtime", "config.toml"),
    ("/etc", "os-release"),
    ("/proc", "cmdline"),
    ("/proc/driver/nvidia", "version"),
    ("/proc/driver/nvidia", "params"),
    ("/var/lib/kubelet", "config.yaml"),
    ("/var/log", "nvidia-installer.log"),
    ("/var/log", "dpkg.log"),
    ("/var/log/apt", "history.log"),
    ("/var/log", "dnf.rpm.log"),
    ("/var/log", "dnf5.log"),
    ("/var/log/zypp", "history"),
    (RUNS, "*.jsonl"),
)
"""Folders and what of them, by shell patterns. Neither credentials' own files, as kubeconfigs, nor gpunode's store are among them."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "dpkg-query": ("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}|${Package}|${Version}|${Architecture}\\n"),
    "rpm-query": ("rpm", "--query", "--all"),
    "holds": ("apt-mark", "showhold"),
    "kernel-log": ("journalctl", "--dmesg", "--no-pager", "--output=short-iso", "--lines=5000"),
    "modinfo": ("modinfo", "nvidia"),
    "loader-cache": ("ldconfig", "-p"),
}
UNITS = ("kubelet.service", "docker.service", "nvidia-persistenced.service", "nvidia-fabricmanager.service")


@dataclass(frozen=True)
class Piece:
    """One text of the archive, its secrets taken out; `removed` of them. `source` is the path or the command it came from."""

    name: str
    source: str
    text: str
    removed: int


def pieces(situation: Situation, report: Report) -> list[Piece]:
    """Everything that goes in: doctor's report, the facts, configuration, logs, package lists. What cannot be read is left out, by name."""
    host = Reader(situation.machine, situation.network)
    context = situation.context(host)
    left_out: dict[str, str] = {}
    found = [
        _piece("report.json", "gpunode doctor", json.dumps(report.document(), ensure_ascii=False, indent=2)),
        _piece("facts.json", "gpunode", json.dumps(asdict(context.facts), default=str, indent=2)),
        *(_end_of(*each) for each in _files(host, context, left_out)),
        *(_end_of(*each) for each in _answers(host, context, left_out)),
    ]
    contents = {"gpunode": situation.version, "files": [asdict(listed(each)) for each in found], "left out": left_out}
    return [Piece(CONTENTS, "gpunode", json.dumps(contents, indent=2), 0), *found]


def listed(piece: Piece) -> ArchivedFile:
    """The piece as a report lists it."""
    return ArchivedFile(piece.name, piece.source, len(piece.text.encode()), piece.removed)


def _piece(name: str, source: str, text: str) -> Piece:
    found = redact(text)
    return Piece(name, redact(source).text, found.text, found.removed)


def _end_of(name: str, source: str, text: str) -> Piece:
    """The last lines that fit. Cut only once its secrets are out: the rest of one that is cut in two would be told."""
    piece = _piece(name, source, text[-LEAD - LARGEST :])
    if len(text) <= LARGEST:
        return piece
    kept = piece.text[LEAD if len(text) > LEAD + LARGEST else 0 :][-LARGEST:]
    return replace(piece, text=kept.partition("\n")[2])


def _read_end(host: Reader, path: str) -> bytes | None:
    """A file's content; of a large one only the end, whatever its size. None where there is none. Raises HostError."""
    stat = host.lstat(host.realpath(path))
    most = LEAD + LARGEST + 1  # one more than is looked at, so that it is seen to be cut
    if stat is None or stat.size <= most:
        return host.read(path)
    with host.stream(path) as file:
        file.seek(stat.size - most)
        return file.read(most)


def _files(host: Reader, context: Context, left_out: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    paths = [path for folder, pattern in FOLDERS for path in _listed_in(host, folder, pattern, left_out)]
    paths += [engine.config for engine in context.facts.engines.values() if engine.config]
    for path in dict.fromkeys(paths):
        try:
            content = _read_end(host, path)
        except HostError as error:
            left_out[path] = error.message
            continue
        if content is not None:
            yield f"files{path}", path, content.decode("utf-8", "replace")


def _listed_in(host: Reader, folder: str, pattern: str, left_out: dict[str, str]) -> list[str]:
    try:
        return host.glob(folder, pattern)
    except HostError as error:  # whoever is not root may not list every folder
        left_out[folder] = error.message
        return []


def _answers(host: Reader, context: Context, left_out: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    for name, argv in {**COMMANDS, **_of_units(host, context)}.items():
        command = " ".join(argv).replace("\\n", "")
        try:
            output = host.query(argv, timeout=SECONDS)
        except HostError as error:
            left_out[command] = error.message
            continue
        if output.ok:
            yield f"commands/{name}.txt", command, output.stdout
        else:
            left_out[command] = " ".join(output.last_words(1)) or f"exit status {output.returncode}"


def _of_units(host: Reader, context: Context) -> dict[str, tuple[str, ...]]:
    units = [unit for unit in (context.facts.engine_unit, *UNITS) if unit_file(host, unit)]
    logs = {
        f"log-{unit}": ("journalctl", "--unit", unit, "--no-pager", "--output=short-iso", "--lines=1000")
        for unit in units
    }
    return {"units": ("systemctl", "show", *units), **logs} if units else {}
