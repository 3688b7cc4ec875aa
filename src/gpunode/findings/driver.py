"""The driver: module and libraries of different versions, modules that are missing, of the wrong kind, or in each other's way."""

from __future__ import annotations

import re

from gpunode.catalog.model import Generation
from gpunode.findings.evidence import (
    PERSISTENCED,
    Evidence,
    Kernel,
    TextFile,
    clock,
    upstream,
    version_of_library,
)
from gpunode.findings.model import Known, Proof, Severity
from gpunode.host.facts import DRIVER_VERSION
from gpunode.steps import decisions

APPLY = "gpunode apply --step driver"
REBOOT = "systemctl reboot"
NOUVEAU_BLACKLIST = r"^\s*blacklist\s+nouveau\b"


def _mismatch(evidence: Evidence) -> Proof | None:
    driver, library = evidence.context.facts.driver, evidence.library_version
    if driver is None or not library or library == driver.version:
        return None
    changes = [(name, change) for name, change in evidence.changes.items() if upstream(change.after) == library]
    moved = [f"{name}: {change}" for name, change in changes if name in evidence.driver_packages]
    loose = [name for name, package in evidence.driver_packages.items() if not package.held]
    wanted = decisions.driver_version(evidence.context) or driver.version
    lines = [f"{DRIVER_VERSION}: the running module is {driver.version}{_unless(driver.version, wanted)}"]
    lines += [
        f"{link} leads to {file}{_unless(version_of_library(file), wanted)}"
        for link, file in evidence.libraries.items()
    ]
    lines += moved[:1]
    lines += [f"dpkg-query: not held: {', '.join(sorted(loose))}"] if loose else []
    if evidence.context.profile.driver.source == "preinstalled":
        mend: tuple[str, ...] = (REBOOT,)
    else:
        mend = (APPLY,) if wanted == driver.version else (APPLY, f"{REBOOT}  # where the module is in use")
    return Proof(tuple(lines), {"library": library, "module": driver.version}, mend=mend)


def _unless(version: str, wanted: str) -> str:
    return "" if version == wanted else f", wanted {wanted}"


def _branch_jump(evidence: Evidence) -> Proof | None:
    branch, driver = evidence.context.profile.driver.branch, evidence.context.facts.driver
    running = driver is not None and driver.version.partition(".")[0] == branch
    jumped = {}
    for name, package in evidence.driver_packages.items():
        found = upstream(package.version).partition(".")[0]
        named = re.search(r"-(\d{3})(?:-|$)", name)
        before = named[1] if named else branch if running else ""
        if before and found.isdigit() and found != before:
            jumped[name] = before
    loose = [name for name in jumped if not evidence.driver_packages[name].held]
    if not loose:
        return None
    first = loose[0]
    version = evidence.driver_packages[first].version
    lines = [
        f"dpkg-query: {name} {evidence.driver_packages[name].version}, not held, wanted branch {jumped[name]}"
        for name in loose
    ]
    lines += [str(evidence.changes[first])] if first in evidence.changes else []
    return Proof(tuple(lines), {"package": first, "version": version, "branch": jumped[first]})


def _module_missing(evidence: Evidence) -> Proof | None:
    if not evidence.driver_installed:
        return None
    running, *others = evidence.kernels
    newer = [kernel for kernel in others if _ordinal(kernel.release) > _ordinal(running.release)]
    lacking = [kernel for kernel in (running, *newer) if not kernel.modules]
    # A module that runs was loaded from somewhere: only a kernel yet to be booted can miss it then.
    if evidence.context.facts.driver and running in lacking:
        lacking.remove(running)
    if not lacking:
        return None
    kernel = lacking[0]
    lines = [_missing_line(each) for each in lacking]
    word = "is running" if kernel is running else "comes at the next boot"
    severity: Severity = "error" if kernel is running else "warning"
    headers = () if kernel.headers else (f"apt-get install linux-headers-{kernel.release}",)
    load = ("modprobe nvidia",) if kernel is running else ()
    mend = (*headers, f"dkms autoinstall -k {kernel.release}", *load)
    return Proof(tuple(lines), {"kernel": kernel.release, "when": word}, mend=mend, severity=severity)


