"""Time as the Kubernetes API writes it."""

from __future__ import annotations

from datetime import datetime, timezone


def now() -> str:
    """The present moment in UTC, to the second: `2026-11-24T05:00:00Z`."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(timestamp: str) -> str:
    """How long ago `timestamp` was, in the short form of kubectl: `12s`, `5m`, `3h`, `2d`."""
    then = datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    seconds = max(0, int((datetime.now(timezone.utc) - then).total_seconds()))
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "m"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86400}d"
