"""Which driver this host gets, and why: pure decisions from profile, facts and catalogue, shared by the steps.

What cannot be had is told by `decisions_wishes` (the profile's wishes against each other) and `decisions_host` (what the host lacks).
"""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.catalog.model import Distribution, DriverPackages, Generation
from gpunode.host.driver_facts import DriverFacts
from gpunode.host.packages.base import Spec
from gpunode.steps.base import Context


@dataclass(frozen=True)
class Choice:
    """What was decided, and the reason."""

    value: str
    why: str


@dataclass(frozen=True)
class ModulesChoice:
    """Open or proprietary kernel modules, with the reason."""

    modules: str
    why: str


def driver_facts(context: Context) -> DriverFacts:
    """What was read of the host for the choice of a driver; an empty one where nobody did."""
    found = context.facts.around_driver
    return found or DriverFacts()


def release(context: Context) -> str:
    """The distribution's release by its name in the catalogue; empty for an unknown distribution or release."""
    facts = context.facts
    return facts.distribution.release(facts.os_version, driver_facts(context).codename) if facts.distribution else ""


def distribution(context: Context) -> Distribution | None:
    """The host's distribution as it is at the host's release."""
    found = context.facts.distribution
    return found.at(release(context)) if found else None


def gpu_names(context: Context) -> str:
    """The host's GPUs for a person: `1 × NVIDIA H100 80GB HBM3`."""
    names = [context.catalog.gpu_name(gpu.device) for gpu in context.facts.gpus]
    return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names)) or "no NVIDIA GPU"


def generations(context: Context) -> dict[int, Generation]:
    """The host's GPUs whose generation is known, each device once."""
    found = ((gpu.device, context.catalog.generation(gpu.device)) for gpu in context.facts.gpus)
    return {device: generation for device, generation in found if generation}


def driver_version(context: Context) -> str:
    """The exact version: the profile's, the distribution's own, or the newest that the catalogue knows of the branch.

    Empty where it moves with the distribution's updates, and where the source does not have the branch.
    """
    driver = context.profile.driver
    if driver.version:
        return driver.version
    if driver.source == "distro":
        found = distribution(context)
        own = found.own_driver.get(release(context), "") if found else ""
        return own if own.startswith(f"{driver.branch}.") else ""
    branch = context.catalog.branches.get(driver.branch)
    return branch.version if branch else ""


def wanted_version(context: Context) -> str:
    """The exact version, or the branch where its newest is taken as the archive has it."""
    return driver_version(context) or context.profile.driver.branch


def comparable_version(context: Context) -> str:
    """A version to hold against a minimum: the exact one, or the newest known of the branch; of a preinstalled driver, its own."""
    if context.profile.driver.source == "preinstalled":
        return context.facts.driver.version if context.facts.driver else ""
    branch = context.catalog.branches.get(context.profile.driver.branch)
    return driver_version(context) or (branch.version if branch else "")


def kernel_modules(context: Context) -> ModulesChoice:
    """Open modules for every GPU that supports them, unless the profile says otherwise or the branch has none."""
    wanted = context.profile.driver.modules
    if wanted != "auto":
        return ModulesChoice(wanted, "the profile says so")
    kinds = {generation.modules for generation in generations(context).values()}
    if "proprietary" in kinds:
        return ModulesChoice(
            "proprietary", "a GPU of this host is older than Turing, which the open modules do not drive"
        )
    if "open" in kinds:
        return ModulesChoice("open", "a GPU of this host is driven by the open modules only")
    branch = context.catalog.branches.get(context.profile.driver.branch)
    if branch and branch.modules == "proprietary":
        return ModulesChoice("proprietary", f"branch {branch.name} has no open modules")
    return ModulesChoice("open", "NVIDIA's default for Turing and newer")


def archive(context: Context) -> str:
    """Whose packages the source has, as the catalogue calls it: a bundle carries NVIDIA's."""
    source = context.profile.driver.source
    return "nvidia" if source == "local" else source


def packages_of(context: Context) -> DriverPackages | None:
    """What the source is made of on this host; None when the catalogue has no such thing."""
    found, driver = context.facts.distribution, context.profile.driver
    return context.catalog.packages(archive(context), found, release(context), driver.branch) if found else None


def build(context: Context) -> Choice:
    """How the kernel modules come about: `precompiled`, `dkms`, or empty where nobody here makes them."""
    source, known, found = context.profile.driver.source, packages_of(context), distribution(context)
    if source == "preinstalled" or found is None:
        return Choice("", "who brought the driver looks after its modules")
    flavour = found.kernel_parts(context.facts.kernel).get("flavour", "")
    if known and _of_kind(context, known.precompiled_open, known.precompiled_proprietary):
        if flavour in found.precompiled:
            return Choice(
                "precompiled",
                f"the archive has the modules for {flavour} kernels, built and signed: nothing is built here",
            )
        return Choice(
            "dkms", f"the archive has no modules for the kernel {context.facts.kernel}: DKMS builds them here"
        )
    return Choice("dkms", f"DKMS builds the modules here for each kernel, now {context.facts.kernel}")


