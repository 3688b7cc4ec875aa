"""The NVIDIA driver: prerequisites, packages or installer, kernel module, persistence daemon."""

from __future__ import annotations

from gpunode.host.installers import Installer
from gpunode.host.packages.base import Spec
from gpunode.resources.base import Resource
from gpunode.resources.boot import DriverAtBoot
from gpunode.resources.drain import Drain
from gpunode.resources.files import File
from gpunode.resources.kernel import DriverModule, NouveauAbsent
from gpunode.resources.nvml import DriverAnswer
from gpunode.resources.packages import Packages
from gpunode.resources.repository import AptRepository, ModuleStream
from gpunode.resources.runfile import RunfileInstallation
from gpunode.resources.services import Service
from gpunode.steps import decisions, decisions_host, decisions_wishes, local_bundle
from gpunode.steps.base import Context, Step
from gpunode.steps.decisions_cluster import access_of, no_access, node_name
from gpunode.steps.holds import hold
from gpunode.steps.repositories import repository

NOUVEAU = """\
# nouveau takes the GPU before NVIDIA's driver can.
blacklist nouveau
options nouveau modeset=0
"""
NOUVEAU_WHY = "nouveau would take the GPU before NVIDIA's driver can"
PERSISTENCED_WHY = "without it the first CUDA call takes seconds and clocks are reset"
HOLD_WHY = "an upgrade of the driver under a running module is the commonest cause of `Driver/library version mismatch`"


def resources(context: Context) -> list[Resource]:
    """Everything that makes the driver, in the order in which it is brought about."""
    driver = context.profile.driver
    if driver.source == "preinstalled":
        return [DriverAnswer("", len(context.facts.gpus), driver_timeout(context))]
    source = {"nvidia": _nvidia, "distro": _distro, "runfile": _runfile, "local": _local}[driver.source]
    version, modules = decisions.wanted_version(context), decisions.kernel_modules(context)
    found = [*_nouveau(context), *local_bundle.repository(context), *_build_tools(context), *source(context)]
    if driver.load:
        why = f"{modules.modules} modules: {modules.why}"
        found.append(DriverModule(version, modules.modules, why, _drain(context)))
    found += _services(context)
    if driver.load:
        found.append(DriverAnswer(version, len(context.facts.gpus), driver_timeout(context)))
    else:
        found.append(DriverAtBoot(version))
    return found


def refusals(context: Context) -> list[str]:
    """Why this driver cannot be had on this host."""
    facts, driver = context.facts, context.profile.driver
    if not facts.gpus:
        return ["this host shows no NVIDIA GPU on PCI: gpunode makes GPU nodes, and there is nothing here to drive"]
    if driver.source == "preinstalled":
        missing = 'driver.source = "preinstalled", and no NVIDIA driver is loaded: load it, or choose another source'
        return [] if facts.driver else [missing]
    return [*decisions_wishes.driver_refusals(context), *decisions_host.refusals(context)]


def notes(context: Context) -> list[str]:
    """What a person should know though it stops nothing."""
    found = decisions_host.notes(context)
    branch = context.catalog.branches.get(context.profile.driver.branch)
    ended = decisions_wishes.ended(branch, context.facts.now) if branch else ""
    if branch and ended:
        found.append(f"branch {branch.name} reached its end of life in {ended}: it gets no security fixes")
    secure_boot = decisions.secure_boot(context)
    return [*found, secure_boot.why] if secure_boot.value else found


def driver_timeout(context: Context) -> int:
    """Seconds that a question to the driver may take."""
    return context.profile.verify.probe_timeout


def _drain(context: Context) -> Drain | None:
    """How the GPUs' users make way, where the profile says that they are to."""
    driver, why = context.profile.driver, no_access(context)
    if not driver.drain:
        return None
    access = None if why else access_of(context)
    return Drain(access, node_name(context), why, driver.drain_timeout, driver.drain_grace)


def _services(context: Context) -> list[Resource]:
    driver, fabric_manager = context.profile.driver, decisions.fabric_manager(context)
    found: list[Resource] = []
    if driver.load and driver.source != "runfile":
        if driver.persistenced:
            found.append(Service("nvidia-persistenced.service", PERSISTENCED_WHY))
        if fabric_manager.value:
            found.append(Service("nvidia-fabricmanager.service", fabric_manager.why))
    return found


