"""Packages, holds and marks. The transaction is asked of the package manager beforehand, so that its inverse is known."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import ClassVar

from gpunode.errors import CommandError, HostError
from gpunode.host import accounts, dkms, systemd
from gpunode.host.packages import manager_named
from gpunode.host.packages.at_work import await_others
from gpunode.host.packages.base import Package, PackageManager, Spec
from gpunode.host.verbs.base import Hands, Json, NeverConflicts, Taken


@dataclass(frozen=True)
class InstallPackages(NeverConflicts):
    """Bring packages to wanted versions, `reinstall` those whose files were damaged. `ours` may be changed though held. With `source`
    the packages of that source file are taken and no others. Going back takes those of all, for so they came.
    """

    name: ClassVar[str] = "install-packages"
    manager: str
    specs: tuple[Spec, ...]
    reinstall: tuple[str, ...] = ()
    ours: frozenset[str] = frozenset()
    source: str = ""

    def intent(self, hands: Hands) -> Json | None:
        """The whole transaction, dependencies and all, each package with what it is now. Raises HostError on a foreign hold, and where
        all that is left to do is to configure what cannot be configured.
        """
        manager, began = manager_named(self.manager, self.source), hands.reader.now()
        broken = repair(manager, hands)
        changes = manager.simulate(hands.reader, install=self.specs, reinstall=self.reinstall, override_holds=True)
        known = manager.installed(hands.reader)
        held = sorted(change.name for change in changes if change.name in known and known[change.name].held)
        foreign = [name for name in held if name not in self.ours]
        if foreign:
            raise HostError(
                f"held by somebody else than gpunode: {', '.join(foreign)}",
                hint=f"release it with `{manager.release_command(foreign)}`, or ask for the held version in the profile",
            )
        removed = [change.name for change in changes if not change.after]
        if removed:
            raise HostError(
                f"the package manager would remove {', '.join(removed)}",
                hint=f"remove them yourself first if that is what you want: {manager.removal_command(removed)}",
            )
        if not changes:
            if broken and not all(spec.satisfied_by(known.get(spec.name)) for spec in self.specs):
                raise dkms.explained(broken, hands.reader, began)
            return None
        return {
            "manager": self.manager,
            "source": self.source,
            "install": [[spec.name, spec.version] for spec in self.specs],
            "reinstall": list(self.reinstall),
            "users": sorted(accounts.system_users(hands.reader)),
            "transaction": [_before(change.name, known.get(change.name), change.after) for change in changes],
        }

    def act(self, hands: Hands, intent: Json) -> None:
        """Install, then mark what was asked for by name as wanted by hand."""
        manager = manager_named(intent["manager"], intent.get("source", ""))
        specs = [Spec(name, version) for name, version in intent["install"]]
        began = hands.reader.now()
        try:
            manager.install(hands.machine, install=specs, reinstall=intent["reinstall"], on_line=hands.on_line)
        except CommandError as error:
            raise dkms.explained(error, hands.reader, began) from None
        hands.reader.forget()
        known = manager.installed(hands.reader)
        came_along = [spec.name for spec in specs if spec.name in known and known[spec.name].auto]
        manager.set_auto(hands.machine, came_along, auto=False)

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Purge what was not there, restore the versions and marks of what was.

        What is half-done is repaired only where it is in the way: a module that does not compile would be compiled in vain.
        """
        manager = manager_named(intent["manager"])
        items = [item for item in intent["transaction"] if not item.get("superseded")]
        await_others(hands.reader, manager.programs, hands.on_line)
        if "others" not in intent:  # before a repair, which may bring packages to another version, or take them away
            hands.aside(_found_before(manager, hands, intent, items))
        if _only_going_are_half_done(manager, hands, items):
            with contextlib.suppress(CommandError):  # it may be in the way even so
                return cls._take_back(manager, hands, intent, items)
        repair(manager, hands)
        return cls._take_back(manager, hands, intent, items)

    @classmethod
    def _take_back(cls, manager: PackageManager, hands: Hands, intent: Json, items: list[Json]) -> Taken:
        known = manager.installed(hands.reader)
        back, unavailable = _available(manager, hands, items, known, intent.get("others", []))
        going, needed = _removable(manager, hands, _to_remove(items, known), back)
        _note_users(manager, hands, intent, going)  # the repair may have run the script that makes one
        purge = [item["name"] for item in items if item["name"] in going and item["state"] == "absent"]
        remove = [name for name in going if name not in purge]
        manager.restore(hands.machine, install=back, remove=remove, purge=purge, on_line=hands.on_line)
        hands.reader.forget()
        _restore_marks(manager, hands, items)
        _forget_failed_units(hands, intent.get("units", []))
        users = _remove_users(hands, _ownerless(manager, hands, items, intent.get("made_users", [])))
        kept = (*(f"system user {name}: it runs something" for name in users), *_signing_key(hands, purge))
        return Taken(left=(*needed, *unavailable, *kept))


