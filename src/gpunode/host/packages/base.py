"""Package managers behind one small interface: apt, dnf and zypper. What the last two share is in rpm.py, dnf's two dialects in dnf4.py and
dnf5.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gpunode.host.machine import Machine, OnLine
from gpunode.host.reader import Reader


@dataclass(frozen=True)
class Package:
    """A package as the host's database has it. `state` is `installed`, `config-files` or another word for a state in between.

    One that is `torn` was cut short while it was unpacked or removed: some of its files are missing.
    """

    name: str
    version: str
    state: str
    auto: bool
    held: bool
    torn: bool = False

    @property
    def installed(self) -> bool:
        """True when it is there, whole."""
        return self.state == "installed"


@dataclass(frozen=True)
class Spec:
    """A package wanted, by name, at any version or one that begins with `version` at a boundary (see `version_matches`), or `exact`ly."""

    name: str
    version: str = ""
    exact: bool = False

    def satisfied_by(self, package: Package | None) -> bool:
        """True when the package is installed at a version that will do."""
        return package is not None and package.installed and version_matches(package.version, self.version)


@dataclass(frozen=True)
class Change:
    """One package of a transaction: from `before` to `after`, either empty when absent."""

    name: str
    before: str
    after: str


class PackageManager(Protocol):
    """What gpunode needs of a package manager."""

    name: str
    programs: tuple[str, ...]
    """Names of the processes that change packages."""

    def refusal(self, reader: Reader) -> str:
        """Why gpunode cannot drive it on this host, with what helps; empty where it can."""

    def installed(self, reader: Reader) -> dict[str, Package]:
        """Every package the database knows, by name, in one query."""

    def candidates(self, reader: Reader, names: Sequence[str]) -> dict[str, str]:
        """The versions that would be installed now, by name; a package that no index has is not in it."""

    def simulate(
        self,
        reader: Reader,
        *,
        install: Sequence[Spec] = (),
        purge: Sequence[str] = (),
        reinstall: Sequence[str] = (),
        override_holds: bool = False,
    ) -> list[Change]:
        """What the transaction would do. Raises HostError with the manager's own words when it cannot be done."""

    def install(
        self, machine: Machine, *, install: Sequence[Spec], reinstall: Sequence[str] = (), on_line: OnLine
    ) -> None:
        """Install, upgrade or downgrade; nothing is removed. Raises HostError."""

    def restore(
        self, machine: Machine, *, install: Sequence[Spec], remove: Sequence[str], purge: Sequence[str], on_line: OnLine
    ) -> None:
        """Versions back and packages gone in one transaction, so that none stands in another's way. Raises HostError."""

    def repair(self, machine: Machine, reader: Reader, on_line: OnLine) -> None:
        """Bring to an end what an interrupted transaction left half-done."""

    def set_hold(self, machine: Machine, names: Sequence[str], *, held: bool) -> None:
        """Keep packages from being upgraded, or let them go."""

    def set_auto(self, machine: Machine, names: Sequence[str], *, auto: bool) -> None:
        """Mark packages as installed automatically, or by hand."""

    def refresh_lists(self, machine: Machine, on_line: OnLine, source: str = "") -> None:
        """Fetch the indices of one source file, or of all. Raises HostError when one fails; the others are fetched even so."""

    def install_scripts(self, reader: Reader, names: Sequence[str]) -> list[str]:
        """The texts of what the packages ran when they were installed: users that are made are named there."""

    def files(self, reader: Reader, names: Sequence[str]) -> list[str]:
        """Paths that the packages brought."""

    def release_command(self, names: Sequence[str]) -> str:
        """What a person types to let go of held packages."""

    def removal_command(self, names: Sequence[str]) -> str:
        """What a person types to remove packages."""


def version_matches(version: str, wanted: str) -> bool:
    """True when `version` is `wanted` or begins with it at a boundary: not `580.1` for `580.126`."""
    if not wanted or version == wanted:
        return True
    bare = version.partition(":")[2] or version
    return bare.startswith(wanted) and not bare[len(wanted) : len(wanted) + 1].isalnum()
