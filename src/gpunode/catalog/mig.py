"""Into what a GPU can be cut by MIG, as `mig.toml` has it from NVIDIA's user guide."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ONCE = "+me"
"""What the name of a profile ends with that a GPU has once: it holds the media engines."""


@dataclass(frozen=True)
class Slice:
    """An instance on a GPU: the places where it may begin, and how many parts of the memory it takes."""

    at: tuple[int, ...]
    takes: int


@dataclass(frozen=True)
class MigGpu:
    """A kind of GPU, and the instances that it can be cut into by their profiles' names (`1g.10gb`)."""

    name: str
    devices: tuple[int, ...]
    profiles: Mapping[str, Slice]

    def most(self, profile: str) -> int:
        """How many instances of a profile it can hold when it holds nothing else. Raises KeyError."""
        return 1 if profile.endswith(ONCE) else len(self.profiles[profile].at)

    def fits(self, layout: Sequence[str]) -> bool:
        """Whether it can hold all these instances at once. Raises KeyError for a profile that it does not have."""
        if sum(name.endswith(ONCE) for name in layout) > 1:
            return False
        # The largest have the fewest places: tried first, they fail first.
        return _place(sorted((self.profiles[name] for name in layout), key=lambda each: -each.takes), frozenset())


def _place(left: list[Slice], taken: frozenset[int]) -> bool:
    """Whether what is left finds its places beside the parts that are taken."""
    if not left:
        return True
    first, *rest = left
    places = (frozenset(range(start, start + first.takes)) for start in first.at)
    return any(_place(rest, taken | place) for place in places if not place & taken)


@cache
def _data() -> Mapping[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("mig.toml").read_text(encoding="utf-8"))


@cache
def open_generations() -> frozenset[str]:
    """Generations with GPUs that MIG can cut and that are not in the catalogue."""
    return frozenset(_data()["open"])


@cache
def mig_gpus() -> tuple[MigGpu, ...]:
    """Every kind of GPU that can be cut."""
    data = _data()
    kinds = {
        name: {kind: Slice(tuple(each["at"]), each["takes"]) for kind, each in table.items()}
        for name, table in data["slices"].items()
    }
    return tuple(
        MigGpu(
            name,
            tuple(int(device, 16) for device in entry["devices"]),
            {profile: kinds[entry["slices"]][kind] for profile, kind in entry["profiles"].items()},
        )
        for name, entry in data["gpus"].items()
    )


def mig_gpu(device: int) -> MigGpu | None:
    """The kind of a PCI device; None for a GPU that MIG cannot cut, or that is not in the catalogue."""
    return next((gpu for gpu in mig_gpus() if device in gpu.devices), None)


@cache
def mig_resources() -> Mapping[str, str]:
    """Every profile's name by the resource that the device plugin offers it as: `nvidia.com/mig-1g.10gb`.

    A resource has no `+` in its name: the plugin writes a dot.
    """
    names = sorted({profile for gpu in mig_gpus() for profile in gpu.profiles})
    return {f"nvidia.com/mig-{name.replace('+', '.')}": name for name in names}
