"""The profile's wishes held against the GPUs, the catalogue and each other: what does not go together, and the nearest choice that does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from gpunode.catalog.model import Branch, Generation
from gpunode.steps import decisions
from gpunode.steps.base import Context

ALTERNATIVES = 2
KEYS = ("branch", "cuda", "modules", "source")
CUDA = "cuda"
"""The codes of reasons that concern the toolkit begin with it."""


@dataclass(frozen=True)
class Reason:
    """Why wishes do not go together: a short code and a clause for a person."""

    code: str
    text: str


def driver_refusals(context: Context) -> list[str]:
    """One line with every reason and the nearest working choice, where a wish about the driver cannot be had."""
    reasons = conflicts(context)
    return [_line(context, reasons)] if any(not each.code.startswith(CUDA) for each in reasons) else []


def cuda_refusals(context: Context) -> list[str]:
    """The same where it is the toolkit alone that does not fit: of a driver that cannot be had, the driver's step speaks."""
    reasons = conflicts(context)
    return [_line(context, reasons)] if reasons and not driver_refusals(context) else []


def conflicts(context: Context) -> list[Reason]:
    """Everything in the profile that does not go together on this host."""
    if context.profile.driver.source == "preinstalled":
        return list(_cuda(context))
    name = context.profile.driver.branch
    branch = context.catalog.branches.get(name)
    if branch is None:
        known = ", ".join(context.catalog.branches)
        return [Reason("branch-unknown", f"driver.branch {name} is not in the catalogue, which knows {known}")]
    return [*_gpus(context, branch), *_modules(context, branch), *_source(context), *_cuda(context)]


def ended(branch: Branch, now: float) -> str:
    """The month in which a branch reached its end of life, as it is known at a time (seconds since the epoch); empty before."""
    month = time.strftime("%Y-%m", time.gmtime(now))
    return branch.ended or (branch.ends if branch.ends and branch.ends < month else "")


def nearest(context: Context) -> str:
    """The smallest change of the profile that has no conflict, as its keys; empty where none is known."""
    for size in range(1, len(KEYS) + 1):
        found = []
        for keys in combinations(KEYS, size):
            fitting = (each for each in _varied(context, keys) if not conflicts(each))
            best = next(fitting, None)
            found += [_changes(context, best)] if best else []
        if found:
            return ", or ".join(found[: ALTERNATIVES if size == 1 else 1])
    return ""


def preferred_branches(context: Context) -> list[Branch]:
    """The branches from the best to the worst for who asked for the profile's: maintained ones first, the nearest first."""
    asked = context.profile.driver.branch

    def worth(branch: Branch) -> tuple[bool, int]:
        return bool(ended(branch, context.facts.now)), abs(int(branch.name) - int(asked))

    return sorted(context.catalog.branches.values(), key=worth)


def recommended(context: Context) -> Context:
    """The context with the recommended branch, or the nearest to it that drives the host's GPUs."""
    start = with_driver(context, branch=context.catalog.recommended.name, version=None)
    tried = (with_driver(start, branch=branch.name) for branch in preferred_branches(start))
    return next((each for each in tried if not conflicts(each)), start)


def with_driver(context: Context, **changes: Any) -> Context:
    """The same host with other values of the profile's `driver` keys."""
    profile = context.profile
    return replace(context, profile=profile.model_copy(update={"driver": profile.driver.model_copy(update=changes)}))


def _line(context: Context, reasons: list[Reason]) -> str:
    choice = nearest(context)
    return "; ".join(each.text for each in reasons) + (f": {choice}" if choice else "")


def _gpus(context: Context, branch: Branch) -> Iterator[Reason]:
    number = int(branch.name)
    for device, generation in decisions.generations(context).items():
        gpu = f"{context.catalog.gpu_name(device)} ({generation.name})"
        if generation.last_branch and number > generation.last_branch:
            yield Reason(
                "branch-too-new",
                f"branch {branch.name} does not drive {gpu}, {generation.last_branch} is the last that does",
            )
        if number < generation.first_branch:
            yield Reason(
                "branch-too-old",
                f"branch {branch.name} does not drive {gpu}, {generation.first_branch} is the first that does",
            )


def _modules(context: Context, branch: Branch) -> Iterator[Reason]:
    chosen = decisions.kernel_modules(context).modules
    known = decisions.generations(context)
    for device, generation in known.items():
        if generation.modules not in ("any", chosen):
            yield Reason(
                f"{chosen}-modules",
                f"{chosen} modules do not drive {context.catalog.gpu_name(device)} ({generation.name})",
            )
    if branch.modules not in ("any", chosen):
        yield Reason(f"no-{chosen}-modules", f"branch {branch.name} has no {chosen} modules")