@dataclass(frozen=True)
class HoldPackages(NeverConflicts):
    """Hold packages at their version."""

    name: ClassVar[str] = "hold-packages"
    manager: str
    names: tuple[str, ...]

    def intent(self, hands: Hands) -> Json | None:
        """Those of them that are not held yet."""
        known = manager_named(self.manager).installed(hands.reader)
        names = [name for name in self.names if name in known and not known[name].held]
        return {"manager": self.manager, "names": names} if names else None

    def act(self, hands: Hands, intent: Json) -> None:
        """Hold them."""
        manager_named(intent["manager"]).set_hold(hands.machine, intent["names"], held=True)

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Let go of those that are still held."""
        manager = manager_named(intent["manager"])
        known = manager.installed(hands.reader)
        names = [name for name in intent["names"] if name in known and known[name].held]
        manager.set_hold(hands.machine, names, held=False)
        return Taken()


def _before(name: str, package: Package | None, after: str) -> Json:
    if package is None or package.state == "absent":
        return {"name": name, "state": "absent", "version": "", "auto": False, "held": False, "after": after}
    return {
        "name": name,
        "state": package.state,
        "version": package.version,
        "auto": package.auto,
        "held": package.held,
        "after": after,
    }


def _only_going_are_half_done(manager: PackageManager, hands: Hands, items: list[Json]) -> bool:
    known = manager.installed(hands.reader)
    half_done = {name for name, package in known.items() if package.state == "half-installed"}
    return bool(half_done) and half_done <= set(_to_remove(items, known))


def _signing_key(hands: Hands, purged: list[str]) -> tuple[str, ...]:
    """DKMS's package leaves its key, which somebody may have enrolled in the firmware by now."""
    if "dkms" not in purged or not hands.reader.exists(dkms.SIGNING_KEY):
        return ()
    return (f"{dkms.SIGNING_KEY}: the key that DKMS signs modules with is left by its package",)


def repair(manager: PackageManager, hands: Hands) -> CommandError | None:
    """Finish what was interrupted, where it can be. A package that never configures is no reason to stop, for it may be to go: its error
    is returned.
    """
    await_others(hands.reader, manager.programs, hands.on_line)
    try:
        manager.repair(hands.machine, hands.reader, hands.on_line)
    except CommandError as error:
        return error
    finally:
        hands.reader.forget()
    return None


def _to_remove(items: list[Json], known: dict[str, Package]) -> list[str]:
    """Packages to go: wholly where there was nothing, or back to their configuration files alone."""
    gone = ("absent", "config-files")
    return [
        item["name"]
        for item in items
        if item["state"] in gone
        and item["name"] in known
        and known[item["name"]].state not in ("absent", item["state"])
    ]


def _found_before(manager: PackageManager, hands: Hands, intent: Json, items: list[Json]) -> Json:
    """What nothing tells any more once the packages are gone: whose they are, the users they made, the units they brought."""
    known = manager.installed(hands.reader)
    going = _to_remove(items, known)
    return {
        "others": [item["name"] for item in items if _is_somebody_elses(item, known)],
        "made_users": _users_made(manager, hands, intent, going),
        "units": _units_of(manager, hands, going),
    }


def _note_users(manager: PackageManager, hands: Hands, intent: Json, going: list[str]) -> None:
    known = intent.get("made_users", [])
    more = [name for name in _users_made(manager, hands, intent, going) if name not in known]
    if more:
        hands.aside({"made_users": [*known, *more]})


def _ownerless(manager: PackageManager, hands: Hands, items: list[Json], users: list[str]) -> list[str]:
    """Of the users, those that no package names which was to go and has stayed."""
    stayed = _to_remove(items, manager.installed(hands.reader))
    kept = accounts.named_in(manager.install_scripts(hands.reader, stayed), users) if users and stayed else []
    return [name for name in users if name not in kept]


def _units_of(manager: PackageManager, hands: Hands, packages: list[str]) -> list[str]:
    """The systemd services that the packages brought."""
    paths = manager.files(hands.reader, packages)
    units = [path for path in paths if "/systemd/system/" in path and path.endswith(".service")]
    return sorted({path.rpartition("/")[2] for path in units})


