"""A driver that could not be brought onto the disk whole: a build that failed, packages left half-done, libraries that are not found."""

from __future__ import annotations

import re

from gpunode.findings.driver import APPLY
from gpunode.findings.evidence import Evidence, TextFile, version_of_library
from gpunode.findings.model import Known, Proof
from gpunode.host import dkms
from gpunode.steps.decisions import version_tuple

FOR_KERNEL = re.compile(r"^DKMS .*for kernel (\S+)", re.MULTILINE)
FAILURE = re.compile(
    r"^.*(?:\berror:|unrecognized command|version check failed|No such file or directory).*$", re.M | re.I
)
NEWER_COMPILER = re.compile(r"unrecognized command|version check failed", re.IGNORECASE)
BUILT_BY = re.compile(r"The kernel was built by:\s*\S*?gcc\S*?-?(\d+)?\b")
NO_HEADERS = re.compile(r"/build: No such file|kernel headers", re.IGNORECASE)
LIBRARY = "libnvidia-ml.so.1"
COMPAT = r"^\s*/usr/local/cuda\S*/compat"
FORWARD_NEVER = ("GeForce", "TITAN")
"""Names of GPUs on which a newer libcuda than the module's never works."""


def _dkms(evidence: Evidence) -> Proof | None:
    kernels = {kernel.release: kernel for kernel in evidence.kernels}
    for log in evidence.dkms_logs:
        found, failure = FOR_KERNEL.search(log.text), FAILURE.search(log.text)
        kernel = kernels.get(found[1].rstrip(",")) if found else None
        if kernel and failure and not kernel.modules:
            return _failed(evidence, log, kernel.release, failure[0].strip())
    return None


def _failed(evidence: Evidence, log: TextFile, kernel: str, line: str) -> Proof:
    version = log.path.split("/")[-3]
    lines = (
        f"{log.place(re.escape(line))}: {line}",
        f"/lib/modules/{kernel}: no nvidia.ko, wanted updates/dkms/nvidia.ko",
    )
    why, mend = _why(evidence, log, kernel, line)
    return Proof(lines, {"version": version, "kernel": kernel, "why": why}, mend=mend)


def _why(evidence: Evidence, log: TextFile, kernel: str, line: str) -> tuple[str, tuple[str, ...]]:
    """What the first error says, and what mends that."""
    install = {"dnf": "dnf install", "zypper": "zypper install"}.get(_manager(evidence), "apt-get install")
    again = f"dkms autoinstall -k {kernel}"
    if NEWER_COMPILER.search(line):
        built = BUILT_BY.search(log.text)
        compiler = f"gcc-{built[1]}" if built and built[1] else "gcc"
        return "the kernel was built by another compiler than the one that is installed", (
            f"{install} {compiler}",
            again,
        )
    if NO_HEADERS.search(line):
        return "the kernel's headers are missing", (f"{install} linux-headers-{kernel}", again)
    return f"the driver does not compile against it ({dkms.without_folder(line)[:120]})", (
        _other_driver(evidence),
        again,
    )


def _other_driver(evidence: Evidence) -> str:
    """A distribution's own archive has one branch: what is newer is NVIDIA's."""
    distro = evidence.context.profile.driver.source == "distro"
    wish = 'driver.source = "nvidia"' if distro else "a newer driver.branch"
    return f"{APPLY}  # with {wish} in the profile, or boot the older kernel"


def _manager(evidence: Evidence) -> str:
    distribution = evidence.context.facts.distribution
    return distribution.manager if distribution else ""


def _broken(evidence: Evidence) -> Proof | None:
    """Neither installed nor gone; what a removal leaves of its configuration is harmless."""
    harmless = ("installed", "config-files", "absent")
    broken = {name: package for name, package in evidence.driver_family.items() if package.state not in harmless}
    if not broken:
        return None
    query = "dpkg-query" if _manager(evidence) == "apt" else "rpm --query"
    lines = tuple(
        f"{query}: {name} {package.version} is {package.state}, wanted installed"
        for name, package in sorted(broken.items())
    )
    mend = ("dpkg --configure -a", "apt-get --fix-broken install", APPLY) if _manager(evidence) == "apt" else (APPLY,)
    return Proof(lines, {"packages": ", ".join(sorted(broken))}, mend=mend)


def _unfound(evidence: Evidence) -> Proof | None:
    loader, facts = evidence.loader, evidence.context.facts
    if loader is None or not facts.driver or not evidence.driver_installed:
        return None
    on_disk = next((link for link in evidence.libraries if link.endswith(f"/{LIBRARY}")), "")
    cached = loader.get(LIBRARY, ())
    lines: tuple[str, ...]
    if on_disk and not cached:
        lines = (f"{on_disk}: there", f"/etc/ld.so.cache: does not have {LIBRARY}, wanted {on_disk}")
        return Proof(lines, {"case": "is on the disk, and the loader's cache does not have it"})
    if cached and not on_disk and all(path.rpartition("/")[0] == facts.libraries for path in cached):
        lines = tuple(f"/etc/ld.so.cache: {LIBRARY} is {path}, which is not there" for path in cached)
        return Proof(lines, {"case": "is in the loader's cache, and no longer on the disk"}, mend=("ldconfig", APPLY))
    if not cached and evidence.driver_proper:
        names = ", ".join(sorted(evidence.driver_proper))
        lines = (
            f"/etc/ld.so.cache: does not have {LIBRARY}",
            f"packages of the driver: {names}, none with its libraries",
        )
        return Proof(lines, {"case": "was never installed: only the driver's module was"}, mend=(APPLY,))
    return None


