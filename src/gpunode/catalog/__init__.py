"""What is known about the world, as data: distributions, drivers, repositories and keys, GPUs, Kubernetes distributions.

`load()` reads the TOML files of this package; a site adds to them or overrides single fields by `/etc/gpunode/catalog.d/*.toml`,
whose tables are named `[<file>.<entry>]`, for example `[repositories.cuda-apt]`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from functools import cache
from importlib import resources
from typing import Any, TypeVar

from gpunode.catalog.model import (
    CONDITIONS,
    Branch,
    Build,
    Catalog,
    Distribution,
    DriverManager,
    DriverPackages,
    Flavour,
    Generation,
    Note,
    Repository,
    Toolkit,
)
from gpunode.catalog.runfiles import CudaRelease, CudaRunfile, Runfile
from gpunode.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["SITE_FOLDER", "Catalog", "load"]

SITE_FOLDER = "/etc/gpunode/catalog.d"
FILES = ("distributions", "drivers", "repositories", "gpus", "cuda", "toolkit", "flavours")
Table = dict[str, Any]
T = TypeVar("T")


def load(overlays: Iterable[tuple[str, str]] = ()) -> Catalog:
    """The catalogue, with a site's own files (name, text) laid over it. Raises UsageError naming file, table and key."""
    data = _shipped()
    names = []
    for name, text in overlays:
        names.append(name)
        try:
            data = _merged(data, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{name}: {error}") from None
        unknown = sorted(set(data) - set(FILES))
        if unknown:
            raise UsageError(
                f"{name}: unknown table [{unknown[0]}]", hint=f"tables begin with one of: {', '.join(FILES)}"
            )
    try:
        return _catalog(data)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"the catalogue cannot be used with {', '.join(names)}: {type(error).__name__} {error}",
            hint="an entry there lacks a key, or has a value of another kind than the catalogue's own entries",
        ) from None


@cache
def _shipped() -> Table:
    """This package's own tables; never changed by those who read them."""
    return {name: tomllib.loads(_text(f"{name}.toml")) for name in FILES}


def _catalog(data: Table) -> Catalog:
    drivers, repositories = data["drivers"], data["repositories"]
    return Catalog(
        distributions={name: _distribution(entry, name) for name, entry in data["distributions"].items()},
        branches={name: _entry(Branch, entry, name) for name, entry in drivers["branches"].items()},
        driver_packages={
            (source, manager): _driver_packages(entry, f"packages.{source}.{manager}")
            for source, managers in drivers["packages"].items()
            for manager, entry in managers.items()
        },
        runfile=_entry(Runfile, {**drivers["runfile"], "sha256": {"x86_64": _pairs("runfile-sha256.tsv")}}, "runfile"),
        repositories={
            name: _entry(Repository, entry, name) for name, entry in repositories.items() if name != "revoked"
        },
        revoked={entry["fingerprint"]: name for name, entry in repositories.get("revoked", {}).items()},
        generations=tuple(_generation(entry) for entry in data["gpus"]["generations"]),
        gpu_names={int(device, 16): name for device, name in _pairs("open-module-gpus.tsv").items()},
        cuda_minimums={entry["cuda"]: entry["minimum"] for entry in data["cuda"]["minimums"]},
        cuda_packages={manager: tuple(names) for manager, names in data["cuda"]["packages"].items()},
        cuda_runfile=_cuda_runfile(data["cuda"]["runfile"]),
        toolkit=_entry(Toolkit, data["toolkit"], "toolkit"),
        flavours={name: _entry(Flavour, entry, name) for name, entry in data["flavours"].items()},
        managers={name: _entry(DriverManager, entry, name) for name, entry in drivers["managers"].items()},
        notes=tuple(_entry(Note, entry, name) for name, entry in drivers["notes"].items()),
        build=_entry(Build, drivers["build"], "build"),
        unattended={manager: tuple(patterns) for manager, patterns in drivers["unattended"].items()},
    )


def _distribution(entry: Table, name: str) -> Distribution:
    releases = entry.get("releases", {}) if isinstance(entry, Mapping) else {}
    overrides = {
        release: _overrides(Distribution, keys, f"{name}.releases.{release}") for release, keys in releases.items()
    }
    return replace(_entry(Distribution, entry, name), releases=overrides)


def _driver_packages(entry: Table, name: str) -> DriverPackages:
    rules = entry.get("when", {}) if isinstance(entry, Mapping) else {}
    overrides = {
        rule: _overrides(DriverPackages, keys, f"{name}.when.{rule}", CONDITIONS) for rule, keys in rules.items()
    }
    return replace(_entry(DriverPackages, entry, name), when=overrides)


def _cuda_runfile(entry: Table) -> CudaRunfile:
    releases = {
        version: _entry(CudaRelease, each, f"runfile.releases.{version}") for version, each in entry["releases"].items()
    }
    prerequisites = {manager: tuple(names) for manager, names in entry["prerequisites"].items()}
    return _entry(CudaRunfile, {**entry, "releases": releases, "prerequisites": prerequisites}, "runfile")


def _generation(entry: Table) -> Generation:
    found = _entry(Generation, entry, entry["name"])
    return replace(
        found,
        ranges=tuple((int(first, 16), int(last, 16)) for first, last in entry["ranges"]),
        example=int(entry.get("example", "0"), 16),
        names={int(device, 16): name for device, name in entry.get("names", {}).items()},
    )


def _overrides(kind: type[Any], keys: Mapping[str, Any], name: str, conditions: tuple[str, ...] = ()) -> Table:
    """Some fields of a dataclass, from a table: lists become tuples. Raises UsageError for a key that is none."""
    known = {field.name for field in fields(kind)} | set(conditions)
    unknown = sorted(set(keys) - known)
    if unknown:
        raise UsageError(
            f"catalogue entry [{name}]: unknown key {unknown[0]}", hint=f"known: {', '.join(sorted(known))}"
        )
    return {key: tuple(value) if isinstance(value, list) else value for key, value in keys.items()}


def _entry(kind: type[T], entry: Mapping[str, Any], name: str) -> T:
    """A dataclass from a table: lists become tuples. Raises UsageError for a key too many or too few."""
    if not isinstance(entry, Mapping):
        raise UsageError(f"catalogue entry [{name}]: wants a table, not {entry!r}")
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # every kind here is a dataclass
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    values.update({"name": name} if "name" in known else {})
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(
            f"catalogue entry [{name}]: unknown key {unknown[0]}", hint=f"known: {', '.join(sorted(known))}"
        )
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"catalogue entry [{name}]: {error}") from None


def _merged(base: Table, over: Table) -> Table:
    """`over` laid over `base`: tables by key, everything else replaced."""
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        result[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result


@cache
def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _pairs(name: str) -> dict[str, str]:
    """The first two columns of a table; of several rows with the same first column, the first."""
    rows = [line.split("\t") for line in _text(name).splitlines()[1:]]
    return {row[0]: row[1] for row in reversed(rows)}
