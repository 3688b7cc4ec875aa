"""Kernel modules: read from the kernel's own files, loaded and unloaded by modprobe."""

from __future__ import annotations

from gpunode.errors import CommandError
from gpunode.host.machine import Machine
from gpunode.host.reader import Reader

MODPROBE_SECONDS = 120.0

UNSIGNED = "Secure Boot refuses an unsigned module: enrol the key (mokutil --import), or use signed modules"
HINTS = (
    ("Key was rejected by service", UNSIGNED),
    ("Required key not available", UNSIGNED),
    (
        "Operation not permitted",
        "the kernel takes no modules: locked down (`dmesg | grep -i lockdown`), kernel.modules_disabled, or a container",
    ),
    ("not found in directory", "no module was built for the running kernel: see `dkms status`"),
    ("No such device", "the module found no GPU that it supports: see `dmesg | grep NVRM`"),
    ("is in use", "something still uses the GPU: see `fuser -v /dev/nvidia*`"),
)


def is_loaded(reader: Reader, module: str) -> bool:
    """True when the running kernel has the module."""
    return reader.lstat(f"/sys/module/{module.replace('-', '_')}") is not None


def is_available(reader: Reader, module: str) -> bool:
    """True when the running kernel could load the module."""
    return reader.query(["modinfo", "--field", "filename", module]).ok


def load(machine: Machine, module: str) -> None:
    """`modprobe MODULE`. Raises CommandError."""
    _modprobe(machine, "load", module, ["modprobe", module])


def unload(machine: Machine, module: str) -> None:
    """`modprobe --remove MODULE`. Raises CommandError, for example when it is in use."""
    _modprobe(machine, "unload", module, ["modprobe", "--remove", module])


def _modprobe(machine: Machine, verb: str, module: str, argv: list[str]) -> None:
    output = machine.run(argv, timeout=MODPROBE_SECONDS)
    if not output.ok:
        words = output.last_words(3) or (f"exit status {output.returncode}",)
        hint = next((hint for text, hint in HINTS if any(text in line for line in words)), "see `dmesg | tail`")
        raise CommandError(f"cannot {verb} the kernel module {module}: {words[-1]}", hint=hint, details=words)
