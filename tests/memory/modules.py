"""Kernel modules, the loader's cache, the initramfs, and the probes that stand on them."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

from memory import units
from memory.command import Answer, Call

if TYPE_CHECKING:
    from memory.machine import MemoryMachine

LIBRARIES = "/usr/lib/x86_64-linux-gnu"
FAMILY = ("nvidia", "nvidia_uvm", "nvidia_modeset", "nvidia_drm")


def built(machine: MemoryMachine) -> dict[str, str]:
    """`version` and `flavour` of the driver's module built for the running kernel; empty when there is none."""
    text = machine.files.text(f"/usr/lib/modules/{machine.identity.kernel}/updates/dkms/nvidia.ko")
    return dict(line.partition("=")[::2] for line in text.splitlines())


def modprobe(machine: MemoryMachine, call: Call) -> Answer:
    """`modprobe NAME`, `modprobe --remove NAME`."""
    name = call.operands()[0].replace("-", "_")
    loaded = machine.files.exists(f"/sys/module/{name}")
    if {"-r", "--remove"} & set(call.words):
        return _unload(machine, name) if loaded else Answer()
    if loaded:
        return Answer()
    if name not in FAMILY or not built(machine):
        folder = f"/lib/modules/{machine.identity.kernel}"
        return Answer(
            stderr=f"modprobe: FATAL: Module {call.operands()[0]} not found in directory {folder}\n", status=1
        )
    if not machine.gpus:
        return Answer(stderr=f"modprobe: ERROR: could not insert '{name}': No such device\n", status=1)
    machine.effect(f"load {name}", lambda: load(machine, name))
    return Answer()


def load(machine: MemoryMachine, name: str) -> None:
    """What the kernel shows once a module is loaded, and those it needs with it."""
    version, flavour = built(machine)["version"], built(machine)["flavour"]
    for each in {"nvidia", name}:
        machine.files.lay(f"/sys/module/{each}/refcnt", "0\n")
    machine.files.lay("/sys/module/nvidia/version", f"{version}\n")
    words = "Open Kernel Module for x86_64" if flavour == "open" else "x86_64 Kernel Module"
    machine.files.lay("/proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX {words}  {version}  Release Build\n")
    for index, _gpu in enumerate(machine.gpus):
        machine.files.lay(f"/dev/nvidia{index}", "")
    machine.files.lay("/dev/nvidiactl", "")


def unload(machine: MemoryMachine) -> None:
    """What is gone with the driver's modules."""
    for path in (*(f"/sys/module/{name}" for name in FAMILY), "/proc/driver/nvidia", "/dev/nvidiactl"):
        machine.files.erase(path)
    for index, _gpu in enumerate(machine.gpus):
        machine.files.erase(f"/dev/nvidia{index}")


def _unload(machine: MemoryMachine, name: str) -> Answer:
    others = [each for each in FAMILY if each != name and machine.files.exists(f"/sys/module/{each}")]
    persistenced = machine.units.get("nvidia-persistenced.service", units.UnitState()).active == "active"
    if name == "nvidia" and (others or persistenced):
        return Answer(stderr=f"modprobe: FATAL: Module {name} is in use.\n", status=1)
    change = (lambda: unload(machine)) if name == "nvidia" else (lambda: machine.files.erase(f"/sys/module/{name}"))
    machine.effect(f"unload {name}", change)
    return Answer()


def modinfo(machine: MemoryMachine, call: Call) -> Answer:
    """`modinfo -k RELEASE -F FIELD nvidia`."""
    found = built(machine)
    if call.words[-1] != "nvidia" or not found:
        return Answer(stderr=f"modinfo: ERROR: Module {call.words[-1]} not found.\n", status=1)
    path = f"/lib/modules/{machine.identity.kernel}/updates/dkms/nvidia.ko"
    licence = "Dual MIT/GPL" if found.get("flavour") == "open" else "NVIDIA"
    fields = {"filename": path, "version": found["version"], "license": licence}
    return Answer(fields.get(call.words[-2], "") + "\n")


def dkms(machine: MemoryMachine, _call: Call) -> Answer:
    """`dkms status`."""
    found = built(machine)
    if not found:
        return Answer()
    return Answer(f"nvidia/{found['version']}, {machine.identity.kernel}, x86_64: installed\n")


def ldconfig(machine: MemoryMachine, call: Call) -> Answer:
    """`ldconfig` writes the loader's cache, `ldconfig -p` prints it."""
    if "-p" in call.words:
        cache = machine.files.read("/etc/ld.so.cache") if machine.files.exists("/etc/ld.so.cache") else b""
        lines = cache.rpartition(b"\0\n")[2].decode().splitlines()
        return Answer(f"{len(lines)} libs found in cache `/etc/ld.so.cache'\n" + "".join(f"{line}\n" for line in lines))
    machine.effect("ldconfig", lambda: write_loader_cache(machine))
    return Answer()


