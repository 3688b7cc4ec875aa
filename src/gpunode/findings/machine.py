"""The machine beneath the packages, as data: GPUs by the kernel and by the driver itself, the boot, what is logged and what runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpunode.host.kernel_log import LogLine
from gpunode.host.processes import Process

GUESTS = ("vfio-pci", "pci-stub")
NOVA = ("NovaCore", "nova_core", "nova-core")


@dataclass(frozen=True)
class PciGpu:
    """A GPU by the kernel's files. `bound` is the kernel driver that has it, empty for none or unknown.

    `silent` says that it no longer answers on PCI, `unassigned` are memory windows (BAR numbers) that it did not get. Widths are in
    lanes: now, at best, and at best by the port that it hangs on. `minor` is the number of its node, `excluded` that the driver was told
    to leave it.
    """

    address: str
    bound: str = ""
    silent: bool = False
    unassigned: tuple[int, ...] = ()
    width: int | None = None
    max_width: int | None = None
    port_width: int | None = None
    minor: int | None = None
    excluded: bool = False


@dataclass(frozen=True)
class NvmlGpu:
    """A GPU as the driver tells it. None is what it does not tell. `error` is NVML's, of a GPU that did not answer at all.

    `rows` are remapped rows: by correctable errors, by uncorrectable ones, whether some wait for a reset, whether it failed. `mig` is the
    MIG mode now and after a reset. `slowdown` holds NVML's bits for what holds the clocks back.
    """

    index: int
    address: str = ""
    name: str = ""
    error: str = ""
    ecc_uncorrected: int | None = None
    rows: tuple[int, ...] | None = None
    pages_pending: int | None = None
    slowdown: int | None = None
    temperature: int | None = None
    performance_state: int | None = None
    link: Mapping[str, int | None] = field(default_factory=dict)
    mig: tuple[int, ...] | None = None
    nvlinks: tuple[bool, ...] = ()

    @property
    def label(self) -> str:
        """`GPU 0 (0000:65:00.0)`."""
        return f"GPU {self.index} ({self.address})" if self.address else f"GPU {self.index}"


@dataclass(frozen=True)
class Nvml:
    """The driver's answer. `error` is the name of what went wrong, `message` the words for it, both empty where it answered."""

    error: str = ""
    message: str = ""
    cuda: str = ""
    gpus: tuple[NvmlGpu, ...] = ()

    def has(self, address: str) -> bool:
        """True when the driver shows the GPU, and it answers."""
        return any(gpu.address == address and not gpu.error for gpu in self.gpus)


def nvml_of(answer: Mapping[str, Any]) -> Nvml:
    """The probe's document as data."""
    error = answer.get("error")
    if isinstance(error, Mapping):
        return Nvml(error=str(error.get("name", "UNKNOWN")), message=str(error.get("message", "")))
    gpus = tuple(_nvml_gpu(entry) for entry in answer.get("gpus", ()) if isinstance(entry, Mapping))
    return Nvml(cuda=str(answer.get("cuda_version", "")), gpus=gpus)


def _nvml_gpu(entry: Mapping[str, Any]) -> NvmlGpu:
    rows, mig = entry.get("rows"), entry.get("mig")
    return NvmlGpu(
        index=int(entry["index"]),
        address=str(entry.get("pci", "")),
        name=str(entry.get("name", "")),
        error=str(entry.get("error", "")),
        ecc_uncorrected=entry.get("ecc_uncorrected"),
        rows=tuple(rows) if rows else None,
        pages_pending=entry.get("pages_pending"),
        slowdown=entry.get("slowdown"),
        temperature=entry.get("temperature"),
        performance_state=entry.get("performance_state"),
        link=entry.get("link") or {},
        mig=tuple(mig) if mig else None,
        nvlinks=tuple(entry.get("nvlinks") or ()),
    )


@dataclass(frozen=True)
class Boot:
    """How the host was started. `signed` tells of the running kernel's driver module, `cmdline` and `lockdown` are the kernel's words.

    `enforcing` is SELinux's mode, `denials` are its lines about NVIDIA's devices.
    """

    cmdline: str = ""
    lockdown: str = ""
    signed: bool | None = None
    nova: bool = False
    enforcing: bool = False
    denials: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What is known only by asking: None is what was not asked, or gave no answer. `kernel` and `units` are log lines of this boot."""

    nvml: Nvml | None = None
    kernel: tuple[LogLine, ...] | None = None
    units: tuple[LogLine, ...] | None = None
    processes: tuple[Process, ...] | None = None

    def matching(self, words: str) -> tuple[Process, ...]:
        """Processes whose name begins so."""
        return tuple(each for each in self.processes or () if each.name.startswith(words))
