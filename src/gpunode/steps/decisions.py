"""Which driver this host gets, and why: pure decisions from profile, facts and catalogue, shared by the steps."""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.catalog.model import DriverPackages
from gpunode.host.packages.base import Spec
from gpunode.steps.base import Context


@dataclass(frozen=True)
class ModulesChoice:
    """Open or proprietary kernel modules, with the reason."""

    modules: str
    why: str


def gpu_names(context: Context) -> str:
    """The host's GPUs for a person: `1 × NVIDIA H100 80GB HBM3`."""
    names = [context.catalog.gpu_name(gpu.device) for gpu in context.facts.gpus]
    return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names)) or "no NVIDIA GPU"


def driver_version(context: Context) -> str:
    """The exact version: the profile's, the distribution's own, or the newest that the catalogue knows of the branch."""
    driver = context.profile.driver
    if driver.version:
        return driver.version
    distribution = context.facts.distribution
    if driver.source == "distro" and distribution:
        own = distribution.own_driver.get(context.facts.os_version.partition(".")[0], "")
        return own if own.startswith(f"{driver.branch}.") else ""
    branch = context.catalog.branches.get(driver.branch)
    return branch.version if branch else ""


def kernel_modules(context: Context) -> ModulesChoice:
    """Open modules for every GPU that supports them, unless the profile says otherwise."""
    wanted = context.profile.driver.modules
    if wanted != "auto":
        return ModulesChoice(wanted, "the profile says so")
    kinds = {_modules_of(context, gpu.device) for gpu in context.facts.gpus}
    if "proprietary" in kinds:
        return ModulesChoice(
            "proprietary", "a GPU of this host is older than Turing, which the open modules do not drive"
        )
    if "open" in kinds:
        return ModulesChoice("open", "a GPU of this host is driven by the open modules only")
    return ModulesChoice("open", "NVIDIA's default for Turing and newer")


def gpu_refusals(context: Context) -> list[str]:
    """GPUs that the branch or the modules asked for do not drive, with the nearest choice that does."""
    driver, reasons = context.profile.driver, []
    chosen = kernel_modules(context).modules
    for device in dict.fromkeys(gpu.device for gpu in context.facts.gpus):
        generation, name = context.catalog.generation(device), context.catalog.gpu_name(device)
        if generation is None:
            continue
        if generation.last_branch and int(driver.branch) > generation.last_branch:
            nearest = f'driver.branch = "{generation.last_branch}"'
            reasons.append(
                f"branch {driver.branch} does not drive {name} ({generation.name}): {nearest} is the last that does"
            )
        if generation.modules not in ("any", chosen):
            reasons.append(
                f'{chosen} modules do not drive {name} ({generation.name}): driver.modules = "{generation.modules}" does'
            )
    return reasons


def driver_packages(context: Context) -> tuple[Spec, ...]:
    """The packages of the driver, at its version."""
    known = packages_of(context)
    if known is None:
        return ()
    names = known.open if kernel_modules(context).modules == "open" else known.proprietary
    extra = known.persistenced if context.profile.driver.persistenced else ()
    fabric = known.fabric_manager if context.facts.nvswitches else ()
    return tuple(Spec(name, driver_version(context)) for name in (*names, *extra, *fabric))


def packages_of(context: Context) -> DriverPackages | None:
    """What the source is made of for this host's package manager; None when the catalogue has no such thing."""
    distribution = context.facts.distribution
    manager = distribution.manager if distribution else ""
    return context.catalog.driver_packages.get((context.profile.driver.source, manager))


def version_tuple(version: str) -> tuple[int, ...]:
    """`580.65.06` as numbers, for comparing."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def cuda_refusals(context: Context) -> list[str]:
    """A toolkit that needs a newer driver than the one asked for, with the nearest choices."""
    wanted, driver = context.profile.cuda.version, driver_version(context)
    minimum = context.catalog.cuda_minimum(wanted)
    if wanted == "none" or not minimum or not driver or version_tuple(driver) >= version_tuple(minimum):
        return []
    newest = next(
        (branch.cuda for branch in context.catalog.branches.values() if branch.name == driver.partition(".")[0]), ""
    )
    nearest = f'cuda.version = "{newest}"' if newest else "an older toolkit"
    return [
        f"CUDA {wanted} needs driver {minimum} or newer, the profile asks for {driver}: {nearest} fits, or a newer driver.branch"
    ]


def _modules_of(context: Context, device: int) -> str:
    generation = context.catalog.generation(device)
    return generation.modules if generation else "any"
