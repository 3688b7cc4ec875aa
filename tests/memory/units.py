"""systemd: units are files, what is enabled are links, what runs is state of the boot."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from memory.command import Answer, Call

if TYPE_CHECKING:
    from memory.machine import MemoryMachine

FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system")
WANTS = "/etc/systemd/system/multi-user.target.wants"


@dataclass
class UnitState:
    """A unit of the running system. `log` outlives a restart of it."""

    active: str = "inactive"
    sub: str = "dead"
    started: float | None = None
    result: str = "success"
    log: list[str] = field(default_factory=list)


def unit_file(machine: MemoryMachine, name: str) -> str:
    """The path of a unit's file; empty when there is none."""
    return next((f"{folder}/{name}" for folder in FOLDERS if machine.files.exists(f"{folder}/{name}")), "")


def state(machine: MemoryMachine, name: str) -> UnitState:
    """The unit's state, made when it was never looked at."""
    return machine.units.setdefault(name, UnitState())


def start(machine: MemoryMachine, name: str) -> bool:
    """Start a unit's process; False when it fails, by the machine's own check for it. Without an effect of its own."""
    unit = state(machine, name)
    check = machine.unit_checks.get(name)
    complaint = check(machine) if check else ""
    if complaint:
        unit.active, unit.sub, unit.result, unit.started = "failed", "failed", "exit-code", machine.now()
        unit.log += [complaint, f"{name}: Main process exited, code=exited, status=1/FAILURE"]
        return False
    unit.active, unit.sub, unit.result, unit.started = "active", "running", "success", machine.now()
    unit.log.append(f"Started {name}.")
    return True


def stop(machine: MemoryMachine, name: str) -> None:
    """Stop a unit's process."""
    unit = state(machine, name)
    unit.active, unit.sub = "inactive", "dead"
    unit.log.append(f"Stopped {name}.")


def enabled(machine: MemoryMachine, name: str) -> bool:
    """True when a target wants the unit."""
    return machine.files.node(f"{WANTS}/{name}") is not None


def boot(machine: MemoryMachine) -> None:
    """Start what is enabled and nothing else, as after a power cut."""
    for name in machine.units:
        unit = state(machine, name)
        unit.active, unit.sub, unit.started, unit.result = "inactive", "dead", None, "success"
    for name in machine.files.names(WANTS):
        if unit_file(machine, name):
            start(machine, name)


def systemctl(machine: MemoryMachine, call: Call) -> Answer:
    """`systemctl`: show, is-enabled, enable, disable, start, stop, restart, reload, daemon-reload."""
    verb, *names = call.operands()
    names = [name if "." in name else f"{name}.service" for name in names]
    if verb == "show":
        return Answer("\n".join(_properties(machine, name) for name in names))
    if verb == "is-enabled":
        words = [_file_state(machine, name) or "not-found" for name in names]
        return Answer("".join(f"{word}\n" for word in words), status=int("enabled" not in words))
    if verb == "daemon-reload":
        machine.effect("systemctl daemon-reload", lambda: None)
        return Answer()
    for name in names:
        failure = _control(machine, verb, name, now="--now" in call.words)
        if failure.status:
            return failure
    return Answer()


def journalctl(machine: MemoryMachine, call: Call) -> Answer:
    """`journalctl --unit NAME --lines N --output cat`, and the kernel's log, which is empty."""
    if "--unit" not in call.words:
        return Answer("-- No entries --\n")
    name = call.words[call.words.index("--unit") + 1]
    name = name if "." in name else f"{name}.service"
    lines = int(call.words[call.words.index("--lines") + 1]) if "--lines" in call.words else 1000
    log = machine.units[name].log[-lines:] if name in machine.units else []
    return Answer("".join(f"{line}\n" for line in log) or "-- No entries --\n")


def _control(machine: MemoryMachine, verb: str, name: str, *, now: bool) -> Answer:
    if not unit_file(machine, name):
        words = f"Failed to {verb} unit: Unit {name} does not exist"
        if verb in ("start", "stop", "restart"):
            words = f"Failed to {verb} {name}: Unit {name} not found."
        return Answer(stderr=f"{words}\n", status=5 if verb == "restart" else 1)
    unit = state(machine, name)
    if verb == "enable" and not enabled(machine, name):
        machine.effect(f"enable {name}", lambda: machine.files.link(f"{WANTS}/{name}", unit_file(machine, name)))
    if verb == "disable" and enabled(machine, name):
        machine.effect(f"disable {name}", lambda: machine.files.erase(f"{WANTS}/{name}"))
    if (verb == "stop" or (verb == "disable" and now) or verb == "restart") and unit.active == "active":
        machine.effect(f"stop {name}", lambda: stop(machine, name))
    if verb in ("start", "restart") or (verb == "enable" and now):
        return _start(machine, name)
    return Answer()


def _start(machine: MemoryMachine, name: str) -> Answer:
    if state(machine, name).active != "active":
        machine.effect(f"start {name}", lambda: _ignore(start(machine, name)))
    if state(machine, name).active == "active":
        return Answer()
    words = f"Job for {name} failed because the control process exited with error code.\n"
    hint = f'See "systemctl status {name}" and "journalctl -xeu {name}" for details.\n'
    return Answer(stderr=words + hint, status=1)


def _ignore(_result: bool) -> None:
    """An effect returns nothing; whether the unit came up is read from its state."""


def _file_state(machine: MemoryMachine, name: str) -> str:
    if not unit_file(machine, name):
        return ""
    if enabled(machine, name):
        return "enabled"
    return "disabled" if "[Install]" in machine.files.text(unit_file(machine, name)) else "static"


def _properties(machine: MemoryMachine, name: str) -> str:
    path = unit_file(machine, name)
    unit = machine.units.get(name, UnitState())
    text = machine.files.text(path) if path else ""
    commands = [line.partition("=")[2] for line in text.splitlines() if line.startswith("ExecStart=")]
    shown = [f"ExecMainStartTimestamp={_stamp(unit.started)}"] if name.endswith(".service") else []
    shown += [
        f"ExecStart={{ path={words.split()[0]} ; argv[]={words} ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; "
        "pid=0 ; code=(null) ; status=0/0 }"
        for words in commands
    ]
    load = "loaded" if path else "not-found"
    fields = [f"Result={unit.result}", *shown, f"Id={name}", f"LoadState={load}", f"ActiveState={unit.active}"]
    return "".join(
        f"{line}\n" for line in [*fields, f"SubState={unit.sub}", f"UnitFileState={_file_state(machine, name)}"]
    )


def _stamp(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")
