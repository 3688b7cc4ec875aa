"""`sh FILE.run` and what it installs: files on a record, removed by its own uninstaller."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gpunode.host.installers import Installer
from memory.command import Answer, Call
from memory.dpkg import take_empty_folders
from memory.modules import LIBRARIES, write_loader_cache

if TYPE_CHECKING:
    from memory.machine import MemoryMachine

LOG = "/var/log/nvidia-installer.log"
RECORD = "/var/lib/nvidia/log"
TOOLKIT_LOG = "/var/log/cuda-installer.log"
XML = f"{LIBRARIES}/libxml2.so.2"
"""What the toolkit's installer is linked with."""


def runfile(version: str) -> bytes:
    """A driver installer of the version."""
    return f"#!/bin/sh\n# NVIDIA-Linux-x86_64 {version}\n".encode()


def toolkit_runfile(version: str) -> bytes:
    """An installer of a CUDA toolkit of the version, `13.0`."""
    return f"#!/bin/sh\n# CUDA toolkit {version}\n".encode()


def driver_installer(sha256: str = "") -> Installer:
    """The driver's installer as the step has it; `sha256` is the wanted one where it is not the file's."""
    return Installer(
        thing="driver",
        key="driver.runfile",
        source="https://us.download.nvidia.com/tesla/580.159.04/NVIDIA-Linux-x86_64-580.159.04.run",
        sha256=sha256 or hashlib.sha256(runfile("580.159.04")).hexdigest(),
        arguments=("--silent", "--dkms"),
        uninstaller=("/usr/bin/nvidia-uninstall", "--silent"),
        record=RECORD,
        log=LOG,
        takes_off=("--uninstall", "--silent"),
    )


def toolkit_installer(path: str) -> Installer:
    """The toolkit's installer of CUDA 13.0 as the step has it, from a file on the host."""
    folder = "/usr/local/cuda-13.0"
    return Installer(
        thing="CUDA toolkit",
        key="cuda.runfile",
        source=path,
        sha256=hashlib.sha256(toolkit_runfile("13.0")).hexdigest(),
        arguments=("--silent", "--toolkit", f"--toolkitpath={folder}"),
        uninstaller=(f"{folder}/bin/cuda-uninstaller", "--silent"),
        record=folder,
        log=TOOLKIT_LOG,
        link="/usr/local/cuda",
    )


def sh(machine: MemoryMachine, call: Call) -> Answer:
    """Run an installer; a driver's takes an installation off by `--uninstall`."""
    first, _, version = machine.files.text(call.words[0]).strip().rpartition(" ")
    if first.endswith("CUDA toolkit"):
        return _install_toolkit(machine, call, version)
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


def _install_toolkit(machine: MemoryMachine, call: Call, version: str) -> Answer:
    """The files, then the uninstaller with its manifest; the link is the installer's own doing."""
    folder = f"/usr/local/cuda-{version}"
    if not {"--toolkit", f"--toolkitpath={folder}"} <= set(call.words) or not machine.files.exists(XML):
        machine.effect("installer log", lambda: machine.files.lay(TOOLKIT_LOG, "[ERROR]: Install of toolkit failed\n"))
        return Answer(stderr="Installation failed. See log at /var/log/cuda-installer.log for details.\n", status=1)
    machine.effect("installer log", lambda: machine.files.lay(TOOLKIT_LOG, f"[INFO]: Installed: {version}\n"))
    for name in ("bin/nvcc", "version.json", "bin/cuda-uninstaller"):
        path = f"{folder}/{name}"
        machine.effect(f"install {path}", lambda path=path: machine.files.lay(path, "#!", mode=0o755))  # type: ignore[misc] # mypy knows no bound default
    machine.effect("toolkit link", lambda: machine.files.link("/usr/local/cuda", f"{folder}/"))
    return Answer("Installed\n")


def uninstall_toolkit(machine: MemoryMachine, _call: Call) -> Answer:
    """`/usr/local/cuda-13.0/bin/cuda-uninstaller --silent`: itself last, and the link where it is its own."""
    folder = machine.commands[-1][0].rpartition("/bin/")[0]
    if machine.files.stat("/usr/local/cuda") and machine.files.resolve("/usr/local/cuda") == folder:
        machine.effect("toolkit link", lambda: machine.files.remove("/usr/local/cuda"))
    for name in ("bin/nvcc", "version.json", "bin/cuda-uninstaller"):
        path = f"{folder}/{name}"
        if machine.files.node(path):
            machine.effect(f"uninstall {path}", lambda path=path: _take_off(machine, path))  # type: ignore[misc] # mypy knows no bound default
    return Answer()


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
