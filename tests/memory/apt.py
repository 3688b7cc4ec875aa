"""apt-get and apt-mark: sources read from their files, indices fetched, plans made and carried out by dpkg."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memory import dpkg, keys
from memory.command import Answer, Call
from memory.packages import Deb, Repository, compare
from memory.solver import AptError, Plan, Solver

if TYPE_CHECKING:
    from memory.machine import MemoryMachine

SOURCES = "/etc/apt/sources.list.d"
STATES = "/var/lib/apt/extended_states"


@dataclass(frozen=True)
class Source:
    """One repository that the host's files name."""

    uri: str
    suite: str
    signed_by: str


def apt_get(machine: MemoryMachine, call: Call) -> Answer:
    """`apt-get update | install | remove | purge`, `--simulate` and all; errors in apt's own words with status 100."""
    try:
        verb, *names = call.operands()
        if verb == "update":
            return _update(machine, call)
        plan = _plan(machine, call, verb, names)
        purge = verb == "purge" or "--purge" in call.words
        printed = "Reading package lists...\nBuilding dependency tree...\nReading state information...\n"
        if "--simulate" in call.words:
            return Answer(printed + "".join(_simulated(plan, purge=purge)))
        _refuse(machine, call, plan)
        return _carry_out(machine, plan, named=_bare(names), purge=purge, printed=printed, rc=names if purge else [])
    except AptError as error:
        return Answer(stderr=f"E: {error}\n", status=100)


def apt_mark(machine: MemoryMachine, call: Call) -> Answer:
    """`apt-mark hold | unhold | auto | manual | showhold`."""
    verb, *names = call.operands()
    records = machine.dpkg.records
    if verb == "showhold":
        held = sorted(name for name, record in records.items() if record.want == "hold")
        return Answer("".join(f"{name}\n" for name in held))
    missing = [name for name in names if name not in records]
    if missing:
        return Answer(stderr=f"E: Unable to locate package {missing[0]}\nE: No packages found\n", status=100)
    for name in names:
        if verb in ("hold", "unhold"):
            machine.effect(f"{verb} {name}", lambda name=name: _hold(machine, name, verb))  # type: ignore[misc] # mypy knows no bound default
    if verb in ("auto", "manual"):
        marks = auto_marks(machine)
        _write_marks(machine, marks | set(names) if verb == "auto" else marks - set(names))
    return Answer("".join(f"{name} set to {verb}.\n" for name in names))


def auto_marks(machine: MemoryMachine) -> set[str]:
    """Packages marked as installed automatically."""
    return set(
        re.findall(r"^Package: (\S+)\nArchitecture: \S+\nAuto-Installed: 1", machine.files.text(STATES), re.MULTILINE)
    )


def sources(machine: MemoryMachine) -> list[Source]:
    """Repositories that the host's source files name. Raises AptError when two of them contradict each other."""
    found: list[Source] = []
    for name in machine.files.names(SOURCES):
        text = machine.files.text(f"{SOURCES}/{name}")
        if name.endswith(".sources"):
            found += _deb822(text)
        elif name.endswith(".list"):
            found += _one_line(text)
    keys: dict[tuple[str, str], str] = {}
    for source in found:
        other = keys.setdefault((source.uri, source.suite), source.signed_by)
        if other != source.signed_by:
            pair = f"{source.uri} {source.suite}: {other} != {source.signed_by}"
            raise AptError(
                f"Conflicting values set for option Signed-By regarding source {pair}\nE: The list of sources could not be read."
            )
    return found


def _deb822(text: str) -> Iterator[Source]:
    for paragraph in re.split(r"\n\s*\n", text):
        lines = [line for line in paragraph.splitlines() if line.partition("#")[0].strip()]
        fields = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if fields.get("enabled", "yes") != "no":
            for uri in fields.get("uris", "").split():
                yield Source(uri.rstrip("/") + "/", fields.get("suites", ""), fields.get("signed-by", ""))


