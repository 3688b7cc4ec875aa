"""What apt would do: from the packages there and those wanted to the packages there afterwards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from memory.packages import VERSION_KEY, Deb, Dependency, matches, parse

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
    """Finds a plan as apt's own resolver would in simple cases.

    Only a package's candidate is ever chosen for it: the version pinned, else the highest. Other versions must be asked for by name.
    """

    def __init__(self, installed: dict[str, Deb], available: Iterable[Deb], pins: Mapping[str, str]) -> None:
        self._before = installed
        self._pins = pins
        self._available: dict[str, list[Deb]] = {}
        for deb in [*installed.values(), *available]:
            offers = self._available.setdefault(deb.name, [])
            if all(deb.version != other.version for other in offers):
                offers.append(deb)
        for offers in self._available.values():
            offers.sort(key=lambda deb: VERSION_KEY(deb.version), reverse=True)

    def solve(
        self, install: Sequence[str], remove: Sequence[str] = (), *, again: Collection[str] = (), fix: bool = False
    ) -> Plan:
        """The plan for `name`, `name=version` words; `again` are laid down once more. Raises AptError."""
        after = dict(self._before)
        fixed: dict[str, Deb] = {}
        for word in install:
            name, _, pattern = word.partition("=")
            after[name] = fixed[name] = self._choose(name, pattern, stay=name in again)
        for name in remove:
            self._require_known(name)
            after.pop(name, None)
        if not fix:
            self._refuse_broken(after)
        self._settle(after, fixed, frozenset(remove))
        return Plan(self._before, after, {name for name in again if after.get(name) is self._before.get(name)})

    def _refuse_broken(self, after: dict[str, Deb]) -> None:
        """What was broken before must be mended by what was asked for: apt does not do it by the way."""
        was = {deb.name for deb, _ in self._broken(self._before)}
        if any(deb.name in was and deb is self._before.get(deb.name) for deb, _ in self._broken(after)):
            raise AptError(
                "Unmet dependencies. Try 'apt --fix-broken install' with no packages (or specify a solution)."
            )

    def _require_known(self, name: str) -> None:
        if name not in self._available:
            raise AptError(f"Unable to locate package {name}")

    def _candidate(self, name: str) -> Deb | None:
        offers = self._available.get(name, [])
        pinned = [deb for deb in offers if name in self._pins and matches(deb.version, self._pins[name])]
        return next(iter(pinned or offers), None)

    def _choose(self, name: str, pattern: str, *, stay: bool) -> Deb:
        self._require_known(name)
        here = self._before.get(name)
        if not pattern:
            return here if stay and here else self._candidate(name) or self._available[name][0]
        offers = [deb for deb in self._available[name] if matches(deb.version, pattern)]
        if not offers:
            raise AptError(f"Version '{pattern}' for '{name}' was not found")
        return here if here and here.version == offers[0].version else offers[0]

    def _settle(self, after: dict[str, Deb], fixed: dict[str, Deb], forbidden: frozenset[str]) -> None:
        tried: set[str] = set()
        dropped = set(forbidden)
        for _ in range(ROUNDS):
            broken = next(self._broken(after), None)
            if broken is None:
                return
            deb, needed = broken
            found = self._provider(needed, fixed, dropped)
            candidate = self._candidate(deb.name)
            if found:
                after[found.name] = found
            elif deb.name in fixed:
                raise AptError("Unable to correct problems, you have held broken packages.")
            elif needed and candidate and deb.name not in tried and candidate.version != deb.version:
                tried.add(deb.name)
                after[deb.name] = candidate
            else:
                del after[deb.name]
                dropped.add(deb.name)
        raise AptError("Error, pkgProblemResolver::Resolve generated breaks, this may be caused by held packages.")

    @staticmethod
    def _broken(after: dict[str, Deb]) -> Iterator[tuple[Deb, list[Dependency]]]:
        """Packages whose dependencies are not met, each with those; and those that another conflicts with."""
        for deb in sorted(after.values(), key=lambda deb: deb.name):
            for text in deb.depends:
                needed = parse(text)
                if not any(each.met_by(after.get(each.name)) for each in needed):
                    yield deb, needed
            for other in deb.conflicts:
                if other in after and other != deb.name:
                    yield after[other], []

    def _provider(self, needed: list[Dependency], fixed: dict[str, Deb], dropped: Collection[str]) -> Deb | None:
        for each in needed:
            candidate = self._candidate(each.name)
            if each.name not in dropped and each.name not in fixed and each.met_by(candidate):
                return candidate
        return None


def _by_dependency(debs: Sequence[Deb]) -> list[Deb]:
    """Those that others depend on first, as far as there is no circle."""
    here = {deb.name: deb for deb in debs}
    done: dict[str, Deb] = {}

    def visit(deb: Deb) -> None:
        if deb.name in done or deb.name not in here:
            return
        del here[deb.name]
        for text in deb.depends:
            for each in parse(text):
                if each.name in here:
                    visit(here[each.name])
        done[deb.name] = deb

    for deb in sorted(debs, key=lambda deb: deb.name):
        visit(deb)
    return list(done.values())
