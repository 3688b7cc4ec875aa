"""The NVIDIA driver: prerequisites, packages or installer, kernel module, persistence daemon."""

from __future__ import annotations

from gpunode.host.packages.base import Spec
from gpunode.resources.base import Resource
from gpunode.resources.files import File
from gpunode.resources.kernel import DriverModule, NouveauAbsent
from gpunode.resources.nvml import DriverAnswer
from gpunode.resources.packages import Hold, Packages
from gpunode.resources.repository import AptRepository
from gpunode.resources.runfile import RunfileDriver
from gpunode.resources.services import Service
from gpunode.steps import decisions
from gpunode.steps.base import Context, Step
from gpunode.steps.repositories import repository

NOUVEAU = """\
# nouveau takes the GPU before NVIDIA's driver can.
blacklist nouveau
options nouveau modeset=0
"""
NOUVEAU_WHY = "nouveau would take the GPU before NVIDIA's driver can"
HOLD_WHY = "an upgrade of the driver under a running module is the commonest cause of `Driver/library version mismatch`"


def resources(context: Context) -> list[Resource]:
    """Everything that makes the driver, in the order in which it is brought about."""
    driver = context.profile.driver
    if driver.source == "preinstalled":
        return [DriverAnswer("", len(context.facts.gpus), driver_timeout(context))]
    source = {"nvidia": _nvidia, "distro": _distro, "runfile": _runfile}[driver.source]
    version, modules = decisions.driver_version(context), decisions.kernel_modules(context)
    found = [*_nouveau(context), *_build_tools(context), *source(context)]
    if driver.load:
        found.append(DriverModule(version, modules.modules, f"{modules.modules} modules: {modules.why}"))
    if driver.persistenced and driver.load and driver.source != "runfile":
        found.append(
            Service("nvidia-persistenced.service", "without it the first CUDA call takes seconds and clocks are reset")
        )
    if driver.load:
        found.append(DriverAnswer(version, len(context.facts.gpus), driver_timeout(context)))
    return found


def refusals(context: Context) -> list[str]:
    """Why this driver cannot be had on this host."""
    facts, driver = context.facts, context.profile.driver
    if not facts.gpus:
        return ["this host shows no NVIDIA GPU on PCI: gpunode makes GPU nodes, and there is nothing here to drive"]
    if driver.source == "preinstalled":
        missing = 'driver.source = "preinstalled", and no NVIDIA driver is loaded: load it, or choose another source'
        return [] if facts.driver else [missing]
    reasons = decisions.gpu_refusals(context)
    if driver.branch not in context.catalog.branches:
        known = ", ".join(context.catalog.branches)
        return [f"driver.branch {driver.branch} is not in the catalogue, which knows {known}"]
    if not decisions.driver_version(context):
        own = facts.distribution.own_driver.get(facts.os_version, "none") if facts.distribution else "none"
        reasons.append(
            f'{facts.os_name}\'s own archive has driver {own}, not branch {driver.branch}: choose that branch, or source = "nvidia"'
        )
    if driver.source != "runfile" and facts.runfile_driver:
        reasons.append(
            'a driver by .run installer is here already: run `nvidia-uninstall --silent`, or choose driver.source = "runfile"'
        )
    return reasons


def notes(context: Context) -> list[str]:
    """What a person should know though it stops nothing."""
    facts, found = context.facts, []
    branch = context.catalog.branches.get(context.profile.driver.branch)
    if branch and branch.ended:
        found.append(f"branch {branch.name} reached its end of life in {branch.ended}: it gets no security fixes")
    if facts.secure_boot:
        found.append(
            "Secure Boot is on: a module that DKMS builds loads only once its key is enrolled (mokutil --import)"
        )
    if context.profile.driver.source == "distro" and (facts.os_id, facts.os_version) == ("debian", "13"):
        found.append(
            "Debian 13's driver 550.163.01 does not build on its kernels 6.12.107 and .117 (measured): look at `dkms status`"
        )
    return found


def driver_timeout(context: Context) -> int:
    """Seconds that a question to the driver may take."""
    return context.profile.verify.probe_timeout