def _one_line(text: str) -> Iterator[Source]:
    for match in re.finditer(r"^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)", text, re.MULTILINE):
        options = dict(word.partition("=")[::2] for word in (match[1] or "").split())
        yield Source(match[2].rstrip("/") + "/", match[3], options.get("signed-by", ""))


def _update(machine: MemoryMachine, call: Call) -> Answer:
    known = {repository.uri: repository for repository in machine.repositories}
    printed, errors, wanted = "", [], set()
    options = dict(
        word.removeprefix("--option=").partition("=")[::2] for word in call.words if word.startswith("--option=")
    )
    only = options.get("Dir::Etc::SourceList", "")
    for source in _deb822(machine.files.text(only)) if only else sources(machine):
        repository = known.get(source.uri)
        wanted.add(repository.list_file if repository else "")
        complaint = _complaint(machine, source, repository)
        if complaint:
            errors.append(complaint)
        elif repository:
            printed += f"Get:1 {source.uri}  InRelease\n"
            _fetch_list(machine, repository)
    for name in machine.files.names("/var/lib/apt/lists") if not only else ():
        path = f"/var/lib/apt/lists/{name}"
        if path not in wanted:
            machine.effect(f"drop {path}", lambda path=path: machine.files.erase(path))  # type: ignore[misc] # mypy knows no bound default
    status = 100 if errors and "--error-on=any" in call.words else 0
    letter = "E" if status else "W"
    return Answer(f"{printed}Reading package lists...\n", "".join(f"{letter}: {line}\n" for line in errors), status)


def _fetch_list(machine: MemoryMachine, repository: Repository) -> None:
    date = machine.now()
    machine.effect(
        f"fetch {repository.list_file}",
        lambda: machine.files.lay(repository.list_file, f"Origin: {repository.uri}\n", mtime=date),
    )


def _complaint(machine: MemoryMachine, source: Source, repository: Repository | None) -> str:
    if repository is None:
        host = source.uri.split("/")[2]
        return f"Failed to fetch {source.uri}InRelease  Could not resolve '{host}'"
    if repository.error:
        return f"Failed to fetch {source.uri}InRelease  {repository.error}"
    keyring = (
        machine.files.read(source.signed_by) if source.signed_by and machine.files.exists(source.signed_by) else b""
    )
    if not keys.holds(keyring, repository.key):
        fingerprint = keys.fingerprint(repository.key)
        return f"The repository '{source.uri}  InRelease' is not signed. Missing key {fingerprint}, which is needed to verify signature."
    return ""


def _available(machine: MemoryMachine) -> list[Deb]:
    named = {source.uri for source in sources(machine)}
    debs = list(machine.dpkg.archive)
    for repository in machine.repositories:
        if repository.uri in named and machine.files.exists(repository.list_file):
            debs += repository.debs
    return debs


def _bare(names: list[str]) -> set[str]:
    return {name.partition("=")[0] for name in names if not name.endswith("-")}


def _plan(machine: MemoryMachine, call: Call, verb: str, names: list[str]) -> Plan:
    solver = Solver(machine.dpkg.installed(), _available(machine), _pins(machine))
    if verb in ("remove", "purge"):
        return solver.solve([], names)
    remove = [name[:-1] for name in names if name.endswith("-")]
    install = [name for name in names if not name.endswith("-")]
    # What lies there in half stays so at its version: apt takes it for installed.
    again = {word.partition("=")[0] for word in install if "--reinstall" in call.words}
    return solver.solve(install, remove, again=again, fix="--fix-broken" in call.words)


