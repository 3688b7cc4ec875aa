"""What gpunode needs to know of a host before it can say what should be there: read once, cheaply, from the kernel's own files."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpunode.catalog import Catalog
from gpunode.catalog.model import Distribution, Flavour
from gpunode.errors import HostError
from gpunode.host.reader import Reader

PCI = "/sys/bus/pci/devices"
NVIDIA = "0x10de"
DRIVER_VERSION = "/proc/driver/nvidia/version"
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
SEARCH_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/snap/bin")


@dataclass(frozen=True)
class Gpu:
    """A GPU as PCI shows it."""

    address: str
    device: int


@dataclass(frozen=True)
class LoadedDriver:
    """The kernel module that runs now. `modules` is `open` or `proprietary`."""

    version: str
    modules: str


@dataclass(frozen=True)
class Archive:
    """The distribution's own archive, as the host's apt sources name it."""

    uri: str
    suite: str
    signed_by: str


@dataclass(frozen=True)
class Facts:
    """A host at one moment. Everything in it was read, nothing was asked of a GPU. `free` is in bytes, of the root file system."""

    os_id: str
    os_version: str
    os_name: str
    distribution: Distribution | None
    architecture: str
    kernel: str
    root: bool
    gpus: tuple[Gpu, ...]
    nvswitches: int
    nouveau: bool
    driver: LoadedDriver | None
    headers: bool
    secure_boot: bool | None
    containerd: str
    flavour: Flavour
    kubectl: bool
    kubeconfig: str | None
    kubelet: bool
    hostname: str
    free: int
    now: float
    runfile_driver: bool = False
    initramfs: str = ""
    engine_unit: str = ""
    archive: Archive | None = None

    @property
    def libraries(self) -> str:
        """Where this distribution keeps shared libraries; empty for an unknown one."""
        return self.distribution.libraries.get(self.architecture, "") if self.distribution else ""


def gather(reader: Reader, catalog: Catalog, *, flavour: str = "auto", kubeconfig: str | None = None) -> Facts:
    """Read the host. `flavour` and `kubeconfig` are the profile's, where it names them. Raises HostError."""
    release = reader.os_release()
    gpus, nvswitches = _pci(reader)
    layout = _flavour(reader, catalog, flavour)
    kernel = reader.kernel_release()
    like = tuple(release.get("id_like", "").split())
    return Facts(
        os_id=release.get("id", ""),
        os_version=release.get("version_id", ""),
        os_name=release.get("pretty_name", release.get("id", "an unnamed Linux")),
        distribution=catalog.distribution(release.get("id", ""), like),
        architecture=reader.architecture(),
        kernel=kernel,
        root=reader.is_root(),
        gpus=gpus,
        nvswitches=nvswitches,
        nouveau=reader.lstat("/sys/module/nouveau") is not None,
        driver=loaded_driver(reader),
        headers=reader.exists(f"/lib/modules/{kernel}/build"),
        secure_boot=_secure_boot(reader),
        containerd=_containerd_version(reader),
        flavour=layout,
        kubectl=which(reader, layout.kubectl[0]) is not None,
        kubeconfig=_kubeconfig(reader, layout, kubeconfig),
        kubelet=reader.lstat(layout.device_plugins) is not None,
        hostname=(reader.read_text("/etc/hostname") or "").strip(),
        free=reader.free_bytes("/"),
        now=reader.now(),
        runfile_driver=reader.exists("/usr/bin/nvidia-uninstall"),
        initramfs=next((tool for tool in ("update-initramfs", "dracut") if which(reader, tool)), ""),
        engine_unit=_engine_unit(reader, layout),
        archive=_archive(reader, release.get("version_codename", "")),
    )


def which(reader: Reader, command: str) -> str | None:
    """The full path of a command on the host's search path; None when it has none."""
    if command.startswith("/"):
        return command if reader.exists(command) else None
    return next((path for folder in SEARCH_PATH if reader.exists(path := f"{folder}/{command}")), None)