def _compat(evidence: Evidence) -> Proof | None:
    driver = evidence.context.facts.driver
    file = next((each for each in evidence.loader_conf if re.search(COMPAT, each.text, re.M)), None)
    library = evidence.compat
    names = [evidence.context.catalog.gpu_name(gpu.device) for gpu in evidence.context.facts.gpus]
    never = [name for name in names if any(word in name for word in FORWARD_NEVER)]
    if driver is None or file is None or not never:
        return None
    if version_tuple(version_of_library(library)) <= version_tuple(driver.version):
        return None
    lines = (
        f"{file.place(COMPAT)}: {library} comes first",
        f"the running module is {driver.version}",
        f"GPU: {never[0]}",
    )
    return Proof(lines, {"path": file.path, "module": driver.version, "gpu": never[0]})


FINDINGS = (
    Known(
        id="dkms-build-failed",
        step="driver",
        severity="error",
        title="The driver's module could not be built",
        sees="`Error! Bad return status for module build on kernel: …`; an upgrade that leaves packages half-configured; no module "
        "after the next boot",
        proof="`/var/lib/dkms/nvidia*/…/build/make.log` of an installed kernel ends in an error, and that kernel has no driver module",
        cause="DKMS could not build {version} for kernel {kernel}: {why}.",
        mend=("dkms autoinstall -k {kernel}",),
        look=_dkms,
        explains=("module-missing-for-kernel", "packages-broken"),
        references=("pop-os/pop#3117", "NVIDIA/open-gpu-kernel-modules#558", "linux-surface/linux-surface#1909"),
        patterns=(
            r"Error! Bad return status for module build on kernel: (?P<kernel>\S+)",
            r"Consult (?P<log>/var/lib/dkms/nvidia\S*/make\.log) for more information",
            r"(?:cc|gcc|x86_64-linux-gnu-gcc-\d+): error: unrecognized command[- ]line option",
            r"(?i)compiler version check failed|gcc-version-check failed",
            r"dkms autoinstall on (?P<kernel>\S+?)/\S+ failed for nvidia",
            r"Your kernel headers for kernel (?P<kernel>\S+) cannot be found",
        ),
    ),
    Known(
        id="packages-broken",
        step="driver",
        severity="error",
        title="Packages of the driver are left half-done",
        sees="`Unable to correct problems, you have held broken packages`; `dpkg: error processing package nvidia-dkms-…`",
        proof="a package of the driver's family is neither installed nor gone",
        cause="{packages} were unpacked and never configured to the end, which stands in the way of every further install.",
        mend=("dpkg --configure -a", "apt-get --fix-broken install", APPLY),
        look=_broken,
        explains=("driver-library-mismatch", "module-missing-for-kernel"),
        references=(
            "aws-samples/aws-deep-learning-ami-ubuntu-dcv-desktop#18",
            "NVIDIA/ansible-role-nvidia-driver#11",
            "pop-os/pop#767",
        ),
        patterns=(
            r"(?P<package>(?:lib)?(?:nvidia|cuda)\S*) : Depends: \S+ \([^)]*\) but (?:it is not |\S+ is to be )install(?:ed|able)?",
            r"(?P<package>(?:lib)?(?:nvidia|cuda)\S*) : Depends: \S+ \([^)]*\) but it is not going to be installed",
            r"E: Unable to correct problems, you have held broken packages",
            r"dpkg: error processing package (?P<package>(?:lib)?(?:nvidia|cuda)\S*) ",
        ),
    ),
    Known(
        id="library-unfound",
        step="driver",
        severity="error",
        title="The driver's libraries are not where the loader looks",
        sees="`load library failed: libnvidia-ml.so.1: cannot open shared object file`",
        proof="the loader's cache, read as the loader reads it, lacks the library that is on the disk, or names one that is not; or "
        "packages of the driver are here and none with its libraries",
        cause="libnvidia-ml.so.1 {case}.",
        mend=("ldconfig",),
        look=_unfound,
        explains=("plugin-no-resource", "runtime-not-default", "nvml:driver"),
        references=(
            "NVIDIA/nvidia-container-toolkit#1092",
            "NVIDIA/nvidia-container-toolkit#297",
            "NVIDIA/nvidia-container-toolkit#930",
        ),
        patterns=(
            r"load library failed: (?P<library>lib(?:nvidia-ml|cuda)\.so\.1): cannot open shared object file",
            r"detection error: open failed: (?P<library>\S+\.so\.[\d.]+): no such file or directory",
            r"(?i)could(?: not|n'?t) (?:load|find|initialize) (?:the )?(?:NVML|libnvidia-ml\.so) library",
        ),
    ),
    Known(
        id="compat-library-too-new",
        step="driver",
        severity="error",
        title="A forward-compatibility library is used where it cannot be",
        sees="`Error 804: forward compatibility was attempted on non supported HW`",
        proof="a file of `/etc/ld.so.conf.d` puts `/usr/local/cuda*/compat` before the driver's own libcuda on a host with a GeForce or a "
        "TITAN; in containers only an error message tells",
        cause="{path} has programs take a newer libcuda than module {module}, which {gpu} does not allow.",
        mend=("rm {path}", "ldconfig", f"{APPLY}  # with the branch that the programs need in the profile"),
        look=_compat,
        references=("oobabooga/textgen#4407", "NVIDIA/nvidia-docker#1515", "mistralai/mistral-inference#144"),
        patterns=(
            r"forward compatibility was attempted on non supported HW",
            r"(?:CUDA (?:failure|error)|Error)[ :]+804",
        ),
    ),
)
