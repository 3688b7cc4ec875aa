"""What happened on the host before: apt's own log of what it changed, and gpunode's journal of what it wrote."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from typing import Any

from gpunode.host.reader import Reader
from gpunode.host.state import RUNS

APT_LOG = "/var/log/apt/history.log"
COMMAND_COLUMNS = 60
CHANGED = re.compile(r"([^\s,:()]+)(?::[^\s,()]+)? \(([^,()]+), ([^,()]+)\)")


@dataclass(frozen=True)
class AptChange:
    """A package taken from one version to another by apt: when (as apt wrote it), and by which command."""

    when: str
    command: str
    before: str
    after: str

    def __str__(self) -> str:
        command = textwrap.shorten(self.command, COMMAND_COLUMNS, placeholder=" …")
        return f"{APT_LOG}: {self.when} `{command}` took it from {self.before} to {self.after}"


@dataclass(frozen=True)
class Written:
    """gpunode's last write of a file that stands: the run, and the sha256 of what it wrote."""

    run: str
    sha: str


def apt_changes(text: str) -> dict[str, AptChange]:
    """The newest upgrade or downgrade of each package in apt's history log."""
    found = {}
    for paragraph in text.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in paragraph.splitlines())
        when = " ".join(fields.get("Start-Date", "").split())
        for kind in ("Upgrade", "Downgrade"):
            for name, before, after in CHANGED.findall(fields.get(kind, "")):
                found[name] = AptChange(when, fields.get("Commandline", "apt"), before, after)
    return found


def last_write(host: Reader, path: str) -> Written | None:
    """What gpunode's journal says of the file; None when it never wrote it, or took that back. Raises HostError, ValueError."""
    for name in reversed(host.glob(RUNS, "*.jsonl")):
        written: dict[int, str] = {}
        for event in _events(host.read(name) or b""):
            intent = event.get("intent", {})
            if event.get("verb") == "write-file" and intent.get("path") == path:
                written[event["seq"]] = (intent.get("after") or {}).get("sha", "")
            elif event.get("t") == "undone":
                written.pop(event["seq"], None)
        if written:
            return Written(name.rpartition("/")[2].removesuffix(".jsonl"), list(written.values())[-1])
    return None


def _events(content: bytes) -> list[dict[str, Any]]:
    """The journal's lines; one that a crash tore says nothing."""
    found = []
    for line in content.split(b"\n"):
        try:
            event = json.loads(line or b"null")
        except ValueError:
            continue
        if isinstance(event, dict):
            found.append(event)
    return found
