"""`sh FILE.run` and what it installs: files on a record, removed by its own uninstaller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory.command import Answer, Call
from memory.dpkg import take_empty_folders
from memory.modules import LIBRARIES, write_loader_cache

if TYPE_CHECKING:
    from memory.machine import MemoryMachine

LOG = "/var/log/nvidia-installer.log"
RECORD = "/var/lib/nvidia/log"


def runfile(version: str) -> bytes:
    """A driver installer of the version."""
    return f"#!/bin/sh\n# NVIDIA-Linux-x86_64 {version}\n".encode()


def sh(machine: MemoryMachine, call: Call) -> Answer:
    """Run a driver installer; `--uninstall` takes an installation off."""
    first, _, version = machine.files.text(call.words[0]).strip().rpartition(" ")
    if not first.endswith("NVIDIA-Linux-x86_64"):
        return Answer(stderr=f"sh: 0: cannot open {call.words[0]}\n", status=2)
    if "--uninstall" in call.words:
        return uninstall(machine, call)
    if machine.files.exists("/sys/module/nvidia"):
        return _failure(machine, "An NVIDIA kernel module 'nvidia' appears to be already loaded in your kernel.")
    proprietary = any(word in call.words for word in ("--kernel-module-type=proprietary", "-m=kernel"))
    flavour = "proprietary" if proprietary else "open"
    machine.effect("installer log", lambda: machine.files.lay(LOG, "nvidia-installer log file\n"))
    for path, content in _payload(machine, version, flavour).items():
        machine.effect(f"install {path}", lambda path=path, content=content: _place(machine, path, content))  # type: ignore[misc] # mypy knows no bound default
    machine.effect("loader cache", lambda: write_loader_cache(machine))
    return Answer("Installation is now complete.\n")


def uninstall(machine: MemoryMachine, _call: Call) -> Answer:
    """`nvidia-uninstall --silent`."""
    if not machine.files.exists(RECORD):
        return _failure(machine, "There is no NVIDIA driver currently installed.")
    for path in reversed(machine.files.text(RECORD).split()):
        if machine.files.node(path):
            machine.effect(f"uninstall {path}", lambda path=path: _take_off(machine, path))  # type: ignore[misc] # mypy knows no bound default
    machine.effect("forget installation", lambda: machine.files.erase("/var/lib/nvidia"))
    machine.effect("loader cache", lambda: write_loader_cache(machine))
    return Answer("Uninstallation is complete.\n")


def _payload(machine: MemoryMachine, version: str, flavour: str) -> dict[str, str]:
    module = f"/usr/lib/modules/{machine.identity.kernel}/updates/dkms/nvidia.ko"
    libraries = {f"{LIBRARIES}/{name}.so.1": f"-> {name}.so.{version}" for name in ("libcuda", "libnvidia-ml")}
    real = {f"{LIBRARIES}/{name}.so.{version}": version for name in ("libcuda", "libnvidia-ml")}
    return {
        module: f"version={version}\nflavour={flavour}\n",
        **real,
        **libraries,
        "/usr/bin/nvidia-smi": "#!/bin/sh\n",
        "/usr/bin/nvidia-uninstall": "#!/bin/sh\n",
    }


def _place(machine: MemoryMachine, path: str, content: str) -> None:
    # What will be there is on the record before it is.
    if path not in machine.files.text(RECORD).split():
        machine.files.lay(RECORD, machine.files.text(RECORD) + f"{path}\n")
    if content.startswith("-> "):
        machine.files.link(path, content[3:])
    else:
        machine.files.lay(path, content, mode=0o755)


def _take_off(machine: MemoryMachine, path: str) -> None:
    machine.files.remove(path)
    take_empty_folders(machine, path.rpartition("/")[0])


def _failure(machine: MemoryMachine, words: str) -> Answer:
    machine.effect("installer log", lambda: machine.files.lay(LOG, f"ERROR: {words}\n"))
    return Answer(stderr=f"\nERROR: {words}\n\n", status=1)
