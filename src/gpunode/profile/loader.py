"""From the bytes of a profile to a checked model that knows where each of its values comes from."""

from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from gpunode.profile.errors import Problem, ProfileError
from gpunode.profile.layout import leaves, value_at
from gpunode.profile.model import HostProfile
from gpunode.profile.positions import Positions
from gpunode.profile.problems import problems
from gpunode.profile.text import dotted, toml_value
from gpunode.profile.toml import decode, read_toml


@dataclass(frozen=True)
class Origin:
    """Where a value comes from: the profile's file, at a line that counts from 1, or the model's default."""

    source: Literal["file", "default"]
    line: int | None = None

    def __str__(self) -> str:
        return f"line {self.line}" if self.source == "file" else "default"


@dataclass(frozen=True)
class LoadedProfile:
    """A profile, the name its file was given by, and the origin of each value by dotted key."""

    name: str
    profile: HostProfile
    origins: dict[str, Origin]


def load(text: bytes, name: str) -> LoadedProfile:
    """Read and check a profile. ``name`` is the file's name as the operator knows it, for messages.

    Raises ``ProfileError`` with every mistake: one where the text cannot be read, all of them where it can.
    """
    try:
        document = decode(text, name)
        data = read_toml(document, name)
        positions = Positions(document)
    except RecursionError:
        raise ProfileError(name, [Problem(0, 0, "", "lists or tables are nested too deeply")]) from None
    try:
        profile = HostProfile.model_validate(data)
    except ValidationError as error:
        raise ProfileError(name, problems(data, error, positions)) from None
    return LoadedProfile(name, profile, _origins(positions))


def show(loaded: LoadedProfile) -> list[tuple[str, str, str]]:
    """The whole profile as rows (key, value as TOML or ``unset``, ``line 4`` or ``default``) in the model's order."""
    rows = []
    for path, _ in leaves():
        key = dotted(path)
        rows.append((key, toml_value(value_at(loaded.profile, path)), str(loaded.origins[key])))
    return rows


def _origins(positions: Positions) -> dict[str, Origin]:
    origins = {}
    for path, _ in leaves():
        place = positions.exact(path)
        origins[dotted(path)] = Origin("file", place.line) if place else Origin("default")
    return origins
