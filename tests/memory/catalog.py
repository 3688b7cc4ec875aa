"""Packages as the repositories offer them: NVIDIA's by their names and versions, a few of the distribution's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory import accounts, keys, units
from memory.modules import LIBRARIES, write_loader_cache
from memory.packages import Deb, Repository, Script, ScriptError

if TYPE_CHECKING:
    from memory.machine import MemoryMachine

CUDA = "https://developer.download.nvidia.com/compute/cuda/repos/debian13/x86_64/"
TOOLKIT = "https://nvidia.github.io/libnvidia-container/stable/deb/amd64/"
DRIVERS = ("580.126.20", "580.159.04", "580.178.01")
PARTS = ("libcuda1", "libnvidia-ml1", "nvidia-smi", "nvidia-modprobe", "nvidia-persistenced")
INSTALL = "[Install]\nWantedBy=multi-user.target\n"


def driver(version: str, meta: str = "nvidia-open") -> tuple[str, ...]:
    """Names of all packages of a driver: apt takes another version than the candidate only of what is named."""
    kernel = "nvidia-kernel-open-dkms" if meta == "nvidia-open" else "nvidia-kernel-dkms"
    return tuple(f"{name}={version}-1" for name in (meta, kernel, *PARTS))


def unit(command: str, *, install: bool = True) -> str:
    """The text of a service's unit file."""
    return f"[Service]\nExecStart={command}\n{INSTALL if install else ''}"


def repositories() -> list[Repository]:
    """NVIDIA's two repositories, each signed by a key of its own making (see keys.py)."""
    driver = [deb for version in DRIVERS for deb in _driver(version)]
    toolkit = [deb for version in ("1.19.1", "1.20.0") for deb in _container_toolkit(version)]
    return [
        Repository(CUDA, (*driver, *_cuda("13.0", "13.0.2"), *_cuda("12.8", "12.8.1")), keys.public_key("cuda")),
        Repository(TOOLKIT, tuple(toolkit), keys.public_key("container-toolkit")),
    ]


def enabling(name: str, *, start: bool) -> Script:
    """A postinst that enables a unit, and starts it, as debhelper's do."""

    def script(machine: MemoryMachine) -> None:
        machine.files.link(f"{units.WANTS}/{name}", units.unit_file(machine, name))
        if start:
            units.start(machine, name)

    return script


def _driver(version: str) -> list[Deb]:
    full = f"{version}-1"
    exact = tuple(f"{name} (= {full})" for name in PARTS)
    daemon = "nvidia-persistenced.service"
    library = {
        name: Deb(
            package,
            full,
            files={f"{LIBRARIES}/{name}.so.{version}": version},
            links={f"{LIBRARIES}/{name}.so.1": f"{name}.so.{version}"},
            postinst=write_loader_cache,
            postrm=write_loader_cache,
        )
        for name, package in (("libcuda", "libcuda1"), ("libnvidia-ml", "libnvidia-ml1"))
    }
    fabric_manager = "nvidia-fabricmanager.service"
    fabric_files = {
        "/usr/bin/nv-fabricmanager": "#!",
        f"/usr/lib/systemd/system/{fabric_manager}": unit("/usr/bin/nv-fabricmanager"),
    }
    return [
        Deb("nvidia-open", full, (f"nvidia-kernel-open-dkms (= {full})", *exact)),
        Deb("cuda-drivers", full, (f"nvidia-kernel-dkms (= {full})", *exact)),
        _dkms("nvidia-kernel-open-dkms", version, "open", "nvidia-kernel-dkms"),
        _dkms("nvidia-kernel-dkms", version, "proprietary", "nvidia-kernel-open-dkms"),
        *library.values(),
        Deb("nvidia-smi", full, (f"libnvidia-ml1 (= {full})",), {"/usr/bin/nvidia-smi": "#!"}),
        Deb("nvidia-modprobe", full, (), {"/usr/bin/nvidia-modprobe": "#!"}),
        Deb(
            "nvidia-persistenced",
            full,
            (),
            {
                "/usr/bin/nvidia-persistenced": "#!",
                f"/usr/lib/systemd/system/{daemon}": unit("/usr/bin/nvidia-persistenced"),
                "/var/lib/dpkg/info/nvidia-persistenced.postinst": "#!/bin/sh\nuseradd nvidia-persistenced\n",
            },
            postinst=_set_up_persistenced,
        ),
        Deb("nvidia-fabricmanager", full, (), fabric_files),
    ]


def _set_up_persistenced(machine: MemoryMachine) -> None:
    """It makes a system user, which as with the real package no script removes."""
    accounts.add(machine, "nvidia-persistenced")
    enabling("nvidia-persistenced.service", start=False)(machine)


