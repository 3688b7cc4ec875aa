"""gpunode as programs call it on a lab host, and what else tests do there alike."""

from __future__ import annotations

import json
from typing import Any

from gpunode.lab.host import LabHost


def gpunode(host: LabHost, *words: str, exits: int = 0) -> dict[str, Any]:
    """Run a command with --output json and return its document; its exit status must be as told."""
    done = host.run("gpunode", *words, "--output", "json", check=False, timeout=600)
    assert done.returncode == exits, f"exit {done.returncode}: {done.stdout[-3000:]}{done.stderr[-2000:]}"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def restart(host: LabHost, unit: str) -> None:
    """Restart a unit as often as a test likes: systemd by itself allows five starts in ten seconds."""
    host.run("systemctl", "reset-failed", unit)
    host.run("systemctl", "restart", unit)