def loaded_driver(reader: Reader) -> LoadedDriver | None:
    """The NVIDIA module that the running kernel has, from its own words; None when none is loaded.

    The first line is `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.126.20  …`, or `… Open Kernel Module for x86_64  …`.
    """
    text = _line(reader, DRIVER_VERSION)
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", f"{text} ")
    if not found:
        return None
    return LoadedDriver(found[1], "open" if "Open Kernel Module" in text else "proprietary")


def _pci(reader: Reader) -> tuple[tuple[Gpu, ...], int]:
    gpus, switches = [], 0
    for address in reader.listdir(PCI):
        folder = f"{PCI}/{address}"
        if _line(reader, f"{folder}/vendor") != NVIDIA:
            continue
        kind = _line(reader, f"{folder}/class")
        if kind.startswith(("0x0300", "0x0302")):
            gpus.append(Gpu(address, int(_line(reader, f"{folder}/device"), 16)))
        elif kind.startswith("0x0680"):
            switches += 1
    return tuple(gpus), switches


def _line(reader: Reader, path: str) -> str:
    """The first line of one of the kernel's small files; empty when it is not there or cannot be read."""
    try:
        content = reader.read(path) or b""
    except HostError:  # a device may vanish between listing and reading
        return ""
    return content.decode("ascii", "replace").partition("\n")[0].strip()


def _flavour(reader: Reader, catalog: Catalog, wanted: str) -> Flavour:
    if wanted not in ("auto", "none"):
        return catalog.flavours[wanted]
    for flavour in catalog.flavours.values():
        if any(reader.exists(marker) for marker in flavour.markers):
            return flavour
    return catalog.flavours["plain"]


def _kubeconfig(reader: Reader, flavour: Flavour, wanted: str | None) -> str | None:
    path = wanted or flavour.kubeconfig
    try:
        return path if reader.read(path) is not None else None
    except HostError:  # it is root's, and we are not
        return None


def _engine_unit(reader: Reader, flavour: Flavour) -> str:
    """The unit of the flavour that this host has; the first of them where it has none."""
    folders = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system", "/usr/local/lib/systemd/system")
    found = [unit for unit in flavour.units if any(reader.exists(f"{folder}/{unit}") for folder in folders)]
    return found[0] if found else flavour.units[0]


def _archive(reader: Reader, codename: str) -> Archive | None:
    """The first source of apt's, of either format, that has the release's own suite and the component `main`."""
    folder = "/etc/apt/sources.list.d"
    for path in ("/etc/apt/sources.list", *reader.glob(folder, "*.list"), *reader.glob(folder, "*.sources")):
        text = (reader.read(path) or b"").decode("utf-8", "replace")
        found = _deb822_archive(text, codename) if path.endswith(".sources") else _one_line_archive(text, codename)
        if found:
            return found
    return None


def _deb822_archive(text: str, codename: str) -> Archive | None:
    for paragraph in text.split("\n\n"):
        lines = [line for line in paragraph.splitlines() if not line.startswith("#")]
        fields = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if "main" in fields.get("components", "").split() and fields.get("enabled", "yes") != "no":
            uris, suites = fields.get("uris", "").split(), fields.get("suites", "").split()
            if uris and codename in suites:
                return Archive(uris[0], codename, fields.get("signed-by", ""))
    return None


def _one_line_archive(text: str, codename: str) -> Archive | None:
    for line in text.splitlines():
        found = re.match(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)", line)
        if found and found[3] == codename and "main" in found[4].split():
            signed = re.search(r"signed-by=(\S+)", found[1] or "")
            return Archive(found[2], found[3], signed[1] if signed else "")
    return None


def _secure_boot(reader: Reader) -> bool | None:
    """The last byte of the EFI variable: 1 is on. None on a machine that did not boot by EFI."""
    content = reader.read(SECURE_BOOT)
    return content[-1] == 1 if content else None


def _containerd_version(reader: Reader) -> str:
    """`containerd github.com/containerd/containerd 1.7.24~ds1 …` → `1.7.24`; empty when there is none."""
    if which(reader, "containerd") is None:
        return ""
    output = reader.query_once(["containerd", "--version"])
    found = re.search(r"\bv?(\d+\.\d+\.\d+)", output.stdout)
    return found[1] if found else ""