def _pins(machine: MemoryMachine) -> dict[str, str]:
    """Packages whose candidate a preferences file decides, with the pattern of its version."""
    found: dict[str, str] = {}
    for name in machine.files.names("/etc/apt/preferences.d"):
        for paragraph in re.split(r"\n\s*\n", machine.files.text(f"/etc/apt/preferences.d/{name}")):
            fields = dict(line.partition(": ")[::2] for line in paragraph.splitlines() if not line.startswith("#"))
            if fields.get("Pin", "").startswith("version "):
                patterns = fields.get("Package", "").split()
                known = {deb.name for deb in _available(machine)} | set(machine.dpkg.records)
                pinned = {each for each in known if any(fnmatch.fnmatchcase(each, pattern) for pattern in patterns)}
                found |= dict.fromkeys(pinned, fields["Pin"].removeprefix("version ").strip())
    return found


def _simulated(plan: Plan, *, purge: bool) -> Iterator[str]:
    fresh = [deb for deb in plan.unpacked if deb.name not in plan.before]
    yield f"0 upgraded, {len(fresh)} newly installed, {len(plan.removed)} to remove and 0 not upgraded.\n"
    for name in plan.removed:
        yield f"{'Purg' if purge else 'Remv'} {name} [{plan.before[name].version}]\n"
    for deb in plan.unpacked:
        old = f" [{plan.before[deb.name].version}]" if deb.name in plan.before else ""
        yield f"Inst {deb.name}{old} ({deb.version} Lab:13/stable [amd64])\n"
    for deb in plan.unpacked:
        yield f"Conf {deb.name} ({deb.version} Lab:13/stable [amd64])\n"


def _refuse(machine: MemoryMachine, call: Call, plan: Plan) -> None:
    touched = [*plan.removed, *(deb.name for deb in plan.unpacked)]
    held = [name for name in touched if name in machine.dpkg.records and machine.dpkg.records[name].want == "hold"]
    if plan.removed and "--no-remove" in call.words:
        raise AptError("Packages need to be removed but remove is disabled.")
    if held and "--allow-change-held-packages" not in call.words:
        raise AptError("Held packages were changed and -y was used without --allow-change-held-packages.")
    down = [
        deb
        for deb in plan.unpacked
        if deb.name in plan.before and compare(deb.version, plan.before[deb.name].version) < 0
    ]
    if down and "--allow-downgrades" not in call.words:
        raise AptError("Packages were downgraded and -y was used without --allow-downgrades.")


def _carry_out(
    machine: MemoryMachine, plan: Plan, *, named: set[str], purge: bool, printed: str, rc: list[str]
) -> Answer:
    # apt writes its own marks before dpkg begins.
    fresh = {deb.name for deb in plan.unpacked if deb.name not in plan.before}
    _write_marks(machine, (auto_marks(machine) - set(plan.removed) | fresh) - (named & set(plan.after)))
    for name in plan.removed:
        printed += f"Removing {name} ({plan.before[name].version}) ...\n"
        dpkg.remove(machine, name, purge=purge)
    for name in rc:
        if name in machine.dpkg.records:
            dpkg.remove(machine, name, purge=True)
    for deb in plan.unpacked:
        printed += f"Unpacking {deb.name} ({deb.version}) ...\n"
        dpkg.unpack(machine, deb)
    for deb in plan.unpacked:
        # A hold that apt was allowed to override is gone.
        machine.dpkg.records[deb.name].want = "install"
    done = dpkg.configure_all(machine)
    if done.status:
        words = f"{done.stderr}E: Sub-process /usr/bin/dpkg returned an error code (1)\n"
        return Answer(printed + done.stdout, words, 100)
    return Answer(printed + done.stdout)


def _write_marks(machine: MemoryMachine, names: set[str]) -> None:
    if names == auto_marks(machine):
        return
    text = "".join(f"Package: {name}\nArchitecture: amd64\nAuto-Installed: 1\n\n" for name in sorted(names))
    machine.effect("write extended_states", lambda: machine.files.lay(STATES, text))


def _hold(machine: MemoryMachine, name: str, verb: str) -> None:
    machine.dpkg.records[name].want = "hold" if verb == "hold" else "install"
