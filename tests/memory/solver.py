"""What apt would do: from the packages there and those wanted to the packages there afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from memory.packages import VERSION_KEY, Deb, Dependency, compare, matches

ROUNDS = 200


class AptError(Exception):
    """apt's own `E:` line."""


@dataclass
class Plan:
    """Packages before and after, and those unpacked again at the version they have."""

    before: dict[str, Deb]
    after: dict[str, Deb]
    again: set[str] = field(default_factory=set)

    @property
    def removed(self) -> list[str]:
        """Packages to go, dependents before what they depend on."""
        gone = [deb for name, deb in self.before.items() if name not in self.after]
        return [deb.name for deb in reversed(_by_dependency(gone))]

    @property
    def unpacked(self) -> list[Deb]:
        """Packages to be laid down, those that others depend on first."""
        return _by_dependency(
            [deb for name, deb in self.after.items() if deb is not self.before.get(name) or name in self.again]
        )


class Solver:
    """Finds a plan as apt's own resolver would in simple cases: what was asked for stands, what breaks by it goes."""

    def __init__(self, installed: dict[str, Deb], available: Iterable[Deb]) -> None:
        self._before = installed
        self._available: dict[str, list[Deb]] = {}
        for deb in [*available, *installed.values()]:
            offers = self._available.setdefault(deb.name, [])
            if all(deb.version != other.version for other in offers):
                offers.append(deb)
        for offers in self._available.values():
            offers.sort(key=lambda deb: VERSION_KEY(deb.version), reverse=True)

    def solve(self, install: Sequence[str], remove: Sequence[str] = (), *, reinstall: bool = False) -> Plan:
        """The plan for `name`, `name=version` words. Raises AptError."""
        after = dict(self._before)
        fixed: dict[str, Deb] = {}
        again: set[str] = set()
        for word in install:
            name, _, pattern = word.partition("=")
            deb = self._choose(name, pattern)
            if reinstall and not pattern and name in self._before:
                deb = self._before[name]
            if reinstall and deb is self._before.get(name):
                again.add(name)
            after[name] = fixed[name] = deb
        for name in remove:
            self._require_known(name)
            after.pop(name, None)
        self._settle(after, fixed, frozenset(remove))
        return Plan(self._before, after, again)

    def _require_known(self, name: str) -> None:
        if name not in self._available:
            raise AptError(f"Unable to locate package {name}")

    def _choose(self, name: str, pattern: str) -> Deb:
        self._require_known(name)
        offers = [deb for deb in self._available[name] if not pattern or matches(deb.version, pattern)]
        if not offers:
            raise AptError(f"Version '{pattern}' for '{name}' was not found")
        here = self._before.get(name)
        if here and not pattern and compare(here.version, offers[0].version) >= 0:
            return here
        return here if here and here.version == offers[0].version else offers[0]

    def _settle(self, after: dict[str, Deb], fixed: dict[str, Deb], forbidden: frozenset[str]) -> None:
        for _ in range(ROUNDS):
            broken = next(self._broken(after), None)
            if broken is None:
                return
            deb, needed = broken
            found = None if needed is None else self._provider(needed, fixed, forbidden)
            if found:
                after[found.name] = found
            elif deb.name not in fixed:
                self._repair_or_drop(after, deb, forbidden)
            else:
                raise AptError("Unable to correct problems, you have held broken packages.")
        raise AptError("Error, pkgProblemResolver::Resolve generated breaks, this may be caused by held packages.")

    def _broken(self, after: dict[str, Deb]) -> Iterator[tuple[Deb, list[Dependency] | None]]:
        for deb in sorted(after.values(), key=lambda deb: deb.name):
            for text in deb.depends:
                needed = Dependency.parse(text)
                if not any(each.met_by(after.get(each.name)) for each in needed):
                    yield deb, needed
            for other in deb.conflicts:
                if other in after and other != deb.name:
                    yield after[other], None

    def _provider(self, needed: list[Dependency], fixed: dict[str, Deb], forbidden: frozenset[str]) -> Deb | None:
        for each in needed:
            if each.name in forbidden or each.name in fixed:
                continue
            for deb in self._available.get(each.name, ()):
                if each.met_by(deb):
                    return deb
        return None

    def _repair_or_drop(self, after: dict[str, Deb], deb: Deb, forbidden: frozenset[str]) -> None:
        """Another version of a broken package that nobody asked for, else none of it."""
        for other in self._available[deb.name]:
            if other.version != after[deb.name].version and self._holds(other, after) and deb.name not in forbidden:
                after[deb.name] = other
                return
        del after[deb.name]

    @staticmethod
    def _holds(deb: Deb, after: dict[str, Deb]) -> bool:
        alternatives = [Dependency.parse(text) for text in deb.depends]
        met = all(any(each.met_by(after.get(each.name)) for each in needed) for needed in alternatives)
        return met and not any(name in after for name in deb.conflicts)


def _by_dependency(debs: Sequence[Deb]) -> list[Deb]:
    """Those that others depend on first, as far as there is no circle."""
    here = {deb.name: deb for deb in debs}
    done: dict[str, Deb] = {}

    def visit(deb: Deb) -> None:
        if deb.name in done or deb.name not in here:
            return
        del here[deb.name]
        for text in deb.depends:
            for each in Dependency.parse(text):
                if each.name in here:
                    visit(here[each.name])
        done[deb.name] = deb

    for deb in sorted(debs, key=lambda deb: deb.name):
        visit(deb)
    return list(done.values())
