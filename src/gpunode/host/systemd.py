"""systemd's units: all of them asked in one `systemctl show`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from gpunode.errors import CommandError, HostError
from gpunode.host.machine import Machine, Output
from gpunode.host.reader import Reader

PROPERTIES = "Id,LoadState,ActiveState,SubState,UnitFileState,ExecMainStartTimestamp,ExecStart,Result"
ANSWER_SECONDS = 10.0
TOO_OFTEN = "systemctl reset-failed"
"""What systemctl advises where a unit has been started too often."""
STOPPED_FOR_GOOD = ("failed", "inactive")
FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
"""Where system units lie, the strongest first (systemd.unit(5))."""
SPECIFIERS = {"%E": "/etc", "%S": "/var/lib", "%t": "/run", "%%": "%"}
"""Those that mean the same for every system unit of every host."""
SIGNS = "@-:+!"
"""What may stand before a program: `@` gives it another name, `:` leaves variables alone, the others change how it is run."""


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
    """The named units, those that are not known yet in one query. A unit that does not exist is there too, not loaded."""
    unknown = [name for name in names if reader.recall(("unit", name)) is None]
    if unknown:
        output = reader.query(
            ["systemctl", "show", "--timestamp=us+utc", f"--property={PROPERTIES}", *unknown], timeout=ANSWER_SECONDS
        )
        if not output.ok:
            raise CommandError("systemd does not answer", details=output.last_words())
        blocks = [block for block in output.stdout.strip().split("\n\n") if block]
        if len(blocks) != len(unknown):
            raise CommandError(f"systemd was asked for {len(unknown)} units and told of {len(blocks)}")
        for name, block in zip(unknown, blocks, strict=True):
            reader.remember(("unit", name), _unit(name, block))
    return {name: reader.recall(("unit", name)) for name in names}


def unit(reader: Reader, name: str) -> Unit:
    """One unit."""
    return show(reader, [name])[name]


def unit_file(reader: Reader, name: str) -> str | None:
    """The file that a unit is made of, its drop-ins aside; None where there is none."""
    return next((path for folder in FOLDERS if reader.exists(path := f"{folder}/{name}")), None)


def exec_start(reader: Reader, name: str) -> tuple[str, ...]:
    """The words of a unit's last effective ExecStart, its drop-ins followed; empty where it has none.

    Read from the files: it costs no process, and says how the unit will be started the next time. Specifiers that mean the same on every
    host are replaced (`%E`); other specifiers, and variables, are left as they stand.
    """
    values = _values(reader, name, "ExecStart")
    return _words(values[-1]) if values else ()


def environment(reader: Reader, name: str) -> dict[str, str]:
    """The variables that a unit sets for its program: by Environment=, then by each EnvironmentFile=, which counts for more.

    What systemd itself was given for all its units is not among them.
    """
    variables: dict[str, str] = {}
    for value in _since_reset(_values(reader, name, "Environment")):
        variables.update(_assigned(_with_specifiers(word) for word in split(value)))
    for value in _since_reset(_values(reader, name, "EnvironmentFile")):
        folder, _, file = _with_specifiers(value.removeprefix("-")).rpartition("/")
        for path in reader.glob(folder, file):
            variables.update(assignments(reader, path))
    return variables


def assignments(reader: Reader, path: str) -> dict[str, str]:
    """The variables of one environment file (systemd.exec(5)); none where there is no such file."""
    text = re.sub(r"\\\n", "", (reader.read(path) or b"").decode("utf-8", "replace"))
    lines = (line.strip() for line in text.splitlines())
    return _assigned(
        f"{name.strip()}={' '.join(split(value))}"
        for name, given, value in (line.partition("=") for line in lines if not line.startswith(("#", ";")))
        if given
    )


def split(text: str) -> list[str]:
    """The words of a line, quotes heeded; at every blank where they do not close."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _assigned(words: Iterable[str]) -> dict[str, str]:
    found = (re.fullmatch(r"([A-Za-z_]\w*)=(.*)", word, re.DOTALL) for word in words)
    return {each[1]: each[2] for each in found if each}


def _with_specifiers(word: str) -> str:
    return re.sub("%.", lambda found: SPECIFIERS.get(found[0], found[0]), word)


def _since_reset(values: list[str]) -> list[str]:
    """The values that count: an empty one takes back all before it."""
    resets = [number for number, value in enumerate(values) if not value]
    return values[resets[-1] + 1 :] if resets else values


def _values(reader: Reader, name: str, key: str) -> list[str]:
    """Every value of a key of the unit's [Service], its file's first, then its drop-ins'."""
    texts = ((reader.read(path) or b"").decode("utf-8", "replace") for path in _parts(reader, name))
    return [value for text in texts for value in _settings(text, "Service", key)]


def _parts(reader: Reader, name: str) -> list[str]:
    """The unit's file, then its drop-ins in the order of their names; one of a stronger folder hides its namesake."""
    main = unit_file(reader, name)
    drop_ins: dict[str, str] = {}
    for folder in FOLDERS:
        for path in reader.glob(f"{folder}/{name}.d", "*.conf"):
            drop_ins.setdefault(path.rpartition("/")[2], path)
    return [*([main] if main else []), *(drop_ins[each] for each in sorted(drop_ins))]


def _settings(text: str, section: str, key: str) -> list[str]:
    """Every value of a key in a section of a unit file, in order; lines that end in a backslash go on in the next."""
    found, here = [], ""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = line.strip()
        if words.startswith("["):
            here = words.strip("[]")
        elif here == section and not words.startswith(("#", ";")) and words.partition("=")[0].strip() == key:
            found.append(words.partition("=")[2].strip())
    return found


def _words(command: str) -> tuple[str, ...]:
    """The command line's words, without the signs that systemd reads before a program's path."""
    words = [_with_specifiers(word) for word in split(command)]
    if not words:
        return ()
    program = words[0].lstrip(SIGNS)
    signs = words[0][: len(words[0]) - len(program)]
    rest = words[2:] if "@" in signs else words[1:]  # with @ the second word is the name that the program is told
    return (program, *(word.replace("$", "$$") if ":" in signs else word for word in rest))


def control(machine: Machine, verb: str, *names: str, timeout: float = 120.0) -> None:
    """`systemctl VERB NAME…`, once more where systemd has had enough of a unit's starts. Raises CommandError with the unit's own last log
    lines.

    By then a restart has stopped the daemon already. Five starts in ten seconds are the default limit, which an apply and its rollback
    reach when somebody tries things out.
    """
    output = machine.run(["systemctl", verb, *names], timeout=timeout)
    if TOO_OFTEN in output.stderr:
        machine.run(["systemctl", "reset-failed", *names])
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
