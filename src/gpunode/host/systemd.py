"""systemd's units: all of them asked in one `systemctl show`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from gpunode.errors import CommandError, HostError
from gpunode.host.machine import Machine, Output
from gpunode.host.reader import Reader

PROPERTIES = "Id,LoadState,ActiveState,SubState,UnitFileState,ExecMainStartTimestamp,ExecStart,Result"
STOPPED_FOR_GOOD = ("failed", "inactive")


@dataclass(frozen=True)
class Unit:
    """A unit as systemd has it. `started` is when its main process began, in seconds since the epoch; None when never."""

    name: str
    loaded: bool
    active: bool
    enabled: bool
    state: str
    started: float | None
    command: str
    result: str


def show(reader: Reader, names: Sequence[str]) -> dict[str, Unit]:
    """The named units, in one query. A unit that does not exist is there too, not loaded."""
    output = reader.query_once(["systemctl", "show", "--timestamp=us+utc", f"--property={PROPERTIES}", *names])
    if not output.ok:
        raise CommandError("systemd does not answer", details=output.last_words())
    blocks = [block for block in output.stdout.strip().split("\n\n") if block]
    return {name: _unit(name, block) for name, block in zip(names, blocks, strict=True)}


def unit(reader: Reader, name: str) -> Unit:
    """One unit."""
    return show(reader, [name])[name]


def control(machine: Machine, verb: str, *names: str, timeout: float = 120.0) -> None:
    """`systemctl VERB NAME…`. Raises CommandError with the unit's own last log lines."""
    output = machine.run(["systemctl", verb, *names], timeout=timeout)
    if not output.ok:
        raise _error(machine, verb, names, output)


def log_lines(machine: Machine, name: str, lines: int = 15) -> tuple[str, ...]:
    """The unit's newest log lines, without their dates."""
    try:
        output = machine.run(["journalctl", "--unit", name, "--lines", str(lines), "--no-pager", "--output", "cat"])
    except HostError:
        return ()
    return tuple(line for line in output.stdout.splitlines() if not line.startswith("-- "))


def _unit(name: str, block: str) -> Unit:
    fields = dict(line.partition("=")[::2] for line in block.splitlines())
    return Unit(
        name=name,
        loaded=fields.get("LoadState") == "loaded",
        active=fields.get("ActiveState") == "active",
        enabled=fields.get("UnitFileState") in ("enabled", "enabled-runtime"),
        state=f"{fields.get('ActiveState', '')} ({fields.get('SubState', '')})",
        started=_seconds(fields.get("ExecMainStartTimestamp", "")),
        command=fields.get("ExecStart", ""),
        result=fields.get("Result", ""),
    )


def _seconds(stamp: str) -> float | None:
    """`Tue 2026-11-24 05:22:41.123456 UTC` in seconds since the epoch."""
    try:
        return datetime.strptime(stamp, "%a %Y-%m-%d %H:%M:%S.%f %Z").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None


def _error(machine: Machine, verb: str, names: Sequence[str], output: Output) -> CommandError:
    words = output.last_words(1)
    return CommandError(
        f"systemctl {verb} {' '.join(names)} failed: {words[0] if words else f'exit status {output.returncode}'}",
        hint=f"see `journalctl -u {names[0]}`" if names else "",
        details=log_lines(machine, names[0]) if names else (),
    )
