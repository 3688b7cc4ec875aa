"""What a running daemon has read: by gpunode's own note of its last restart, else by the times of files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from gpunode.host import systemd
from gpunode.host.journal import loaded_by
from gpunode.host.reader import Reader


def stale_since(
    host: Reader, unit: str, paths: Sequence[str], folders: Sequence[str], digest: Callable[[], str]
) -> str:
    """Why the unit's daemon runs with something else than its files say; empty when it does not.

    `digest` stands for what the files come to now: asked where gpunode's journal tells what the running daemon has read. Else times
    decide, and a file from the future says nothing: the clock was set back.
    """
    now = systemd.unit(host, unit)
    if not now.active or now.started is None:
        return ""
    file_changed = max((when for path in paths if (when := _changed(host, path)) <= host.now()), default=0.0)
    changed = max([file_changed, *(_changed(host, folder) for folder in folders)])
    loaded = loaded_by(host, unit, now.started)
    if loaded:  # times can be set: what was read is compared with what is there
        return "" if loaded == digest() else _since(now.started, changed)
    return _since(now.started, file_changed) if file_changed > now.started else ""


def _changed(host: Reader, path: str) -> float:
    """When the path, or the link that leads to it, changed last; 0 when it is not there."""
    times = [stat.mtime for stat in (host.lstat(path), host.lstat(host.realpath(path))) if stat]
    return max(times, default=0.0)


def _since(started: float, changed: float) -> str:
    when = f" at {clock(changed)}" if changed > started else ""  # a time that somebody has set says nothing
    return f"started {clock(started)}, before its configuration changed{when}"


def clock(seconds: float) -> str:
    """A moment as the host's people read it off the wall."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc).astimezone().strftime("%H:%M:%S")
