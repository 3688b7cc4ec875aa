"""What dnf and zypper share: rpm's database read by one query, versions compared as rpm does, keys, half-done transactions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cmp_to_key

from gpunode.errors import CommandError, UnknownPackageError
from gpunode.host.machine import Machine, OnLine
from gpunode.host.packages.base import Package, Spec, version_matches
from gpunode.host.reader import Reader

FIELDS = "%{NAME}|%{EPOCHNUM}|%{VERSION}|%{RELEASE}|%{ARCH}|%{DBINSTANCE}\\n"
QUERY = ("rpm", "--query", "--all", f"--queryformat={FIELDS}")
KEY_FIELDS = "%{NAME}-%{VERSION}-%{RELEASE}|%{VERSION}\\n"
KEY = "gpg-pubkey"
ERASE_SECONDS = 900.0

# Packages of which several versions stay side by side: a kernel is added, never replaced.
INSTALLONLY = re.compile(r"kernel[\d.]*(-|$)")


@dataclass(frozen=True)
class Rpm:
    """A package of the database or of a repository. `version` is `epoch:version-release`, without an epoch of 0.

    `instance` counts up with every package that is written to the database.
    """

    name: str
    version: str
    architecture: str = ""
    instance: int = 0

    @property
    def bare(self) -> str:
        """`name-version-release`, without the epoch, as `rpm --erase` and kernels' releases have it."""
        return f"{self.name}-{self.version.rpartition(':')[2]}"

    def answers_to(self, word: str) -> bool:
        """True when the word is its name, with or without version and architecture."""
        return word in (self.name, self.bare, f"{self.bare}.{self.architecture}")


class Database:
    """What dnf and zypper answer alike, by rpm's database."""

    def install_scripts(self, reader: Reader, names: Sequence[str]) -> list[str]:
        """The scripts in rpm's database."""
        return install_scripts(reader, names)

    def files(self, reader: Reader, names: Sequence[str]) -> list[str]:
        """The files in rpm's database."""
        return files(reader, names)


def installed(reader: Reader) -> list[Rpm]:
    """Every package of the host's own architecture, in the order in which they were installed. One query, remembered.

    Raises CommandError when the database cannot be read.
    """
    output = reader.query_once(QUERY)
    if not output.ok:
        raise CommandError("rpm's database cannot be read", details=output.last_words())
    native = (reader.architecture(), "noarch")
    rows = [line.split("|") for line in output.stdout.splitlines() if line.count("|") == 5]
    found = [
        Rpm(name, with_epoch(epoch, version, release), architecture, int(instance))
        for name, epoch, version, release, architecture, instance in rows
        if name != KEY and architecture in native
    ]
    return sorted(found, key=lambda rpm: rpm.instance)


def with_epoch(epoch: str, version: str, release: str) -> str:
    """`epoch:version-release`; an epoch of 0 is left out."""
    return f"{version}-{release}" if epoch in ("", "0", "(none)") else f"{epoch}:{version}-{release}"


def packages(rpms: Iterable[Rpm], auto: frozenset[str], is_held: Callable[[Rpm], bool]) -> dict[str, Package]:
    """The database by name. Of several kernels the newest has the name, and each is there by its full name too.

    Two versions of any other package are what an interrupted upgrade leaves: half-installed.
    """
    found: dict[str, Package] = {}
    for rpm in rpms:
        aside = bool(INSTALLONLY.match(rpm.name))
        state = "installed" if aside or rpm.name not in found else "half-installed"
        package = Package(rpm.name, rpm.version, state, rpm.name in auto, is_held(rpm))
        full = (rpm.bare, f"{rpm.bare}.{rpm.architecture}") if aside else ()
        found.update(dict.fromkeys((rpm.name, *full), package))
    return found


def name_in_change(known: Sequence[Rpm], rpm: Rpm, *, comes: bool) -> str:
    """The package's name, or its full one where another version of a kernel's package stands beside it."""
    beside = sum(each.name == rpm.name for each in known) > (0 if comes else 1)
    return f"{rpm.bare}.{rpm.architecture}" if beside and INSTALLONLY.match(rpm.name) else rpm.name


def superfluous(rpms: Sequence[Rpm]) -> list[Rpm]:
    """The older halves of interrupted upgrades and downgrades: the one that came last is the one that was wanted."""
    last = {rpm.name: rpm for rpm in rpms}
    return [rpm for rpm in rpms if last[rpm.name] is not rpm and not INSTALLONLY.match(rpm.name)]


def repair(machine: Machine, reader: Reader, on_line: OnLine) -> None:
    """Erase what an interrupted transaction had replaced and not removed. Raises CommandError."""
    # Their files are the newer ones' by now, so rpm keeps those; nothing depends on just these versions any more.
    erase(machine, reader, superfluous(installed(reader)), on_line)


def erase(machine: Machine, reader: Reader, rpms: Sequence[Rpm], on_line: OnLine) -> None:
    """Take just these packages out, whatever depends on them. Raises CommandError."""
    left = [f"{rpm.bare}.{rpm.architecture}" for rpm in rpms]
    if not left:
        return
    output = machine.run(["rpm", "--erase", "--nodeps", *left], timeout=ERASE_SECONDS, on_line=on_line)
    reader.forget()
    if not output.ok:
        raise CommandError(f"rpm cannot remove {', '.join(left)}", details=output.last_words())