def _missing_line(kernel: Kernel) -> str:
    headers = "headers are there" if kernel.headers else f"no headers at /lib/modules/{kernel.release}/build"
    return f"/lib/modules/{kernel.release}: no nvidia.ko ({headers}), wanted updates/dkms/nvidia.ko"


def _ordinal(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release))


def _nouveau(evidence: Evidence) -> Proof | None:
    blacklist = next((each for each in evidence.modprobe if re.search(NOUVEAU_BLACKLIST, each.text, re.M)), None)
    if not evidence.context.facts.nouveau or not (evidence.driver_installed or blacklist):
        return None
    lines = ["/sys/module/nouveau: nouveau is loaded, wanted not loaded"]
    if blacklist is None:
        lines.append("/etc/modprobe.d: no `blacklist nouveau`")
        return Proof(tuple(lines), {"reason": "nothing keeps it from loading"}, mend=(APPLY, REBOOT))
    lines.append(f"{blacklist.place(NOUVEAU_BLACKLIST)}: blacklist nouveau")
    image = evidence.initramfs
    if image and image.modified < blacklist.modified:
        return _old_initramfs(evidence, lines, blacklist, image)
    return Proof(tuple(lines), {"reason": "its blacklist takes effect at the next boot"}, mend=(REBOOT,))


def _old_initramfs(evidence: Evidence, lines: list[str], blacklist: TextFile, image: TextFile) -> Proof:
    lines.append(f"{image.path}: made {clock(image.modified)}, before the blacklist of {clock(blacklist.modified)}")
    dracut = evidence.context.facts.initramfs == "dracut"
    rebuild = "dracut --force" if dracut else "update-initramfs -u -k all"
    words = {"reason": "the initramfs is older than its blacklist and loads it at every boot"}
    return Proof(tuple(lines), words, mend=(rebuild, REBOOT))


def _open_unsupported(evidence: Evidence) -> Proof | None:
    return _wrong_modules(evidence, "open", "proprietary")


def _open_required(evidence: Evidence) -> Proof | None:
    return _wrong_modules(evidence, "proprietary", "open")


def _wrong_modules(evidence: Evidence, found: str, needed: str) -> Proof | None:
    modules, line = _modules(evidence)
    device = next((device for device, kind in _generations(evidence) if kind.modules == needed), None)
    if modules != found or device is None:
        return None
    name = evidence.context.catalog.gpu_name(device)
    lines = (line, f"PCI device 10de:{device:04x}: {name}, which needs the {needed} modules")
    chosen = evidence.context.profile.driver.modules
    remark = "" if chosen in ("auto", needed) else f'  # with driver.modules = "{needed}" in the profile'
    return Proof(lines, {"gpu": name}, mend=(f"{APPLY}{remark}",))


def _modules(evidence: Evidence) -> tuple[str, str]:
    """Which kind of modules this host has, `open` or `proprietary`, and where that is seen; empty when unknown."""
    driver, names = evidence.context.facts.driver, evidence.driver_names
    if driver:
        return driver.modules, f"{DRIVER_VERSION}: {driver.version}, {driver.modules} modules"
    if names is None:
        return "", ""
    for kind, own, other in (("open", names.open, names.proprietary), ("proprietary", names.proprietary, names.open)):
        for name in own:
            if name in evidence.driver_packages and (name not in other):
                return kind, f"dpkg-query: {name} {evidence.driver_packages[name].version}, {kind} modules"
    return "", ""


def _generations(evidence: Evidence) -> list[tuple[int, Generation]]:
    catalog, devices = evidence.context.catalog, {gpu.device for gpu in evidence.context.facts.gpus}
    found = ((device, catalog.generation(device)) for device in sorted(devices))
    return [(device, generation) for device, generation in found if generation]


def _too_new(evidence: Evidence) -> Proof | None:
    driver = evidence.context.facts.driver
    version = evidence.library_version or (driver.version if driver else "")
    branch = version.partition(".")[0]
    for device, generation in _generations(evidence):
        if generation.last_branch and branch.isdigit() and int(branch) > generation.last_branch:
            name, last = evidence.context.catalog.gpu_name(device), str(generation.last_branch)
            lines = (
                f"the installed driver is {version}, wanted branch {last}",
                f"PCI device 10de:{device:04x}: {name} ({generation.name})",
            )
            return Proof(lines, {"gpu": name, "branch": branch, "last": last})
    return None


