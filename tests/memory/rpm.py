"""rpm's database, dnf and zypper over it: as much of them as gpunode uses, each package written and erased as an effect of its own.

The database is a file, so that a copy of the machine has its own: one line a package, `instance|name|version|reason`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from memory.command import Answer, Call
from memory.packages import Deb, compare, parse
from memory.solver import AptError, Plan, Solver

if TYPE_CHECKING:
    from memory.machine import MemoryMachine, Program

DATABASE = "/var/lib/rpm/packages"
AUTO = "/var/lib/zypp/AutoInstalled"
LOCKS = "/etc/zypp/locks"


@dataclass(frozen=True)
class Row:
    """A package of the database. `reason` is dnf's word: `user` or `dependency`."""

    instance: int
    deb: Deb
    reason: str


@dataclass
class World:
    """What the repositories offer; `silent` makes a transaction do nothing and say that all went well, as a locked downgrade does."""

    archive: tuple[Deb, ...]
    silent: bool = False
    streams: tuple[str, ...] = ("580-open", "open-dkms")

    def programs(self) -> dict[str, Program]:
        """The commands, by name."""
        return {"rpm": self.rpm, "dnf": self.dnf, "zypper": self.zypper}

    # --- rpm ---

    def rpm(self, machine: MemoryMachine, call: Call) -> Answer:
        """`rpm --query` of all, of a package's scripts or files, and `rpm --erase`."""
        if "--erase" in call.words:
            for word in call.operands():
                row = next(
                    row for row in rows(machine, self.archive) if f"{row.deb.name}-{_bare(row.deb)}.x86_64" == word
                )
                _erase(machine, self.archive, row)
            return Answer()
        if "--all" in call.words:
            return Answer("".join(_line(row) for row in rows(machine, self.archive)))
        return Answer()

    # --- dnf ---

    def dnf(self, machine: MemoryMachine, call: Call) -> Answer:
        """`dnf repoquery | shell | install | reinstall | mark | makecache | module list`."""
        verb, *words = call.operands()
        match verb:
            case "repoquery":
                return self._repoquery(machine, call, words)
            case "shell":
                return self._shell(machine, call)
            case "install" | "reinstall":
                return self._carry_out(machine, [f"{verb} {' '.join(words)}"], dry=False)
            case "mark":
                reason = "dependency" if words[0] == "remove" else "user"
                return remark(machine, self.archive, words[1:], reason)
            case "module":
                return Answer("".join(f"{words[-1]}  {stream}  \n" for stream in self.streams))
        return Answer()

    def _repoquery(self, machine: MemoryMachine, call: Call, words: Sequence[str]) -> Answer:
        if "--installed" in call.words:
            return Answer("".join(f"{row.deb.name}|{row.reason}\n" for row in rows(machine, self.archive)))
        return Answer("".join(f"{_fields(deb)}|x86_64\n" for deb in self.archive if deb.name in words))

    def _shell(self, machine: MemoryMachine, call: Call) -> Answer:
        lines = [line for line in call.stdin.splitlines() if line != "run"]
        return self._carry_out(machine, lines, dry="--assumeno" in call.words)

    def _carry_out(self, machine: MemoryMachine, commands: Iterable[str], *, dry: bool) -> Answer:
        plan, reinstalled, wanted = self.planned(machine, commands)
        if isinstance(plan, str):
            return Answer("", f"Error: \n Problem: {plan}\n", 0)
        if self.silent:
            return Answer("Nothing to do.\nComplete!\n")
        if not dry:
            return self.transact(machine, plan, wanted)
        lines = [f"---> Package {deb.name}.x86_64 {deb.version} will be {_how(plan, deb)}\n" for deb in plan.unpacked]
        lines += [f"---> Package {name}.x86_64 {plan.before[name].version} will be erased\n" for name in plan.removed]
        lines += [f"---> Package {deb.name}.x86_64 {deb.version} will be reinstalled\n" for deb in reinstalled]
        return Answer("".join(lines), "Error: Operation aborted.\n" if lines else "")

    def planned(self, machine: MemoryMachine, commands: Iterable[str]) -> tuple[Plan | str, list[Deb], set[str]]:
        """What lines of `VERB PACKAGE…` come to, or why they do not; what is reinstalled; which names were asked for."""
        before = {row.deb.name: row.deb for row in rows(machine, self.archive)}
        install: list[str] = []
        remove: list[str] = []
        again: list[str] = []
        for command in commands:
            verb, *words = command.split()
            if verb == "install":
                install += [_parse(word) for word in words]
            else:
                (remove if verb == "remove" else again).extend(words)
        named = {word.partition("=")[0] for word in install}
        try:
            plan = Solver(before, self.archive, {}).solve([*install, *self._exact(install)], remove)
            return plan, [before[name] for name in again], named
        except AptError as error:
            return str(error), [], named

    def _exact(self, words: Iterable[str]) -> list[str]:
        """What packages need at one version only: these solvers look beyond the highest, as apt's does not."""
        debs = [deb for deb in self.archive if f"{deb.name}={deb.version}" in words]
        needed = [each for deb in debs for text in deb.depends for each in parse(text)]
        return [f"{each.name}={each.version}" for each in needed if each.operator == "="]

    def transact(self, machine: MemoryMachine, plan: Plan, named: set[str]) -> Answer:
        """As rpm does it: what is new is written first, what it replaces is erased after all that."""
        old = rows(machine, self.archive)
        for deb in plan.unpacked:
            before = next((row for row in old if row.deb.name == deb.name), None)
            reason = "user" if deb.name in named else before.reason if before else "dependency"
            _write(machine, self.archive, deb, reason)
        for name in (*[deb.name for deb in plan.unpacked], *plan.removed):
            for row in old:
                if row.deb.name == name:
                    _erase(machine, self.archive, row)
        return Answer("Complete!\n")

    # --- zypper ---

    def zypper(self, machine: MemoryMachine, call: Call) -> Answer:
        """`zypper search | install | refresh`."""
        verb, *words = call.operands()
        if verb == "search":
            found = [deb for deb in self.archive if deb.name in words]
            return Answer(_xml("search-result", [_solvable(deb, repository="lab") for deb in found]))
        if verb != "install":
            return Answer()
        return self._zypper_install(machine, call, words)

    def _zypper_install(self, machine: MemoryMachine, call: Call, words: Sequence[str]) -> Answer:
        install = [word.replace("=", "-", 1) + ".x86_64" for word in words if not word.startswith("!")]
        remove = [word[1:] for word in words if word.startswith("!")]
        commands = [f"{verb} {' '.join(each)}" for verb, each in (("install", install), ("remove", remove)) if each]
        plan, _, _ = self.planned(machine, commands)
        if isinstance(plan, str):
            return Answer(_xml("x", [f'<message type="info">Problem: 1: {plan}</message>']), "", 4)
        if "--dry-run" not in call.words:
            named = {word.partition("=")[0] for word in words}
            autos = {name for name in auto_installed(machine) if name in plan.after}
            autos |= {deb.name for deb in plan.unpacked if deb.name not in plan.before}
            answer = self.transact(machine, plan, named)
            text = "".join(f"{name}\n" for name in sorted(autos - named))
            machine.effect("write AutoInstalled", lambda: machine.files.lay(AUTO, text))
            return answer
        parts = [
            _part("to-upgrade", [_solvable(deb, before=plan.before.get(deb.name)) for deb in plan.unpacked]),
            _part("to-remove", [_solvable(plan.before[name]) for name in plan.removed]),
        ]
        return Answer(_xml("install-summary", parts))