def _forget_failed_units(hands: Hands, units: list[str]) -> None:
    """A unit that failed and whose file is gone would be listed as failed until the next boot."""
    gone = [name for name, unit in systemd.show(hands.reader, units).items() if not unit.loaded] if units else []
    for name in gone:
        hands.machine.run(
            ["systemctl", "reset-failed", name]
        )  # it says so, and no more, when there is nothing to forget


def _users_made(manager: PackageManager, hands: Hands, intent: Json, gone: list[str]) -> list[str]:
    """System users that were not there before and that the scripts of packages now going have made."""
    new = [name for name in accounts.system_users(hands.reader) if name not in intent["users"]]
    return accounts.named_in(manager.install_scripts(hands.reader, gone), new) if new else []


def _remove_users(hands: Hands, users: list[str]) -> list[str]:
    """Remove those that run nothing; returns the others."""
    known = accounts.system_users(hands.reader)
    return [
        name
        for name in users
        if name in known
        and (accounts.runs_something(hands.reader, known[name]) or not accounts.remove(hands.machine, name))
    ]


def _available(
    manager: PackageManager, hands: Hands, items: list[Json], known: dict[str, Package], theirs: list[str]
) -> tuple[list[Spec], tuple[str, ...]]:
    """The versions to go back to that can be had without removing anybody's package, and words for the others."""
    changed = [item for item in items if _version_differs(item, known)]
    others = [item for item in changed if item["name"] in theirs]
    specs = [Spec(item["name"], item["version"], exact=True) for item in changed if item not in others]
    kept = tuple(
        f"package {item['name']}: somebody has brought it to {known[item['name']].version} since" for item in others
    )
    going = frozenset(_to_remove(items, known))
    if not specs or _obstacle(manager, hands, specs, going) == "":
        return specs, kept
    obstacles = {spec.name: _obstacle(manager, hands, [spec], going) for spec in specs}
    left = (*kept, *(f"package {name}: {why}" for name, why in obstacles.items() if why))
    return [spec for spec in specs if not obstacles[spec.name]], left


def _obstacle(manager: PackageManager, hands: Hands, specs: list[Spec], going: frozenset[str]) -> str:
    """Why these versions cannot be gone back to; empty when they can."""
    try:
        changes = manager.simulate(hands.reader, install=specs, override_holds=True)
    except CommandError:
        return f"no repository has version {specs[0].version} any more"
    others = sorted({change.name for change in changes if not change.after} - going)
    return f"{', '.join(others)} need a newer version than {specs[0].version}" if others else ""


def _is_somebody_elses(item: Json, known: dict[str, Package]) -> bool:
    """True for a package that is whole at a version which is neither the one before nor the one that gpunode brought it to."""
    package = known.get(item["name"])
    return package is not None and package.installed and package.version not in (item["version"], item["after"])


def _version_differs(item: Json, known: dict[str, Package]) -> bool:
    package = known.get(item["name"])
    return item["state"] == "installed" and (package is None or package.version != item["version"])


def _removable(
    manager: PackageManager, hands: Hands, names: list[str], back: list[Spec]
) -> tuple[list[str], tuple[str, ...]]:
    """Of the names, those that can go without taking along what is not ours to remove, and words for the rest."""
    if not names or not _dragged_along(manager, hands, names, back) - set(names):
        return names, ()
    going: list[str] = []
    left = []
    for name in names:
        foreign = _dragged_along(manager, hands, [*going, name], back) - set(names)
        if foreign:
            left.append(f"package {name}: {', '.join(sorted(foreign))} need it")
        else:
            going.append(name)
    return going, tuple(left)


def _dragged_along(manager: PackageManager, hands: Hands, names: list[str], back: list[Spec]) -> set[str]:
    changes = manager.simulate(hands.reader, install=back, purge=names, override_holds=True)
    return {change.name for change in changes if not change.after}


def _restore_marks(manager: PackageManager, hands: Hands, items: list[Json]) -> None:
    known = manager.installed(hands.reader)
    for auto in (True, False):
        names = [
            item["name"]
            for item in items
            if item["state"] == "installed"
            and item["name"] in known
            and item["auto"] is auto is not known[item["name"]].auto
        ]
        manager.set_auto(hands.machine, names, auto=auto)
    for held in (True, False):
        names = [
            item["name"]
            for item in items
            if item["state"] == "installed"
            and item["name"] in known
            and item["held"] is held is not known[item["name"]].held
        ]
        manager.set_hold(hands.machine, names, held=held)