def write_loader_cache(machine: MemoryMachine) -> None:
    """Every library in the loader's folders, in the loader's format; behind it the lines that `ldconfig -p` prints."""
    folders = [LIBRARIES]
    for name in machine.files.names("/etc/ld.so.conf.d"):
        folders += machine.files.text(f"/etc/ld.so.conf.d/{name}").split()
    paths = [f"{folder}/{name}" for folder in folders for name in machine.files.names(folder) if ".so" in name]
    here = {path: path.rpartition("/")[2] for path in paths if machine.files.exists(path)}
    lines = [f"\t{name} (libc6,x86-64) => {path}\n" for path, name in here.items()]
    named = {name: [path for path, each in here.items() if each == name] for name in here.values()}
    machine.files.lay("/etc/ld.so.cache", loader_cache(named) + b"\0\n" + "".join(lines).encode())


def loader_cache(libraries: dict[str, list[str]]) -> bytes:
    """A cache as ldconfig writes it."""
    pairs = [(name, path) for name, paths in libraries.items() for path in paths]
    strings, entries, start = b"", b"", 48 + 24 * len(pairs)
    for name, path in pairs:
        entries += struct.pack("<iIIIQ", 0x303, start + len(strings), start + len(strings) + len(name) + 1, 0, 0)
        strings += name.encode() + b"\0" + path.encode() + b"\0"
    return struct.pack("<20sII4xI12x", b"glibc-ld.so.cache1.1", len(pairs), len(strings), 0) + entries + strings


def update_initramfs(machine: MemoryMachine, _call: Call) -> Answer:
    """The initramfs holds modprobe's configuration as it is now."""
    kernel = machine.identity.kernel
    config = "".join(machine.files.text(f"/etc/modprobe.d/{name}") for name in machine.files.names("/etc/modprobe.d"))
    machine.effect("update-initramfs", lambda: machine.files.lay(f"/boot/initrd.img-{kernel}", config))
    return Answer(f"update-initramfs: Generating /boot/initrd.img-{kernel}\n")


def python3(machine: MemoryMachine, call: Call) -> Answer:
    """The product's own probes, answered from the state of the machine."""
    probe = {"gpunode.probes.nvml": _nvml, "gpunode.probes.cuda": _cuda}.get(call.words[1])
    if call.words[0] != "-m" or probe is None:
        return Answer(stderr=f"/usr/bin/python3: No module named {call.words[1]}\n", status=1)
    document = probe(machine)
    return Answer(json.dumps(document) + "\n", status=int("error" in document))


def _nvml(machine: MemoryMachine) -> dict[str, object]:
    library, loaded = _library(machine, "libnvidia-ml.so"), machine.files.text("/sys/module/nvidia/version").strip()
    if not library:
        words = "libnvidia-ml.so.1: cannot open shared object file: No such file or directory"
        return _error(None, "LIBRARY_NOT_FOUND", words, "dlopen")
    if not loaded:
        return _error(9, "NVML_ERROR_DRIVER_NOT_LOADED", "Driver Not Loaded", "nvmlInit_v2")
    if loaded != library:
        return _error(18, "NVML_ERROR_LIB_RM_VERSION_MISMATCH", "Driver/library version mismatch", "nvmlInit_v2")
    gpus = [
        {
            "index": index,
            "name": "NVIDIA H100 80GB HBM3",
            "uuid": f"GPU-{index:032x}",
            "pci": pci,
            "memory_total": 80 << 30,
        }
        for index, pci in enumerate(machine.gpus)
    ]
    return {"driver_version": loaded, "nvml_version": f"13.{loaded}", "cuda_version": "13.0", "gpus": gpus}


def _cuda(machine: MemoryMachine) -> dict[str, object]:
    library, loaded = _library(machine, "libcuda.so"), machine.files.text("/sys/module/nvidia/version").strip()
    if not library:
        words = "libcuda.so.1: cannot open shared object file: No such file or directory"
        return _error(None, "LIBRARY_NOT_FOUND", words, "dlopen")
    if not loaded or loaded != library:
        return _error(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver", "cuInit")
    shape = {"elements": 50000, "blocks": 196, "threads": 256, "wrong": 0}
    return {**shape, "device": "NVIDIA H100 80GB HBM3", "uuid": f"GPU-{0:032x}", "driver_api": 13000, "passed": True}


def _library(machine: MemoryMachine, name: str) -> str:
    """The version of the library that the loader would find; empty when there is none."""
    return (
        machine.files.resolve(f"{LIBRARIES}/{name}.1").partition(f"/{name}.")[2]
        if machine.files.exists(f"{LIBRARIES}/{name}.1")
        else ""
    )


def _error(code: int | None, name: str, message: str, call: str) -> dict[str, object]:
    return {"error": {"code": code, "name": name, "message": message, "call": call}}
