"""Packages at their versions, and holds."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field

from gpunode.errors import HostError, UnknownPackageError
from gpunode.host.bundle import SOURCE
from gpunode.host.machine import FileStat
from gpunode.host.packages import manager_named
from gpunode.host.packages.base import Package, Spec, version_matches
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import Difference, Local
from gpunode.resources.bundle import looked_at

NOT_IN_BUNDLE = "make a bundle with this profile, for this kernel (--kernel) and the state of this host (--status)"


@dataclass(frozen=True)
class PackagesState:
    """The packages that concern the resource, as the database has them, and what would be installed of those that are missing."""

    known: dict[str, Package]
    candidates: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Packages(Local):
    """Packages installed, at a version where one is given. All of them in one transaction.

    `family` are patterns of packages which must, where installed, be at `family_version` too: the driver's libraries move together.
    With `bundle` they come from the bundle at that path and from nowhere else.
    """

    name: str
    manager: str
    specs: tuple[Spec, ...]
    why: str
    family: tuple[str, ...] = ()
    not_family: tuple[str, ...] = ()
    family_version: str = ""
    bundle: str = ""

    @property
    def id(self) -> str:
        """`packages:NAME`."""
        return f"packages:{self.name}"

    def observe(self, host: Reader) -> PackagesState:
        """Those asked for, and those of the family."""
        known = manager_named(self.manager).installed(host)
        names = {spec.name for spec in self.specs}
        return PackagesState(
            {
                name: package
                for name, package in known.items()
                if name in names or (self.family and self._is_family(name))
            }
        )

    def differences(self, state: PackagesState) -> list[Difference]:
        """One for each package that is absent or at another version."""
        found = []
        for spec in self._wanted(state):
            package = state.known.get(spec.name)
            if not spec.satisfied_by(package):
                found.append(
                    Difference(
                        spec.name,
                        _word(package),
                        spec.version or state.candidates.get(spec.name, "installed"),
                        self.why,
                    )
                )
        return found

    def foresee(self, host: Reader, state: PackagesState) -> None:
        """The bundle has what is missing: that it has not is not to be found out halfway. Raises UnknownPackageError."""
        if not self.bundle:
            return
        brought = {each.name: each.version for each in looked_at(host, self.bundle).manifest.packages}
        lacking = [
            f"{spec.name} {spec.version}".rstrip()
            for spec in self._wanted(state)
            if not spec.satisfied_by(state.known.get(spec.name)) and not _brings(brought, spec)
        ]
        if lacking:
            raise UnknownPackageError(
                f"{self.bundle}: the bundle does not have {', '.join(lacking)}", hint=NOT_IN_BUNDLE
            )

    def converge(self, host: Writer, state: PackagesState) -> None:
        """Install, upgrade or downgrade, all at once; where the indices do not know a package, with fresh ones."""
        specs = tuple(self._wanted(state))
        try:
            host.install_packages(self.manager, specs, source=_source(self.bundle))
        except UnknownPackageError as error:
            if self.bundle:  # nothing newer can be fetched
                raise UnknownPackageError(error.message, hint=NOT_IN_BUNDLE, details=error.details) from None
            self._install_by_fresh_indices(host, specs)

    def _install_by_fresh_indices(self, host: Writer, specs: tuple[Spec, ...]) -> None:
        """Somebody else's repository that is broken is no reason to stop; where a package is still unknown, it may be the cause."""
        stale = _refresh(host, self.manager)
        try:
            host.install_packages(self.manager, specs)
        except UnknownPackageError as error:
            if stale is None:
                raise
            message = f"{error.message}; not every index could be fetched anew: {stale.message}"
            raise UnknownPackageError(message, hint=stale.hint, details=stale.details) from None

    def _wanted(self, state: PackagesState) -> list[Spec]:
        asked = {spec.name for spec in self.specs}
        family = [
            Spec(name, self.family_version)
            for name, package in sorted(state.known.items())
            if package.installed and name not in asked and self._is_family(name)
        ]
        return [*self.specs, *family]

    def _is_family(self, name: str) -> bool:
        return matches(name, self.family) and not matches(name, self.not_family)


@dataclass(frozen=True)
class Hold(Local):
    """Packages held at their version: those installed whose names match, `expected` among them."""

    name: str
    manager: str
    patterns: tuple[str, ...]
    expected: tuple[str, ...]
    why: str
    not_patterns: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """`hold:NAME`."""
        return f"hold:{self.name}"

    def observe(self, host: Reader) -> PackagesState:
        """The packages that match."""
        known = manager_named(self.manager).installed(host)
        return PackagesState({name: package for name, package in known.items() if self._concerns(name)})

    def differences(self, state: PackagesState) -> list[Difference]:
        """One for each package that is not held."""
        installed = [name for name, package in state.known.items() if package.installed]
        names = sorted({*installed, *self.expected})
        return [Difference(name, "not held", "held", self.why) for name in names if not self._is_held(state, name)]

    def converge(self, host: Writer, state: PackagesState) -> None:
        """Hold those that are installed."""
        names = [name for name, package in sorted(state.known.items()) if package.installed and not package.held]
        host.hold_packages(self.manager, tuple(names))

    def _concerns(self, name: str) -> bool:
        return name in self.expected or (matches(name, self.patterns) and not matches(name, self.not_patterns))

    @staticmethod
    def _is_held(state: PackagesState, name: str) -> bool:
        return name in state.known and state.known[name].held


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """True when a shell pattern of them takes the name."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _refresh(host: Writer, manager: str) -> HostError | None:
    """Fetch every index anew; the error of one that could not be fetched, whose older copy stays."""
    try:
        with host.refreshing(f"lists:{manager}"):
            return None
    except HostError as error:
        return error


def _brings(brought: dict[str, str], spec: Spec) -> bool:
    return spec.name in brought and version_matches(brought[spec.name], spec.version)


def _source(bundle: str) -> str:
    return SOURCE if bundle else ""


def _word(package: Package | None) -> str:
    if package is None or package.state in ("absent", "config-files"):
        return "absent"
    return package.version if package.installed else f"{package.version} ({package.state})"


@dataclass(frozen=True)
class Program(Local):
    """A program that a package brings, there and executable: packages can be whole in the database and damaged on the disk."""

    path: str
    manager: str
    package: str
    why: str
    bundle: str = ""

    @property
    def id(self) -> str:
        """`program:PATH`."""
        return f"program:{self.path}"

    def observe(self, host: Reader) -> FileStat | None:
        """The file that the path leads to."""
        return host.lstat(host.realpath(self.path))

    def differences(self, state: FileStat | None) -> list[Difference]:
        """Absent, or not executable."""
        if state is None:
            return [Difference("program", "absent", f"there, from {self.package}", self.why)]
        return [] if state.mode & 0o111 else [Difference("mode", f"{state.mode:04o}", "executable", self.why)]

    def converge(self, host: Writer, _state: FileStat | None) -> None:
        """Install the package once more."""
        host.install_packages(self.manager, (), reinstall=(self.package,), source=_source(self.bundle))