def _source(context: Context) -> Iterator[Reason]:
    """What the source does not have here: the branch, the kind of modules, the fabric manager."""
    source, name = context.profile.driver.source, context.facts.os_name
    known = decisions.packages_of(context)
    if context.facts.distribution is None:  # refused as a whole, before anything else
        return
    if source == "runfile":
        if decisions.fabric_manager(context).value:
            yield Reason("no-fabric-manager", "the .run installer has no fabric manager, and this host has NVSwitches")
        return
    manager = context.facts.distribution.manager
    if source == "local" and manager != "apt":
        words = f"a bundle is for hosts with apt so far, and {name} has {manager}"
        yield Reason("no-bundle", f"{words}: mirrors inside the site are named by `repositories` in the profile")
        return
    if known is None:
        yield Reason("no-source", f"{_archive(source, name)} has no NVIDIA driver that gpunode knows")
        return
    yield from _own_branches(context)
    if not decisions.main_packages(context, known):
        modules = decisions.kernel_modules(context).modules
        yield Reason(
            "not-in-source",
            f"{_archive(source, name)} has no {modules} modules of branch {context.profile.driver.branch}",
        )
    if decisions.fabric_manager(context).value and not known.fabric_manager:
        yield Reason(
            "no-fabric-manager",
            f"{_archive(source, name)} has no fabric manager that gpunode knows, and this host has NVSwitches",
        )


def _own_branches(context: Context) -> Iterator[Reason]:
    driver, found = context.profile.driver, decisions.distribution(context)
    if driver.source != "distro" or found is None or driver.branch in found.own_branches:
        return
    own = found.own_driver.get(decisions.release(context), "")
    if not own.startswith(f"{driver.branch}."):
        has = (
            f"driver {own}"
            if own
            else f"the branches {', '.join(found.own_branches)}"
            if found.own_branches
            else "none"
        )
        yield Reason("not-in-archive", f"{context.facts.os_name}'s own archive has {has}, not branch {driver.branch}")


def _archive(source: str, name: str) -> str:
    return f"{name}'s own archive" if source == "distro" else f"NVIDIA's repository for {name}"


def _cuda(context: Context) -> Iterator[Reason]:
    wanted, driver = context.profile.cuda.version, decisions.comparable_version(context)
    if wanted == "none":
        return
    minimum = context.catalog.cuda_minimum(wanted)
    if minimum and driver and decisions.version_tuple(driver) < decisions.version_tuple(minimum):
        whose = "the driver here is" if context.profile.driver.source == "preinstalled" else "the profile asks for"
        yield Reason("cuda-minimum", f"CUDA {wanted} needs driver {minimum} or newer, {whose} {driver}")
    for device, generation in decisions.generations(context).items():
        if _dropped(generation, wanted):
            gpu = f"{context.catalog.gpu_name(device)} ({generation.name})"
            yield Reason(
                "cuda-dropped",
                f"CUDA {wanted} compiles nothing for {gpu}, {generation.last_cuda} is the last that does",
            )


def _dropped(generation: Generation, wanted: str) -> bool:
    last = generation.last_cuda
    return bool(last) and decisions.version_tuple(wanted) > decisions.version_tuple(last)


def _varied(context: Context, keys: tuple[str, ...]) -> Iterator[Context]:
    """The context with other values at all of these keys, the best first."""
    for varied in _other_drivers(context, keys):
        if CUDA not in keys:
            yield varied
            continue
        profile, version = varied.profile, decisions.newest_cuda(varied)
        if version and profile.cuda.version not in ("none", version):
            cuda = profile.cuda.model_copy(update={"version": version})
            yield replace(varied, profile=profile.model_copy(update={"cuda": cuda}))


def _other_drivers(context: Context, keys: tuple[str, ...]) -> Iterator[Context]:
    driver = context.profile.driver
    if driver.source == "preinstalled":
        yield from [] if set(keys) - {CUDA} else [context]
        return
    names = [branch.name for branch in preferred_branches(context)]
    branches = (
        [name for name in names if name != driver.branch or driver.version] if "branch" in keys else [driver.branch]
    )
    sources = [each for each in ("nvidia", "runfile") if each != driver.source] if "source" in keys else [driver.source]
    kinds = (
        [each for each in ("open", "proprietary") if each != driver.modules] if "modules" in keys else [driver.modules]
    )
    version = None if "branch" in keys else driver.version
    for branch in branches:
        for source in sources:
            for kind in kinds:
                yield with_driver(context, branch=branch, version=version, source=source, modules=kind)


def _changes(context: Context, found: Context) -> str:
    """What differs between two profiles, as keys of the second."""
    before, after = context.profile.driver, found.profile.driver
    words = [
        f'driver.{key} = "{getattr(after, key)}"'
        for key in ("branch", "modules", "source")
        if getattr(after, key) != getattr(before, key)
    ]
    if after.branch == before.branch and after.version != before.version:
        words.append(f'driver.version = "{decisions.wanted_version(found)}"')
    if found.profile.cuda.version != context.profile.cuda.version:
        words.append(f'cuda.version = "{found.profile.cuda.version}"')
    return " with ".join(words)