def rows(machine: MemoryMachine, archive: Iterable[Deb]) -> list[Row]:
    """The database, in the order of the instances."""
    known = {(deb.name, deb.version): deb for deb in archive}
    lines = machine.files.text(DATABASE).splitlines() if machine.files.exists(DATABASE) else []
    found = [line.split("|") for line in lines]
    return [Row(int(at), known[name, version], reason) for at, name, version, reason in found]


def state(machine: MemoryMachine, manager: str) -> dict[str, object]:
    """What a rollback must bring back: packages with versions, why they are there, and the locks."""
    found = [line.split("|") for line in machine.files.text(DATABASE).splitlines()]
    reasons = {name: reason for _, name, _, reason in found}
    lists = (LOCKS, "/etc/dnf/plugins/versionlock.list")
    return {
        "packages": sorted(f"{name} {version}" for _, name, version, _ in found),
        "marks": reasons if manager == "dnf" else auto_installed(machine),
        "locks": [machine.files.text(path) for path in lists if machine.files.exists(path)],
    }


def auto_installed(machine: MemoryMachine) -> list[str]:
    """libzypp's list of packages that came along with others."""
    return sorted(line for line in machine.files.text(AUTO).splitlines() if not line.startswith("#"))


def _write(machine: MemoryMachine, archive: Iterable[Deb], deb: Deb, reason: str) -> None:
    known = rows(machine, archive)
    row = Row(max((each.instance for each in known), default=0) + 1, deb, reason)
    machine.effect(f"install {deb.name} {deb.version}", lambda: _save(machine, [*known, row]))


