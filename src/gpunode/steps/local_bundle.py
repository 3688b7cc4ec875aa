"""The bundle as resources, where the profile takes everything from one: it stands in the place of every repository."""

from __future__ import annotations

from gpunode.formats.bundle import Target
from gpunode.resources.base import Resource
from gpunode.resources.bundle import LoadedImages, LocalRepository
from gpunode.steps import decisions
from gpunode.steps.base import Context


def repository(context: Context) -> list[Resource]:
    """The bundle as apt's source; nothing where the profile uses none."""
    wanted, found = context.profile.bundle, path(context)
    if not found:
        return []
    why = "the host takes its packages from this bundle and needs no network"
    return [LocalRepository(found, wanted.fingerprints, wanted.sha256 or "", target(context), why)]


def images(context: Context) -> list[Resource]:
    """The bundle's images in containerd; nothing where the profile uses no bundle."""
    found = path(context)
    if not found:
        return []
    return [LoadedImages(found, context.facts.flavour.ctr, "no registry is reached from this host")]


def path(context: Context) -> str:
    """The bundle that packages come from, and from nowhere else; empty where every source of the host will do."""
    profile = context.profile
    return (profile.bundle.path or "") if profile.driver.source == "local" else ""


def target(context: Context) -> Target:
    """The kind of host that this is, as a bundle names it."""
    facts = context.facts
    family = facts.distribution.name if facts.distribution else facts.os_id
    return Target(family, decisions.release(context), facts.architecture)