def _dkms(name: str, version: str, flavour: str, other: str) -> Deb:
    source = f"/usr/src/nvidia-{version}/dkms.conf"

    def module(machine: MemoryMachine) -> str:
        return f"/usr/lib/modules/{machine.identity.kernel}/updates/dkms/nvidia.ko"

    def build(machine: MemoryMachine) -> None:
        kernel = machine.identity.kernel
        if not machine.files.exists(f"/lib/modules/{kernel}/build"):
            raise ScriptError(
                f"Error! Your kernel headers for kernel {kernel} cannot be found at /lib/modules/{kernel}/build."
            )
        machine.files.lay(module(machine), f"version={version}\nflavour={flavour}\n")

    def take_off(machine: MemoryMachine) -> None:
        machine.files.erase(f"/usr/lib/modules/{machine.identity.kernel}/updates")

    return Deb(
        name,
        f"{version}-1",
        ("gcc", "make"),
        {source: "", "/usr/lib/modules-load.d/nvidia.conf": "nvidia\n"},
        conflicts=(other,),
        postinst=build,
        prerm=take_off,
    )


def _cuda(release: str, version: str) -> list[Deb]:
    dashed, folder = release.replace(".", "-"), f"/usr/local/cuda-{release}"

    def choose(machine: MemoryMachine) -> None:
        machine.files.link("/usr/local/cuda", folder)

    def leave(machine: MemoryMachine) -> None:
        if machine.realpath("/usr/local/cuda") == folder:
            machine.files.erase("/usr/local/cuda")

    files = {
        f"{folder}/bin/nvcc": f"#!release {version}",
        f"{folder}/version.json": version,
        f"{folder}/lib64/libcudart.so.13": version,
    }
    return [
        Deb(f"cuda-toolkit-{dashed}", f"{version}-1", (), files, postinst=choose, prerm=leave),
        Deb("cuda", f"{version}-1", (f"cuda-toolkit-{dashed}", "cuda-drivers")),
    ]


def _container_toolkit(version: str) -> list[Deb]:
    full, config = f"{version}-1", "/etc/nvidia-container-runtime/config.toml"
    base = {f"/usr/bin/{name}": "#!" for name in ("nvidia-container-runtime", "nvidia-ctk", "nvidia-cdi-hook")}
    refresh = "/usr/lib/systemd/system/nvidia-cdi-refresh"
    base |= {
        config: 'mode = "auto"\n',
        f"{refresh}.path": INSTALL,
        f"{refresh}.service": unit("/usr/bin/nvidia-ctk", install=False),
    }
    return [
        Deb(
            "nvidia-container-toolkit",
            full,
            (f"nvidia-container-toolkit-base (= {full})", f"libnvidia-container-tools (>= {full})"),
            {"/usr/bin/nvidia-container-runtime-hook": "#!"},
        ),
        Deb(
            "nvidia-container-toolkit-base",
            full,
            (),
            base,
            conffiles=frozenset({config}),
            postinst=enabling("nvidia-cdi-refresh.path", start=True),
        ),
        Deb(
            "libnvidia-container-tools",
            full,
            (f"libnvidia-container1 (>= {full})",),
            {"/usr/bin/nvidia-container-cli": "#!"},
        ),
        Deb(
            "libnvidia-container1",
            full,
            (),
            {f"{LIBRARIES}/libnvidia-container.so.1": version},
            postinst=write_loader_cache,
            postrm=write_loader_cache,
        ),
    ]


def archive(kernel: str) -> list[Deb]:
    """What Debian's own archive offers beyond what is installed."""
    headers = f"/usr/src/linux-headers-{kernel}"
    return [
        Deb(
            f"linux-headers-{kernel}",
            "6.12.107-1",
            (),
            {f"{headers}/Makefile": ""},
            {f"/usr/lib/modules/{kernel}/build": headers},
        ),
        Deb("gcc", "4:14.2.0-1", (), {"/usr/bin/gcc": "#!"}),
        Deb("make", "4.4.1-2", (), {"/usr/bin/make": "#!"}),
        Deb("dkms", "3.2.2-1~deb13u1", ("gcc", "make"), {"/usr/sbin/dkms": "#!"}),
        Deb("libxml2", "2.12.7+dfsg-1", (), {f"{LIBRARIES}/libxml2.so.2": ""}),
        Deb("jq", "1.7.1-6", ("libjq1 (= 1.7.1-6)",), {"/usr/bin/jq": "#!"}),
        Deb("libjq1", "1.7.1-6", (), {f"{LIBRARIES}/libjq.so.1": ""}),
    ]