def resolve_installed(spec: Spec, known: Sequence[Rpm]) -> Rpm | None:
    """The installed package that satisfies a spec; None when none does."""
    return next((rpm for rpm in known if rpm.answers_to(spec.name) and _fits(rpm, spec)), None)


def resolve(spec: Spec, offers: Sequence[Rpm]) -> Rpm:
    """The package of the offers that a spec asks for, the newest that will do. Raises UnknownPackageError naming those there are."""
    named = [rpm for rpm in offers if rpm.answers_to(spec.name)]
    if not named:
        raise UnknownPackageError(
            f"no repository has the package {spec.name}",
            hint="is its repository enabled, and its module's stream? see driver.branch, cuda.version in the profile",
        )
    fitting = [rpm for rpm in named if _fits(rpm, spec)]
    if not fitting:
        there = ", ".join(dict.fromkeys(rpm.version for rpm in newest_first(named)))
        raise UnknownPackageError(
            f"no repository has {spec.name} {spec.version}", hint=f"of {spec.name} there is: {there}"
        )
    return newest_first(fitting)[0]


def _fits(rpm: Rpm, spec: Spec) -> bool:
    return rpm.version == spec.version if spec.exact else version_matches(rpm.version, spec.version)


def newest_first(rpms: Iterable[Rpm]) -> list[Rpm]:
    """The highest version first."""
    return sorted(rpms, key=lambda rpm: VERSION_KEY(rpm.version), reverse=True)


def newest(offers: Sequence[Rpm], names: Iterable[str]) -> dict[str, str]:
    """The highest version of each name; a name that nothing answers to is not in it."""
    found = {name: newest_first(rpm for rpm in offers if rpm.answers_to(name)) for name in names}
    return {name: rpms[0].version for name, rpms in found.items() if rpms}


def compare(one: str, other: str) -> int:
    """Negative, 0 or positive, as rpm orders two `epoch:version-release`."""
    for part, counterpart in zip(_parts(one), _parts(other), strict=True):
        order = _compare_part(part, counterpart)
        if order:
            return order
    return 0


VERSION_KEY = cmp_to_key(compare)
"""A sort key for `epoch:version-release`."""


def _parts(text: str) -> tuple[str, str, str]:
    epoch, _, rest = text.rpartition(":")
    version, _, release = rest.rpartition("-")
    return epoch or "0", version or release, release if version else ""


def _compare_part(one: str, other: str) -> int:
    """Digits as numbers, letters as text, separators as nothing; `~` sorts before the end, `^` after it and before all else."""
    segments = [re.findall(r"\d+|[a-zA-Z]+|~|\^", text) for text in (one, other)]
    for at in range(max(map(len, segments))):
        mine, theirs = (parts[at] if at < len(parts) else "" for parts in segments)
        if mine != theirs:
            order = (_rank(mine) > _rank(theirs)) - (_rank(mine) < _rank(theirs))
            if order:
                return order
    return 0


def _rank(segment: str) -> tuple[int, int, str]:
    """Where a segment stands among all others at its place."""
    if segment in ("~", "", "^"):
        return ("~", "", "^").index(segment), 0, ""
    return (4, int(segment), "") if segment.isdigit() else (3, 0, segment)


def keys(reader: Reader) -> dict[str, str]:
    """The signing keys that rpm trusts: the name of the key's entry and its id in lower-case hex, of 8 digits or more."""
    output = reader.query_once(["rpm", "--query", KEY, f"--queryformat={KEY_FIELDS}"])
    rows = [line.split("|") for line in output.stdout.splitlines() if line.count("|") == 1]
    return dict(rows) if output.ok else {}  # it fails, saying so, when there is no key at all


def trusts(reader: Reader, fingerprint: str) -> list[str]:
    """The entries of rpm's database that hold the key of this fingerprint."""
    return [name for name, key_id in keys(reader).items() if fingerprint.lower().endswith(key_id)]


def import_key(machine: Machine, path: str) -> None:
    """`rpmkeys --import`. Raises CommandError."""
    output = machine.run(["rpmkeys", "--import", path])
    if not output.ok:
        raise CommandError(f"rpm does not take the key {path}", details=output.last_words())


def erase_keys(machine: Machine, names: Sequence[str]) -> None:
    """Take keys out of rpm's database. Raises CommandError."""
    output = machine.run(["rpm", "--erase", "--allmatches", *names])
    if not output.ok:
        raise CommandError(f"rpm cannot remove the key {', '.join(names)}", details=output.last_words())


def install_scripts(reader: Reader, names: Sequence[str]) -> list[str]:
    """What the packages run when they are installed and removed."""
    return [reader.query(["rpm", "--query", "--scripts", *names]).stdout] if names else []


def files(reader: Reader, names: Sequence[str]) -> list[str]:
    """Paths that the packages brought."""
    return reader.query(["rpm", "--query", "--list", *names]).stdout.splitlines() if names else []


def require(rpms: Sequence[Rpm], wanted: Iterable[Rpm], words: str, details: tuple[str, ...]) -> None:
    """Raise CommandError when a package is not at the version that it was brought to: success reported is not success."""
    there = {(rpm.name, rpm.version) for rpm in rpms}
    missing = [f"{rpm.name} {rpm.version}" for rpm in wanted if (rpm.name, rpm.version) not in there]
    if missing:
        raise CommandError(f"{words} reported success without installing {', '.join(missing)}", details=details)


def repository_ids(text: str) -> list[str]:
    """The names of the repositories in a .repo file."""
    return re.findall(r"^\[([^\]]+)\]", text, re.MULTILINE)
