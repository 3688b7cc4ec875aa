"""dpkg: packages unpacked, configured, removed, purged, each an effect of its own; and the programs that look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory import units
from memory.command import Answer, Call
from memory.packages import Deb, Record, ScriptError

if TYPE_CHECKING:
    from memory.machine import MemoryMachine

AUDIT = {
    "unpacked": (
        "The following packages have been unpacked but not yet configured.\n"
        "They must be configured using dpkg --configure or the configure\n"
        "menu option in dselect for them to work:\n"
    ),
    "half-configured": (
        "The following packages are only half configured, probably due to problems\n"
        "configuring them the first time.  The configuration should be retried using\n"
        "dpkg --configure <package> or the configure menu option in dselect:\n"
    ),
    "half-installed": (
        "The following packages are only half installed, due to problems during\n"
        "installation.  The installation can probably be completed by retrying it;\n"
        "the packages can be removed using dselect or dpkg --remove:\n"
    ),
}


def unpack(machine: MemoryMachine, deb: Deb) -> None:
    """Lay the package's files down in place of another version's; a conffile that is there stays."""
    old = machine.dpkg.records.get(deb.name)
    want = old.want if old and old.want == "hold" else "install"

    def half() -> None:
        machine.dpkg.records[deb.name] = Record(old.deb if old else deb, "half-installed", want)

    def whole() -> None:
        if old:
            _take_files(machine, old.deb, keep=deb.conffiles | set(deb.files) | set(deb.links))
        for path, content in deb.files.items():
            if path not in deb.conffiles or not machine.files.exists(path):
                machine.files.lay(path, content, mode=0o755 if content.startswith("#!") else 0o644)
        for path, target in deb.links.items():
            machine.files.link(path, target)
        machine.dpkg.records[deb.name] = Record(deb, "unpacked", want)

    machine.effect(f"unpack {deb.name} {deb.version}", whole, half)


def configure(machine: MemoryMachine, name: str) -> str:
    """Run a package's postinst; what it said when it failed, else empty."""
    record = machine.dpkg.records[name]
    failures: list[str] = []

    def run() -> None:
        try:
            if record.deb.postinst:
                record.deb.postinst(machine)
            record.state = "installed"
        except ScriptError as error:
            record.state = "half-configured"
            failures.append(f"{error}\ndpkg: error processing package {name} (--configure):\n")

    def half() -> None:
        record.state = "half-configured"

    machine.effect(f"configure {name}", run, half)
    return "".join(failures)


def remove(machine: MemoryMachine, name: str, *, purge: bool) -> None:
    """Remove a package; its conffiles too when it is purged."""
    record = machine.dpkg.records[name]
    if record.state != "config-files":

        def half() -> None:
            record.state, record.want = "half-installed", "deinstall"

        machine.effect(f"remove {name}", lambda: _remove(machine, record), half)
    if purge and name in machine.dpkg.records:
        machine.effect(f"purge {name}", lambda: _purge(machine, record.deb))


def _remove(machine: MemoryMachine, record: Record) -> None:
    deb = record.deb
    if deb.prerm:
        deb.prerm(machine)
    for unit in deb.units:
        if unit in machine.units and machine.units[unit].active == "active":
            units.stop(machine, unit)
    _take_files(machine, deb, keep=deb.conffiles)
    # What its units were enabled by stays until the purge, as debhelper's scripts do it.
    if deb.conffiles or deb.postrm or deb.units:
        record.state, record.want = "config-files", "deinstall"
    else:
        del machine.dpkg.records[deb.name]


def _purge(machine: MemoryMachine, deb: Deb) -> None:
    for unit in deb.units:
        machine.files.erase(f"{units.WANTS}/{unit}")
    _take_files(machine, deb, keep=set())
    if deb.postrm:
        deb.postrm(machine)
    machine.dpkg.records.pop(deb.name, None)


def _take_files(machine: MemoryMachine, deb: Deb, *, keep: frozenset[str] | set[str]) -> None:
    for path in [*deb.files, *deb.links]:
        if path not in keep and machine.files.node(path):
            machine.files.remove(path)
            take_empty_folders(machine, path.rpartition("/")[0])


def take_empty_folders(machine: MemoryMachine, folder: str) -> None:
    """Folders that only this package had; those of the base system are the package base-files'."""
    base = machine.dpkg.records.get("base-files")
    while folder and machine.files.node(folder) and not machine.files.names(folder):
        if base and f"{folder}/" in base.deb.files:
            return
        machine.files.erase(folder)
        folder = folder.rpartition("/")[0]


def dpkg_query(machine: MemoryMachine, call: Call) -> Answer:
    """`dpkg-query --show` in the one format that is asked for."""
    form = call.option("showformat")
    if "--show" not in call.words or "${db:Status-Abbrev}|${Package}|${Version}|${Architecture}" not in form:
        return Answer(stderr=f"dpkg-query: error: not simulated: {' '.join(call.words)}\n", status=2)
    records = sorted(machine.dpkg.records.items())
    return Answer("".join(f"{record.abbreviation}|{name}|{record.deb.version}|amd64\n" for name, record in records))


def dpkg(machine: MemoryMachine, call: Call) -> Answer:
    """`dpkg --audit`, `--configure -a`, `--print-architecture`."""
    if "--print-architecture" in call.words:
        return Answer("amd64\n")
    if "--audit" in call.words:
        return Answer(_audit(machine))
    if "--configure" in call.words:
        return configure_all(machine)
    return Answer(stderr=f"dpkg: error: not simulated: {' '.join(call.words)}\n", status=2)


def configure_all(machine: MemoryMachine) -> Answer:
    """Configure what is unpacked or half configured."""
    failed, printed = [], ""
    for name, record in list(machine.dpkg.records.items()):
        if record.state in ("unpacked", "half-configured"):
            printed += f"Setting up {name} ({record.deb.version}) ...\n"
            words = configure(machine, name)
            printed += words
            failed += [name] if words else []
    if failed:
        names = "".join(f" {name}\n" for name in failed)
        return Answer(printed, f"Errors were encountered while processing:\n{names}", 1)
    return Answer(printed)


def _audit(machine: MemoryMachine) -> str:
    sections = []
    for state, heading in AUDIT.items():
        names = [name for name, record in sorted(machine.dpkg.records.items()) if record.state == state]
        if names:
            sections.append(heading + "".join(f" {name}\n" for name in names))
    return "\n".join(sections)