def driver_packages(context: Context) -> tuple[Spec, ...]:
    """The packages of the driver, at its version."""
    known = packages_of(context)
    if known is None:
        return ()
    names = main_packages(context, known)
    extra = known.persistenced if context.profile.driver.persistenced else ()
    fabric = known.fabric_manager if fabric_manager(context).value else ()
    return tuple(_spec(context, template) for template in (*names, *extra, *fabric))


def main_packages(context: Context, known: DriverPackages) -> tuple[str, ...]:
    """Templates of the packages with modules and libraries; empty where the source has none of the kind."""
    if build(context).value == "precompiled":
        return _of_kind(context, known.precompiled_open, known.precompiled_proprietary)
    return _of_kind(context, known.open, known.proprietary)


def module_stream(context: Context) -> str:
    """The stream of dnf's module that has the branch and the kind of modules; empty where there are no streams."""
    known = packages_of(context)
    stream = (known.stream_open if _is_open(context) else known.stream_proprietary) if known else ""
    return stream.format(branch=context.profile.driver.branch)


def fabric_manager(context: Context) -> Choice:
    """Whether the Fabric Manager is needed: GPUs behind NVSwitches wait for it, at the driver's exact version."""
    switches = context.facts.nvswitches
    if not switches:
        return Choice("", "no NVSwitch on PCI")
    return Choice(
        "nvidia-fabricmanager",
        f"{switches} NVSwitches on PCI: CUDA waits for the fabric manager, of the driver's exact version",
    )


def headers(context: Context) -> tuple[Spec, ...]:
    """Packages with the running kernel's headers; none where it has them already, or nothing is built here."""
    found = distribution(context)
    # A kernel that has its headers already (a custom one, say) needs no package for them.
    if found is None or context.facts.headers or build(context).value != "dkms":
        return ()
    return tuple(Spec(name, version) for name, version in found.headers_of(context.facts.kernel))


def secure_boot(context: Context) -> Choice:
    """What Secure Boot asks for before the modules load: nothing, or a key enrolled by a person at the console."""
    found, built = distribution(context), build(context).value
    if not context.facts.secure_boot or found is None or not built:
        return Choice("", "Secure Boot is off, or the modules are not made here")
    if built == "precompiled":
        return Choice("signed", f"Secure Boot is on: the modules of {found.name}'s archive are signed with its own key")
    return Choice(
        found.mok,
        f"Secure Boot is on: a module that DKMS builds loads only once its key is enrolled (mokutil --import {found.mok}, then a reboot at "
        f"the console){_without_enrolment(found)}",
    )


def _without_enrolment(found: Distribution) -> str:
    return '; driver.source = "distro" has signed modules, which need no key' if found.precompiled else ""


def runfile_sha256(context: Context) -> str:
    """The checksum that the .run installer must have: the profile's, or the known one; empty where neither is."""
    known = context.catalog.runfile.sha256.get(context.facts.architecture, {})
    return context.profile.driver.runfile.sha256 or known.get(driver_version(context), "")


def newest_cuda(context: Context) -> str:
    """The newest toolkit for the driver's branch that still compiles for every GPU of the host; empty for an unknown branch."""
    branch = context.catalog.branches.get(comparable_version(context).partition(".")[0])
    if branch is None:
        return ""
    known = [branch.cuda, *(each.last_cuda for each in generations(context).values() if each.last_cuda)]
    return min(known, key=version_tuple)


def version_tuple(version: str) -> tuple[int, ...]:
    """`580.65.06` as numbers, for comparing."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def cdi_wanted(context: Context) -> str:
    """Why this host is to have a CDI specification of its GPUs; empty where nothing would use one."""
    profile = context.profile
    if profile.container_toolkit.mode == "cdi":
        return 'container_toolkit.mode = "cdi" in the profile: the nvidia runtime gives containers what it says'
    if profile.containerd.cdi:
        return "containerd.cdi = true in the profile: containers ask for devices by the names in it"
    if "podman" in context.facts.engines and profile.engines.podman == "auto":
        return "Podman is here, and gives containers GPUs by CDI alone (engines.podman in the profile)"
    return ""


def _is_open(context: Context) -> bool:
    return kernel_modules(context).modules == "open"


def _of_kind(context: Context, of_open: tuple[str, ...], of_proprietary: tuple[str, ...]) -> tuple[str, ...]:
    return of_open if _is_open(context) else of_proprietary


def _spec(context: Context, template: str) -> Spec:
    """A package by its template: at the driver's version, or at any for `name=*`."""
    name, _, version = template.partition("=")
    filled = name.format(branch=context.profile.driver.branch, kernel=context.facts.kernel)
    return Spec(filled, "" if version == "*" else wanted_version(context))
