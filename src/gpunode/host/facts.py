"""What gpunode needs to know of a host before it can say what should be there: read once, cheaply, from the kernel's own files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpunode.catalog import Catalog
from gpunode.catalog.model import Distribution, Flavour
from gpunode.errors import HostError
from gpunode.host import accounts, engines, systemd
from gpunode.host.driver_facts import DriverFacts, gather_driver
from gpunode.host.engines.base import FoundEngine
from gpunode.host.packages import manager_named
from gpunode.host.reader import Reader
from gpunode.host.toolkit_facts import ToolkitFacts, gather_toolkits

PCI = "/sys/bus/pci/devices"
NVIDIA = "0x10de"
DRIVER_VERSION = "/proc/driver/nvidia/version"
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
RUNS_PROGRAM = r"\bexec\b|auth-provider|\\"
"""What a kubeconfig has where kubectl runs a program for a user's credentials; or a backslash, by which YAML can hide such a key."""
CGROUP_DRIVER = r"^cgroupDriver:\s*[\"']?(systemd|cgroupfs)\b"


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
    """A host at one moment. Everything in it was read, nothing was asked of a GPU. `free` is in bytes, of the root file system.

    `packages_refusal` says why no packages can be installed here; empty where they can.
    """

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
    engines: Mapping[str, FoundEngine]
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
    cgroup_driver: str = ""
    around_driver: DriverFacts | None = None
    archive: Archive | None = None
    toolkits: ToolkitFacts = field(default_factory=ToolkitFacts)
    packages_refusal: str = ""

    @property
    def cri(self) -> FoundEngine | None:
        """The host's containerd, whoever brought it; None where there is none."""
        return next((self.engines[name] for name in engines.CRI if name in self.engines), None)

    @property
    def containerd(self) -> str:
        """The release of the host's containerd; empty where there is none."""
        return self.cri.version if self.cri else ""

    @property
    def package_architecture(self) -> str:
        """The architecture in the words of the distribution's packages."""
        words = self.distribution.architectures if self.distribution else {}
        return words.get(self.architecture, self.architecture)

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
    distribution = catalog.distribution(release.get("id", ""), tuple(release.get("id_like", "").split()))
    return Facts(
        os_id=release.get("id", ""),
        os_version=release.get("version_id", ""),
        os_name=release.get("pretty_name", release.get("id", "an unnamed Linux")),
        distribution=distribution,
        architecture=reader.architecture(),
        kernel=kernel,
        root=reader.is_root(),
        gpus=gpus,
        nvswitches=nvswitches,
        nouveau=reader.lstat("/sys/module/nouveau") is not None,
        driver=loaded_driver(reader),
        headers=reader.exists(f"/lib/modules/{kernel}/build"),
        secure_boot=_secure_boot(reader),
        engines=engines.found(reader, layout),
        flavour=layout,
        kubectl=reader.which(layout.kubectl[0]) is not None,
        kubeconfig=_kubeconfig(reader, layout, kubeconfig),
        kubelet=reader.lstat(layout.device_plugins) is not None,
        hostname=(reader.read_text("/etc/hostname") or "").strip(),
        free=reader.free_bytes("/"),
        now=reader.now(),
        runfile_driver=reader.exists(catalog.runfile.uninstaller[0]),
        initramfs=next((tool for tool in ("update-initramfs", "dracut") if reader.which(tool)), ""),
        engine_unit=_engine_unit(reader, layout),
        cgroup_driver=_cgroup_driver(reader),
        around_driver=gather_driver(reader, catalog, distribution),
        toolkits=gather_toolkits(reader, catalog, distribution),
        archive=_archive(reader, release.get("version_codename", "")),
        packages_refusal=manager_named(distribution.manager).refusal(reader) if distribution else "",
    )


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
            gpus.append(Gpu(address, _device(reader, f"{folder}/device")))
        elif kind.startswith("0x0680"):
            switches += 1
    return tuple(gpus), switches


def _device(reader: Reader, path: str) -> int:
    """A device's number; 0, which no device has, for one that cannot be read."""
    word = _line(reader, path)
    if not re.fullmatch("0x[0-9a-f]{1,4}", word):
        reader.note_unknown(path, f"{path} does not name a device: {word!r}")
        return 0
    return int(word, 16)


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
    """The profile's; where it names none the flavour's, root's own, or that of the user who logged in and became root."""
    named = wanted or flavour.kubeconfig
    if _is_readable(reader, named):
        return named
    homes = () if wanted else ("/root", accounts.login_home(reader))
    return next((path for home in homes if home and _is_safe(reader, path := f"{home}/.kube/config")), None)


def _is_safe(reader: Reader, path: str) -> bool:
    """Whether a home's kubeconfig can be taken unasked: root's or the login user's own, and no program is run as it says."""
    if not _is_readable(reader, path):  # first: of a home that is closed to us even the look at it is refused
        return False
    stat = reader.lstat(reader.realpath(path))
    if stat is None or str(stat.uid) not in ("0", accounts.login_uid(reader)):
        return False
    return re.search(RUNS_PROGRAM, (reader.read(path) or b"").decode("utf-8", "replace")) is None


def _is_readable(reader: Reader, path: str) -> bool:
    try:
        return reader.read(path) is not None
    except HostError:  # it is root's, and we are not
        return False


def _engine_unit(reader: Reader, flavour: Flavour) -> str:
    """The unit of the flavour that this host has; the first of them where it has none."""
    return next((unit for unit in flavour.units if systemd.unit_file(reader, unit)), flavour.units[0])


def _cgroup_driver(reader: Reader) -> str:
    """`systemd` or `cgroupfs` where the kubelet's configuration says so; empty where it leaves it open, or cannot be read."""
    try:
        text = (reader.read(KUBELET_CONFIG) or b"").decode("utf-8", "replace")
    except HostError:
        return ""
    found = re.search(CGROUP_DRIVER, text, re.MULTILINE)
    return found[1] if found else ""


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