def _nouveau(context: Context) -> list[Resource]:
    if not context.profile.driver.blacklist_nouveau:
        return []
    refreshes = (f"initramfs:{context.facts.initramfs}",) if context.facts.initramfs else ()
    return [
        File("/etc/modprobe.d/gpunode-nouveau.conf", NOUVEAU, NOUVEAU_WHY, refreshes=refreshes),
        NouveauAbsent(NOUVEAU_WHY),
    ]


def _build_tools(context: Context) -> list[Resource]:
    """Compiler and headers, where the module is built on this host for its kernel."""
    found, built = decisions.distribution(context), decisions.build(context)
    if found is None or built.value != "dkms":
        return []
    # NVIDIA's packages depend on DKMS, its installer only asks for it.
    more = context.catalog.runfile.prerequisites if context.profile.driver.source == "runfile" else ()
    specs = (*(Spec(name) for name in (*found.build_tools, *more)), *decisions.headers(context))
    return [
        Packages(
            "build tools",
            found.manager,
            specs,
            f"the module is built for the running kernel {context.facts.kernel}",
            bundle=local_bundle.path(context),
        )
    ]


def _nvidia(context: Context) -> list[Resource]:
    return [
        *repository(context, "cuda", why="NVIDIA's own packages"),
        *_stream(context),
        *_packages(context, pin=True),
    ]


def _stream(context: Context) -> list[Resource]:
    """The stream of dnf's module, where there is one: it chooses the branch, and no package of another can be installed."""
    module, colon, stream = decisions.module_stream(context).partition(":")
    why = f"branch {context.profile.driver.branch}, {decisions.kernel_modules(context).modules} modules"
    return [ModuleStream(module, stream, why)] if colon else []


def _local(context: Context) -> list[Resource]:
    """NVIDIA's packages from the bundle, which stands before the build tools: they come from it too."""
    return _packages(context, pin=True)


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
    version, specs = decisions.wanted_version(context), decisions.driver_packages(context)
    manager, branch = distribution.manager, context.profile.driver.branch
    why = f"driver {version}, branch {branch} ({context.catalog.branches[branch].kind})"
    found: list[Resource] = [_pin(known.family, version)] if pin and manager == "apt" else []
    # The distribution's own packages depend on each other exactly, and some of the family have versions of their own.
    family = known.family if pin else ()
    only = local_bundle.path(context)
    found.append(Packages("driver", manager, specs, why, family, known.not_family, version, only))
    if context.profile.driver.hold:
        names = tuple(spec.name for spec in specs)
        found += hold(context, "driver", names, HOLD_WHY, family=known.family, not_family=known.not_family)
        found += _no_unattended_upgrade(context, manager)
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


def _no_unattended_upgrade(context: Context, manager: str) -> list[Resource]:
    patterns = context.catalog.unattended.get(manager)
    if not patterns:
        return []
    names = " ".join(f'"{pattern}";' for pattern in patterns)
    text = (
        "// The driver is upgraded by gpunode, module and libraries together.\n"
        f"Unattended-Upgrade::Package-Blacklist {{ {names} }};\n"
    )
    return [File("/etc/apt/apt.conf.d/52gpunode-nvidia", text, HOLD_WHY)]


def _runfile(context: Context) -> list[Resource]:
    driver, entry, facts = context.profile.driver, context.catalog.runfile, context.facts
    version, modules = decisions.driver_version(context), decisions.kernel_modules(context).modules
    base = (context.profile.repositories.runfile.url or entry.base).rstrip("/")
    source = (
        driver.runfile.path or driver.runfile.url or base + entry.path.format(version=version, arch=facts.architecture)
    )
    installer = Installer(
        thing="driver",
        key="driver.runfile",
        source=source,
        sha256=decisions.runfile_sha256(context),
        arguments=(*entry.arguments, *(entry.open if modules == "open" else entry.proprietary)),
        uninstaller=entry.uninstaller,
        record=entry.record,
        log=entry.log,
        takes_off=entry.takes_off,
    )
    proof = f"{facts.libraries}/libnvidia-ml.so.{version}"
    return [RunfileInstallation("runfile", version, installer, proof, f"driver {version} by NVIDIA's installer")]


STEP = Step("driver", "NVIDIA driver", resources, refusals=refusals, notes=notes)