def _nouveau(context: Context) -> list[Resource]:
    if not context.profile.driver.blacklist_nouveau:
        return []
    refreshes = (f"initramfs:{context.facts.initramfs}",) if context.facts.initramfs else ()
    return [
        File("/etc/modprobe.d/gpunode-nouveau.conf", NOUVEAU, NOUVEAU_WHY, refreshes=refreshes),
        NouveauAbsent(NOUVEAU_WHY),
    ]


def _build_tools(context: Context) -> list[Resource]:
    """Compiler and headers: the module is built on this host for its kernel."""
    distribution, kernel = context.facts.distribution, context.facts.kernel
    if distribution is None:
        return []
    # A kernel that has its headers already (a custom one, say) needs no package for them.
    headers = () if context.facts.headers else tuple(name.format(kernel=kernel) for name in distribution.headers)
    specs = tuple(Spec(name) for name in (*distribution.build_tools, *headers))
    return [
        Packages("build tools", distribution.manager, specs, f"the module is built for the running kernel {kernel}")
    ]


def _nvidia(context: Context) -> list[Resource]:
    return [
        *repository(context, "cuda", why="NVIDIA's own packages"),
        *_packages(context, pin=True),
    ]


def _distro(context: Context) -> list[Resource]:
    known, archive = decisions.packages_of(context), context.facts.archive
    found: list[Resource] = []
    if known and known.components and archive:
        source = AptRepository(
            "/etc/apt/sources.list.d/gpunode-non-free.sources",
            archive.uri,
            archive.suite,
            archive.signed_by,
            "the driver is in the components that are not enabled by default",
            components=" ".join(known.components),
        )
        found.append(source)
    return [*found, *_packages(context, pin=False)]


def _packages(context: Context, *, pin: bool) -> list[Resource]:
    distribution, known = context.facts.distribution, decisions.packages_of(context)
    if distribution is None or known is None:
        return []
    version, specs = decisions.driver_version(context), decisions.driver_packages(context)
    manager, branch = distribution.manager, context.profile.driver.branch
    why = f"driver {version}, branch {branch} ({context.catalog.branches[branch].kind})"
    found: list[Resource] = [_pin(known.family, version)] if pin else []
    # The distribution's own packages depend on each other exactly, and some of the family have versions of their own.
    family = known.family if pin else ()
    found.append(Packages("driver", manager, specs, why, family, known.not_family, version))
    if context.profile.driver.hold:
        names = tuple(spec.name for spec in specs)
        found.append(Hold("driver", manager, known.family, names, HOLD_WHY, known.not_family))
        found.append(_no_unattended_upgrade())
    return found


def _pin(family: tuple[str, ...], version: str) -> Resource:
    text = (
        f"# Driver packages come at this version or not at all.\nPackage: {' '.join(family)}\n"
        f"Pin: version {version}*\nPin-Priority: 1001\n"
    )
    return File(
        "/etc/apt/preferences.d/gpunode-nvidia-driver",
        text,
        "dependencies of the driver must come at its own version too",
    )


def _no_unattended_upgrade() -> Resource:
    text = (
        "// The driver is upgraded by gpunode, module and libraries together.\n"
        'Unattended-Upgrade::Package-Blacklist { "nvidia"; "libnvidia"; "libcuda"; "cuda-drivers"; };\n'
    )
    return File("/etc/apt/apt.conf.d/52gpunode-nvidia", text, HOLD_WHY)


def _runfile(context: Context) -> list[Resource]:
    driver, entry, facts = context.profile.driver, context.catalog.runfile, context.facts
    version, modules = decisions.driver_version(context), decisions.kernel_modules(context).modules
    base = (context.profile.repositories.runfile.url or entry.base).rstrip("/")
    source = (
        driver.runfile.path or driver.runfile.url or base + entry.path.format(version=version, arch=facts.architecture)
    )
    return [
        RunfileDriver(
            version,
            source,
            driver.runfile.sha256 or (entry.sha256.get(version, "") if facts.architecture == "x86_64" else ""),
            (*entry.arguments, *(entry.open if modules == "open" else entry.proprietary)),
            entry.uninstaller,
            entry.record,
            entry.log,
            f"{facts.libraries}/libnvidia-ml.so.{version}",
            f"driver {version} by NVIDIA's installer",
        )
    ]


STEP = Step("driver", "NVIDIA driver", resources, refusals=refusals, notes=notes)