def _mixed(evidence: Evidence) -> Proof | None:
    packages = evidence.driver_proper
    if not evidence.context.facts.runfile_driver or not packages:
        return None
    lines = ["/usr/bin/nvidia-uninstall: a driver by NVIDIA's installer"]
    lines += [f"{evidence.context.catalog.runfile.log}: its log"] if evidence.installer_log else []
    lines += [f"dpkg-query: {name} {package.version}" for name, package in sorted(packages.items())]
    if evidence.context.profile.driver.source == "runfile":
        return Proof(tuple(lines), mend=(f"apt-get purge {' '.join(sorted(packages))}", APPLY))
    return Proof(tuple(lines))


def _persistence(evidence: Evidence) -> Proof | None:
    driver, unit = evidence.context.profile.driver, evidence.units.get(PERSISTENCED)
    wanted = driver.persistenced and driver.source not in ("runfile", "preinstalled")
    if not wanted or unit is None or not unit.loaded or unit.active or evidence.context.facts.driver is None:
        return None
    state = unit.state if unit.enabled else f"{unit.state}, disabled"
    return Proof((f"systemctl show {PERSISTENCED}: {state}, wanted active (running)",))


FINDINGS = (
    Known(
        id="mixed-install",
        step="driver",
        severity="error",
        title="Two drivers are installed over each other",
        sees="libraries and modules of different versions, in changing mixtures; `nvidia-uninstall` or apt break what the other installed",
        proof="`/usr/bin/nvidia-uninstall` exists, and packages of the driver's family are installed",
        cause="A driver by NVIDIA's installer and one by packages are both here, and each overwrites files of the other.",
        mend=("nvidia-uninstall --silent", APPLY),
        look=_mixed,
        explains=("driver-library-mismatch", "library-unfound"),
    ),
    Known(
        id="driver-branch-jump",
        step="driver",
        severity="error",
        title="An upgrade took the driver to another branch",
        sees="`Driver/library version mismatch` after an ordinary upgrade; `nvidia-fabricmanager` that ends again and again",
        proof="a driver package that is not held is of another branch than the running module, or than the branch in its own name",
        cause="{package} went to {version}, out of branch {branch}, because nothing held or pinned it.",
        mend=(APPLY,),
        look=_branch_jump,
        explains=("driver-library-mismatch", "fabric-manager", "packages-broken"),
        references=("public incident notes on 590 → 595",),
    ),
    Known(
        id="driver-library-mismatch",
        step="driver",
        severity="error",
        title="The running driver and its libraries are of different versions",
        sees="`Failed to initialize NVML: Driver/library version mismatch`, CUDA error 803; running pods live on, new ones fail",
        proof="the version in `/proc/driver/nvidia/version` is not that of the file which `libnvidia-ml.so.1` leads to",
        cause="The driver's libraries were changed to {library} while module {module} was running (an upgrade under a running "
        "driver, most often unattended-upgrades): every program that opens a GPU fails until both are of one version.",
        mend=(APPLY, f"{REBOOT}  # where the module is in use"),
        look=_mismatch,
        explains=("nvml:driver", "persistence-off", "plugin-no-resource"),
        references=(
            "NVIDIA/k8s-device-plugin#1431",
            "pando85/homelab#4110",
            "lyulyul/shine-cluster#30",
            "NVIDIA/nvidia-docker#349",
        ),
        patterns=(
            r"(?i)driver/library version mismatch",
            r"NVML library version: (?P<library>[\d.]+)",
            r"(?i)error 803|system has unsupported display driver / cuda driver combination",
        ),
    ),
    Known(
        id="module-missing-for-kernel",
        step="driver",
        severity="error",
        title="The driver has no module for a kernel of this host",
        sees="`NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver`, "
        "`modprobe: FATAL: Module nvidia not found in directory /lib/modules/…`",
        proof="no `nvidia.ko` under `/lib/modules` for the running kernel, or for a newer one that the next boot takes",
        cause="No driver module was built for kernel {kernel}, which {when}: without one the GPUs are gone there.",
        mend=("apt-get install linux-headers-{kernel}", "dkms autoinstall -k {kernel}", "modprobe nvidia"),
        look=_module_missing,
        explains=("driver-not-loaded", "module:nvidia", "nvml:driver"),
        references=(
            "NVIDIA/nvidia-docker#804",
            "GoogleCloudPlatform/compute-gpu-installation#10",
            "compiler-explorer/infra#1413",
        ),
        patterns=(
            r"modprobe: (?:FATAL|ERROR).*[Mm]odule (?P<module>nvidia\S*) not found",
            r"could not find module by name 'nvidia'",
            r"NVIDIA-SMI has failed because it couldn'?t communicate with the NVIDIA driver",
        ),
    ),
    Known(
        id="nouveau-loaded",
        step="driver",
        severity="error",
        title="nouveau holds the GPU",
        sees="NVIDIA's module does not load (`No such device`), or its installation fails",
        proof="`/sys/module/nouveau` exists while a driver is installed; its blacklist is absent, or newer than the initramfs",
        cause="nouveau was loaded before NVIDIA's driver could take the GPU: {reason}.",
        mend=(APPLY, REBOOT),
        look=_nouveau,
        explains=("driver-not-loaded", "module:nouveau", "module:nvidia", "nvml:driver"),
        references=("negativo17/nvidia-driver#73", "mattshma/bigdata#133", "OpenMandrivaAssociation/distribution#2169"),
        patterns=(
            r"NVRM: The NVIDIA probe routine was not called for \d+ device",
            r"NVRM: nouveau, rivafb, nvidiafb or rivatv",
        ),
    ),
    Known(
        id="open-module-unsupported",
        step="driver",
        severity="error",
        title="The open kernel modules do not drive this GPU",
        sees="`not supported by open nvidia.ko because it does not include the required GPU System Processor (GSP)`",
        proof="open modules, and a GPU older than Turing on PCI",
        cause="The open modules need a GPU of Turing or newer, and {gpu} is older.",
        mend=(APPLY,),
        look=_open_unsupported,
        explains=("driver-not-loaded", "gpu-init-failed", "nvml:driver"),
        references=(
            "negativo17/nvidia-driver#158",
            "NVIDIA/open-gpu-kernel-modules#322",
            "NVIDIA/open-gpu-kernel-modules#116",
        ),
        patterns=(
            r"not supported by open\s+(?:NVRM: )?nvidia\.ko",
            r"does not include the required GPU\s+(?:NVRM: )?System Processor",
            r"missing NVDEC0 engine, cannot initialize GSP-RM",
        ),
    ),
    Known(
        id="open-module-required",
        step="driver",
        severity="error",
        title="This GPU needs the open kernel modules",
        sees="the driver loads and `nvidia-smi` says `No devices were found`",
        proof="proprietary modules, and a GPU on PCI that only the open ones drive (Blackwell, Grace)",
        cause="{gpu} is driven by the open modules only, and the proprietary ones are here.",
        mend=(APPLY,),
        look=_open_required,
        explains=("driver-not-loaded", "gpu-init-failed", "nvml:driver"),
        references=("getsolus/packages#5575", "oddmario/NVIDIA-Ubuntu-Driver-Guide#10"),
        patterns=(r"requires use of the NVIDIA open kernel modules",),
    ),
    Known(
        id="branch-too-new-for-gpu",
        step="driver",
        severity="error",
        title="This driver branch no longer drives the GPU",
        sees="`No devices were found` after an upgrade to branch 590 or later",
        proof="a GPU on PCI whose last branch is below that of the installed libraries",
        cause="{gpu} is driven up to branch {last}, and the installed driver is of branch {branch}.",
        mend=('gpunode apply --step driver  # with driver.branch = "{last}" in the profile',),
        look=_too_new,
        explains=("driver-not-loaded", "gpu-init-failed", "gpu-missing-in-nvml", "nvml:driver"),
        patterns=(r"supported through the NVIDIA (?P<branch>\d+)\.xx Legacy drivers",),
    ),
    Known(
        id="persistence-off",
        step="driver",
        severity="warning",
        title="The persistence daemon does not run",
        sees="the first CUDA call takes seconds; clocks and power limits are reset between jobs",
        proof="`nvidia-persistenced.service` is installed and not active while the driver runs",
        cause="Without the persistence daemon the driver lets go of a GPU that nobody uses and sets it up anew for the next job.",
        mend=(f"systemctl enable --now {PERSISTENCED}",),
        look=_persistence,
        explains=("persistenced-socket-dead", f"service:{PERSISTENCED}"),
        references=("NVIDIA/nvidia-container-toolkit#556",),
    ),
)
