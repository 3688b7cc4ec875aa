"""What a step is: a declaration. From profile and facts to resources, without any reading or writing of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpunode.catalog.model import Catalog
from gpunode.host.facts import Facts
from gpunode.resources.base import Resource

if TYPE_CHECKING:  # pydantic is loaded by whoever has a profile
    from gpunode.profile.model import HostProfile


@dataclass(frozen=True)
class Context:
    """All that a step may know."""

    profile: HostProfile
    facts: Facts
    catalog: Catalog


def _nothing(_context: Context) -> list[str]:
    return []


def _not_skipped(_context: Context) -> str:
    return ""


@dataclass(frozen=True)
class Step:
    """A step of the main job.

    `after` names the steps it stands on. `refusals` are reasons not to begin at all, one sentence each, with the nearest
    working choice. `skipped` says why there is nothing to do here on this host. `notes` are for a person to read.
    """

    name: str
    title: str
    resources: Callable[[Context], list[Resource]]
    after: tuple[str, ...] = ()
    refusals: Callable[[Context], list[str]] = _nothing
    notes: Callable[[Context], list[str]] = _nothing
    skipped: Callable[[Context], str] = _not_skipped
