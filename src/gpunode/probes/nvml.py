"""Asks the driver's management library (NVML) which GPUs it sees: `python3 -m gpunode.probes.nvml`; with `health`, how they are.

Prints one JSON document and exits 0, or 1 when a call failed. Run it in a child process with a deadline: a GPU that
fell off the bus can block these calls inside the kernel.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from ctypes import (
    CDLL,
    POINTER,
    Structure,
    byref,
    c_char,
    c_char_p,
    c_int,
    c_uint,
    c_ulonglong,
    c_void_p,
    create_string_buffer,
)
from typing import Any

from gpunode.probes.devices import ProbeError, function, load, report

_TEXT_BYTES = 96  # NVML's longest fixed text field

# nvmlReturn_t in nvml.h
_ERROR_NAMES = {
    1: "UNINITIALIZED",
    2: "INVALID_ARGUMENT",
    3: "NOT_SUPPORTED",
    4: "NO_PERMISSION",
    5: "ALREADY_INITIALIZED",
    6: "NOT_FOUND",
    7: "INSUFFICIENT_SIZE",
    8: "INSUFFICIENT_POWER",
    9: "DRIVER_NOT_LOADED",
    10: "TIMEOUT",
    11: "IRQ_ISSUE",
    12: "LIBRARY_NOT_FOUND",
    13: "FUNCTION_NOT_FOUND",
    14: "CORRUPTED_INFOROM",
    15: "GPU_IS_LOST",
    16: "RESET_REQUIRED",
    17: "OPERATING_SYSTEM",
    18: "LIB_RM_VERSION_MISMATCH",
    19: "IN_USE",
    20: "MEMORY",
    21: "NO_DATA",
    22: "VGPU_ECC_NOT_SUPPORTED",
    23: "INSUFFICIENT_RESOURCES",
    24: "FREQ_NOT_SUPPORTED",
    25: "ARGUMENT_VERSION_MISMATCH",
    26: "DEPRECATED",
    27: "NOT_READY",
    28: "GPU_NOT_FOUND",
    29: "INVALID_STATE",
    999: "UNKNOWN",
}


class _PciInfo(Structure):  # nvmlPciInfo_t
    _fields_ = (
        ("bus_id_legacy", c_char * 16),
        ("domain", c_uint),
        ("bus", c_uint),
        ("device", c_uint),
        ("device_id", c_uint),
        ("subsystem_id", c_uint),
        ("bus_id", c_char * 32),
    )


class _Memory(Structure):  # nvmlMemory_t, bytes
    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class _Nvml:
    """The library's calls, each of which raises ProbeError where NVML does not answer 0."""

    def __init__(self, library: CDLL) -> None:
        self._library = library

    def call(self, name: str, argtypes: tuple[Any, ...], *arguments: Any) -> None:
        code: int = function(self._library, name, argtypes)(*arguments)
        if code != 0:
            message = function(self._library, "nvmlErrorString", (c_int,), c_char_p)(code)
            raise ProbeError(name, code, f"NVML_ERROR_{_ERROR_NAMES.get(code, code)}", message.decode())

    def text(self, name: str, *handle: c_void_p) -> str:
        """What a call writes into a buffer of the caller's, asked of a device or of the system."""
        buffer = create_string_buffer(_TEXT_BYTES)
        self.call(name, (*(c_void_p for _ in handle), c_char_p, c_uint), *handle, buffer, _TEXT_BYTES)
        return buffer.value.decode()

    def gpu(self, index: int) -> dict[str, Any]:
        handle, pci, memory = c_void_p(), _PciInfo(), _Memory()
        self.call("nvmlDeviceGetHandleByIndex_v2", (c_uint, POINTER(c_void_p)), index, byref(handle))
        self.call("nvmlDeviceGetPciInfo_v3", (c_void_p, POINTER(_PciInfo)), handle, byref(pci))
        self.call("nvmlDeviceGetMemoryInfo", (c_void_p, POINTER(_Memory)), handle, byref(memory))
        return {
            "index": index,
            "name": self.text("nvmlDeviceGetName", handle),
            "uuid": self.text("nvmlDeviceGetUUID", handle),
            "pci": f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0",
            "memory_total": memory.total,
        }

    def health(self, index: int) -> dict[str, Any]:
        """A GPU as `gpu` tells it, and how it is; of one that does not answer, its index and the error's name."""
        try:
            found = self.gpu(index)
            handle = c_void_p()
            self.call("nvmlDeviceGetHandleByIndex_v2", (c_uint, POINTER(c_void_p)), index, byref(handle))
            return {**found, **{name: ask(self, handle) for name, ask in _HEALTH.items()}}
        except ProbeError as error:
            return {"index": index, "error": error.name}

    def number(self, name: str, kind: Any, handle: c_void_p, *arguments: int) -> int | None:
        """What a call of one result answers; None where driver or GPU have no such thing. Raises ProbeError for any other failure."""
        found = self.numbers(name, (kind,), handle, *arguments)
        return found[0] if found else None

    def numbers(self, name: str, kinds: tuple[Any, ...], handle: c_void_p, *arguments: int) -> list[int] | None:
        """Likewise of several results."""
        results = [kind() for kind in kinds]
        types = (c_void_p, *(c_uint for _ in arguments), *(POINTER(kind) for kind in kinds))
        try:
            self.call(name, types, handle, *arguments, *(byref(result) for result in results))
        except ProbeError as error:
            if error.code in _NOT_TOLD:
                return None
            raise
        return [int(result.value) for result in results]

    def system(self, gpu: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
        cuda, count = c_int(), c_uint()
        self.call("nvmlSystemGetCudaDriverVersion_v2", (POINTER(c_int),), byref(cuda))
        self.call("nvmlDeviceGetCount_v2", (POINTER(c_uint),), byref(count))
        return {
            "driver_version": self.text("nvmlSystemGetDriverVersion"),
            "nvml_version": self.text("nvmlSystemGetNVMLVersion"),
            "cuda_version": f"{cuda.value // 1000}.{cuda.value % 1000 // 10}",
            "gpus": [gpu(index) for index in range(count.value)],
        }


_NOT_TOLD = (None, 2, 3, 4, 6, 13)
"""No such function in this driver, and NVML's own words for what a GPU does not have or does not tell everybody."""
_UNCORRECTED, _SINCE_LOADED = 1, 0
_MOST_LINKS = 36


def _link(nvml: _Nvml, handle: c_void_p) -> dict[str, int | None]:
    names = {
        "generation": "nvmlDeviceGetCurrPcieLinkGeneration",
        "width": "nvmlDeviceGetCurrPcieLinkWidth",
        "max_generation": "nvmlDeviceGetMaxPcieLinkGeneration",
        "max_width": "nvmlDeviceGetMaxPcieLinkWidth",
    }
    return {key: nvml.number(name, c_uint, handle) for key, name in names.items()}


def _slowdown(nvml: _Nvml, handle: c_void_p) -> int | None:
    """NVML's bits for why the clocks are what they are; drivers before 535 have them under another name."""
    names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    found = (nvml.number(name, c_ulonglong, handle) for name in names)
    return next((bits for bits in found if bits is not None), None)


def _nvlinks(nvml: _Nvml, handle: c_void_p) -> list[bool]:
    """Whether each NVLink is up; empty for a GPU without."""
    states: list[bool] = []
    for link in range(_MOST_LINKS):
        state = nvml.number("nvmlDeviceGetNvLinkState", c_int, handle, link)
        if state is None:
            break
        states.append(bool(state))
    return states


_HEALTH: dict[str, Callable[[_Nvml, c_void_p], Any]] = {
    "minor": lambda nvml, gpu: nvml.number("nvmlDeviceGetMinorNumber", c_uint, gpu),
    "ecc_uncorrected": lambda nvml, gpu: nvml.number(
        "nvmlDeviceGetTotalEccErrors", c_ulonglong, gpu, _UNCORRECTED, _SINCE_LOADED
    ),
    # correctable, uncorrectable, whether some wait for a reset, whether remapping failed
    "rows": lambda nvml, gpu: nvml.numbers("nvmlDeviceGetRemappedRows", (c_uint,) * 4, gpu),
    "pages_pending": lambda nvml, gpu: nvml.number("nvmlDeviceGetRetiredPagesPendingStatus", c_int, gpu),
    "slowdown": _slowdown,
    "temperature": lambda nvml, gpu: nvml.number("nvmlDeviceGetTemperature", c_uint, gpu, 0),
    "performance_state": lambda nvml, gpu: nvml.number("nvmlDeviceGetPerformanceState", c_int, gpu),
    "link": _link,
    "mig": lambda nvml, gpu: nvml.numbers("nvmlDeviceGetMigMode", (c_uint, c_uint), gpu),  # now, after a reset
    "nvlinks": _nvlinks,
}


def query() -> dict[str, Any]:
    """The driver's versions and its GPUs: index, name, UUID, PCI address as in sysfs, memory in bytes.

    Raises ProbeError with NVML's code for the call that failed, or without one where the library is missing.
    """
    return _asked(lambda nvml: nvml.system(nvml.gpu))


def health() -> dict[str, Any]:
    """As `query`, and how each GPU is, None for what driver or GPU do not tell. A GPU that fails does not hide the others."""
    return _asked(lambda nvml: nvml.system(nvml.health))


def _asked(question: Callable[[_Nvml], dict[str, Any]]) -> dict[str, Any]:
    library = load("libnvidia-ml.so.1")
    nvml = _Nvml(library)
    nvml.call("nvmlInit_v2", ())
    try:
        return question(nvml)
    finally:
        function(library, "nvmlShutdown", ())()  # its own failure must not hide the one that led here


if __name__ == "__main__":
    sys.exit(report(health if sys.argv[1:] == ["health"] else query))