def _erase(machine: MemoryMachine, archive: Iterable[Deb], row: Row) -> None:
    kept = [each for each in rows(machine, archive) if each.instance != row.instance]
    machine.effect(f"erase {row.deb.name} {row.deb.version}", lambda: _save(machine, kept))


def remark(machine: MemoryMachine, archive: Iterable[Deb], names: Sequence[str], reason: str) -> Answer:
    """`dnf mark`, of either generation."""
    changed = [
        Row(row.instance, row.deb, reason if row.deb.name in names else row.reason) for row in rows(machine, archive)
    ]
    machine.effect(f"mark {reason} {' '.join(names)}", lambda: _save(machine, changed))
    return Answer()


def _save(machine: MemoryMachine, found: Iterable[Row]) -> None:
    lines = [f"{row.instance}|{row.deb.name}|{row.deb.version}|{row.reason}\n" for row in found]
    machine.files.lay(DATABASE, "".join(lines))


def _fields(deb: Deb) -> str:
    epoch, _, rest = deb.version.rpartition(":")
    version, _, release = rest.rpartition("-")
    return f"{deb.name}|{epoch or '0'}|{version}|{release}"


def _line(row: Row) -> str:
    return f"{_fields(row.deb)}|x86_64|{row.instance}\n"


def _bare(deb: Deb) -> str:
    return deb.version.rpartition(":")[2]


def _parse(word: str) -> str:
    """`name-epoch:version-release.x86_64` as the solver's `name=version`; a mere name as it is."""
    parts = word.removesuffix(".x86_64").rsplit("-", 2)
    return f"{parts[0]}={parts[1]}-{parts[2]}" if len(parts) == 3 and parts[1][:1].isdigit() else word


def _how(plan: Plan, deb: Deb) -> str:
    before = plan.before.get(deb.name)
    if before is None:
        return "installed"
    return "an upgrade" if compare(deb.version, before.version) > 0 else "a downgrade"


def _xml(name: str, items: Iterable[str]) -> str:
    return f"<?xml version='1.0'?>\n<stream>\n{_part(name, items)}\n</stream>\n"


def _part(name: str, items: Iterable[str]) -> str:
    return f"<{name}>{''.join(items)}</{name}>"


def _solvable(deb: Deb, *, repository: str = "", before: Deb | None = None) -> str:
    fields = {"type": "package", "name": deb.name, "edition": deb.version, "arch": "x86_64", "repository": repository}
    fields |= {"edition-old": before.version} if before else {}
    return f"<solvable {' '.join(f'{key}={quoteattr(value)}' for key, value in fields.items())}/>"
