"""Gathering what the kernel and the driver say of the GPUs, and how the host was started."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpunode.findings.machine import Asked, Boot, PciGpu, nvml_of
from gpunode.findings.reading import exists, first_line, known, text
from gpunode.host import module_file
from gpunode.host.engines.docker import UNIT as DOCKER_UNIT
from gpunode.host.facts import PCI
from gpunode.host.kernel_log import kernel_lines, unit_lines
from gpunode.host.processes import processes
from gpunode.host.reader import Reader
from gpunode.host.systemd import unit_file
from gpunode.steps.base import Context

PROC_GPUS = "/proc/driver/nvidia/gpus"
NVML_SECONDS = 5.0
KUBELET_UNIT = "kubelet.service"
AUDIT_LOG = "/var/log/audit/audit.log"
DENIAL = re.compile(r"avc:\s+denied.*(?:nvidia|xserver_misc_device_t)")
SILENT = b"\xff\xff"
UNSET = 0x20000000
"""The kernel's flag of a resource that got no place (IORESOURCE_UNSET)."""
KEPT = re.compile(r"NVRM|nvidia|NVSwitch|nouveau|avc:|blocked for more than|Loading of|PKCS#7|BAR \d", re.IGNORECASE)


def gpus(host: Reader, context: Context) -> tuple[PciGpu, ...]:
    """Each GPU on PCI by the kernel's files."""
    return tuple(_gpu(host, gpu.address) for gpu in context.facts.gpus)


def _gpu(host: Reader, address: str) -> PciGpu:
    folder = f"{PCI}/{address}"
    real = known(folder, host.realpath, folder)
    information = text(host, f"{PROC_GPUS}/{address}/information")
    minor = re.search(r"^Device Minor:\s*(\d+)", information, re.MULTILINE)
    return PciGpu(
        address=address,
        bound=known("", _bound, host, f"{folder}/driver"),
        silent=(known(None, host.read, f"{folder}/config") or b"")[:2] == SILENT,
        unassigned=tuple(_unassigned(text(host, f"{folder}/resource"))),
        width=_lanes(host, f"{folder}/current_link_width"),
        max_width=_lanes(host, f"{folder}/max_link_width"),
        port_width=_lanes(host, f"{real.rpartition('/')[0]}/max_link_width"),
        minor=int(minor[1]) if minor else None,
        excluded=re.search(r"^GPU Excluded:\s*Yes", information, re.MULTILINE) is not None,
    )


def _bound(host: Reader, link: str) -> str:
    return host.realpath(link).rpartition("/")[2] if host.lstat(link) else ""


def _lanes(host: Reader, path: str) -> int | None:
    """A link's width; None for what a guest's kernel says of one that it does not see."""
    word = first_line(host, path)
    return int(word) if word.isdigit() and 0 < int(word) <= 32 else None


def _unassigned(resource: str) -> Iterator[int]:
    """Of registers and memory (BAR 0 and 1), those without a place: the lines are first address, last address, flags."""
    for number, line in enumerate(resource.splitlines()[:2]):
        words = [int(word, 16) for word in line.split() if word.startswith("0x")]
        if len(words) == 3 and words[0] == 0 and (words[1] == 0 or words[2] & UNSET):
            yield number


def boot(host: Reader, context: Context) -> Boot:
    """How the host was started, by files alone."""
    return Boot(
        cmdline=text(host, "/proc/cmdline"),
        lockdown=text(host, "/sys/kernel/security/lockdown"),
        signed=known(None, _signed, host, context),
        nova=exists(host, "/sys/module/nova_core") is True,
        enforcing=first_line(host, "/sys/fs/selinux/enforce") == "1",
        denials=tuple(line for line in _audit(host) if DENIAL.search(line)),
    )


def _signed(host: Reader, context: Context) -> bool | None:
    """Read only where it matters: the file is large."""
    if not context.facts.secure_boot or context.facts.driver:
        return None
    folder = f"/lib/modules/{context.facts.kernel}"
    paths = [f"{folder}/{place}/nvidia.ko" for place in ("updates/dkms", "updates", "extra", "kernel/drivers/video")]
    path = next((path for path in paths if host.exists(path)), "")
    return module_file.is_signed(host, path) if path else None


def _audit(host: Reader) -> list[str]:
    """SELinux's lines since the boot, where its own log has them; the kernel's log has them otherwise."""
    if first_line(host, "/sys/fs/selinux/enforce") != "1":
        return []
    began = re.search(r"^btime (\d+)", text(host, "/proc/stat"), re.MULTILINE)
    since = int(began[1]) if began else 0
    stamped = ((line, re.search(r"audit\((\d+)", line)) for line in text(host, AUDIT_LOG).splitlines())
    return [line for line, stamp in stamped if stamp and int(stamp[1]) >= since]


def asked(host: Reader, context: Context, *, toolkit: bool, logs: bool) -> Asked:
    """Ask the driver, the kernel's log, with `logs` those of the services, and see what runs. Nothing on a host that has no GPU."""
    facts = context.facts
    if not facts.gpus and not facts.driver:
        return Asked()
    answer = known(None, lambda: host.probe("nvml", "health", timeout=NVML_SECONDS)) if facts.driver else None
    units = [unit for unit in (facts.engine_unit, KUBELET_UNIT, DOCKER_UNIT) if unit_file(host, unit)]
    return Asked(
        nvml=known(None, nvml_of, answer) if answer is not None else None,
        kernel=known(None, kernel_lines, host, KEPT),
        units=known(None, unit_lines, host, units) if logs and (toolkit or DOCKER_UNIT in units) else None,
        processes=known(None, processes, host),
    )
