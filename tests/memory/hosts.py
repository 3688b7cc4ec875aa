"""Whole machines to begin a test with."""

from __future__ import annotations

from memory import accounts, catalog, containerd, dpkg, keys, units
from memory.apt import apt_get, apt_mark
from memory.containerd import Release
from memory.installer import runfile, sh, uninstall, uninstall_toolkit
from memory.kubectl import Cluster, kubectl
from memory.machine import Identity, MemoryMachine, Program
from memory.modules import dkms, ldconfig, modinfo, modprobe, python3, unload, update_initramfs
from memory.packages import Deb, Record

DEBIAN_13 = {
    "id": "debian",
    "version_id": "13",
    "version_codename": "trixie",
    "pretty_name": "Debian GNU/Linux 13 (trixie)",
}
FOLDERS = (
    "/boot", "/dev", "/etc/apt/keyrings", "/etc/apt/preferences.d", "/etc/apt/sources.list.d", "/etc/cdi", "/etc/containerd",
    "/etc/ld.so.conf.d", "/etc/modprobe.d", "/etc/modules-load.d", "/etc/profile.d", "/etc/systemd/system", "/proc/driver",
    "/root", "/run", "/sys/bus/pci/devices", "/sys/module", "/tmp", "/usr/bin", "/usr/lib/modules-load.d", "/usr/lib/systemd/system",
    "/usr/lib/x86_64-linux-gnu", "/usr/local/bin", "/usr/sbin", "/usr/share/keyrings", "/usr/src", "/var/lib/apt/lists",
    "/var/lib/dpkg/info", "/var/log",
)  # fmt: skip
PROGRAMS: dict[str, Program] = {
    "apt-get": apt_get,
    "apt-mark": apt_mark,
    "dpkg": dpkg.dpkg,
    "dpkg-query": dpkg.dpkg_query,
    "systemctl": units.systemctl,
    "journalctl": units.journalctl,
    "modprobe": modprobe,
    "modinfo": modinfo,
    "ldconfig": ldconfig,
    "update-initramfs": update_initramfs,
    "python3": python3,
    "sh": sh,
    "userdel": accounts.userdel,
}
RUNFILES = "https://us.download.nvidia.com/tesla"
CONFIG = 'version = 2\n\n[plugins]\n  [plugins."io.containerd.grpc.v1.cri".cni]\n    bin_dir = "/usr/lib/cni"\n'


def bare_host(identity: Identity | None = None) -> MemoryMachine:
    """Debian 13 without a GPU and without containerd: folders, apt, systemd."""
    machine = MemoryMachine(PROGRAMS, identity or Identity(DEBIAN_13))
    kernel = machine.identity.kernel
    for folder in (*FOLDERS, f"/usr/lib/modules/{kernel}", units.WANTS):
        machine.files.make_folders(folder)
    for link in ("bin", "sbin", "lib"):
        machine.files.link(f"/{link}", f"usr/{link}")
    for name in PROGRAMS:
        machine.files.lay(f"/usr/bin/{name}", "#!", mode=0o755)
    machine.files.lay("/var/lib/apt/extended_states", "")
    machine.files.lay(f"/boot/initrd.img-{kernel}", "")
    machine.files.lay(accounts.USERS, accounts.FIRST)
    machine.files.lay("/etc/hostname", "gpu-1\n")
    machine.files.lay("/etc/os-release", "".join(f'{key.upper()}="{text}"\n' for key, text in DEBIAN_13.items()))
    base = {f"{path}/": "" for path, node in machine.files.nodes.items() if node.kind == "directory"}
    machine.dpkg.records["base-files"] = Record(Deb("base-files", "13.8", files=base), "installed")
    machine.dpkg.archive = catalog.archive(kernel)
    for name in ("gcc", "make"):
        install(machine, name)
    return machine


def install(machine: MemoryMachine, name: str) -> None:
    """Install a package of the archive as the operator did long ago, dependencies not looked at."""
    deb = next(deb for deb in machine.dpkg.archive if deb.name == name)
    dpkg.unpack(machine, deb)
    complaint = dpkg.configure(machine, name)
    if complaint:
        raise AssertionError(complaint)
    machine.effects.restart()


def gpu_host(*, gpus: tuple[str, ...] = ("0000:65:00.0",), release: str = "1.7.24") -> MemoryMachine:
    """Debian 13 with H100s on PCI, the kernel's headers, containerd running, a cluster reachable, NVIDIA's repositories in reach.

    The repositories sign with keys of our own: /etc/gpunode/catalog.d names their fingerprints, as a site with a mirror does.
    """
    machine = bare_host()
    install(machine, f"linux-headers-{machine.identity.kernel}")
    _plug_in(machine, gpus)
    _install_containerd(machine, Release(release, f"{release}~ds1-6"))
    _join(machine)
    machine.repositories = catalog.repositories()
    cuda, toolkit = (repository.key for repository in machine.repositories)
    machine.web = {
        f"{catalog.CUDA}8793F200.pub": keys.armored(cuda),
        f"{catalog.CUDA}3bf863cc.pub": keys.armored(cuda),
        "https://nvidia.github.io/libnvidia-container/gpgkey": keys.armored(toolkit),
    }
    for repository in machine.repositories:
        machine.web[f"{repository.uri}InRelease"] = b"-----BEGIN PGP SIGNED MESSAGE-----\n"
    for version in catalog.DRIVERS:
        machine.web[f"{RUNFILES}/{version}/NVIDIA-Linux-x86_64-{version}.run"] = runfile(version)
    pinned = {"cuda-apt": cuda, "container-toolkit-apt": toolkit}
    lines = (f'[repositories.{name}]\nfingerprints = ["{keys.fingerprint(key)}"]\n' for name, key in pinned.items())
    machine.files.lay("/etc/gpunode/catalog.d/50-lab.toml", "".join(lines))
    machine.effects.restart()
    return machine


def power_cut(machine: MemoryMachine) -> None:
    """What a reboot takes: running units, loaded modules, /run. Then the host boots."""
    unload(machine)
    machine.files.erase("/run")
    machine.files.make_folders("/run")
    for folder in ("/usr/lib/modules-load.d", "/etc/modules-load.d"):
        for name in machine.files.names(folder):
            for module in machine.files.text(f"{folder}/{name}").split():
                machine.run(["modprobe", module])
    units.boot(machine)


def _plug_in(machine: MemoryMachine, gpus: tuple[str, ...]) -> None:
    machine.gpus = list(gpus)
    for address in gpus:
        folder = f"/sys/bus/pci/devices/{address}"
        for name, value in (("vendor", "0x10de"), ("device", "0x2330"), ("class", "0x030200")):
            machine.files.lay(f"{folder}/{name}", f"{value}\n")
    for name, value in (("vendor", "0x8086"), ("device", "0x1237"), ("class", "0x060000")):
        machine.files.lay(f"/sys/bus/pci/devices/0000:00:00.0/{name}", f"{value}\n")


def _install_containerd(machine: MemoryMachine, release: Release) -> None:
    service = "containerd.service"
    files = {
        "/usr/bin/containerd": "#!",
        "/usr/bin/ctr": "#!",
        "/usr/bin/runc": "#!",
        f"/usr/lib/systemd/system/{service}": catalog.unit("/usr/bin/containerd"),
        containerd.CONFIG: CONFIG,
    }
    machine.programs |= containerd.programs(release)
    # Without its user the daemon has nobody to run as.
    machine.unit_checks["nvidia-persistenced.service"] = lambda host: (
        "" if accounts.has(host, "nvidia-persistenced") else "Failed to determine user credentials: No such process"
    )
    machine.unit_checks[service] = lambda host: containerd.complaint(host, release)
    postinst = catalog.enabling(service, start=True)
    package = Deb(
        "containerd", release.package_version, (), files, {}, frozenset({containerd.CONFIG}), postinst=postinst
    )
    machine.dpkg.archive.append(package)
    install(machine, "containerd")


def _join(machine: MemoryMachine) -> None:
    """The node belongs to a cluster that the host's kubectl reaches."""
    machine.files.lay("/usr/lib/systemd/system/kubelet.service", catalog.unit("/usr/bin/kubelet"))
    machine.files.link(f"{units.WANTS}/kubelet.service", "/usr/lib/systemd/system/kubelet.service")
    units.start(machine, "kubelet.service")
    machine.programs["kubectl"] = kubectl
    machine.programs["nvidia-uninstall"] = uninstall
    machine.programs["cuda-uninstaller"] = uninstall_toolkit
    machine.programs["dkms"] = dkms
    for name in ("kubectl", "kubelet", "dkms"):
        machine.files.lay(f"/usr/bin/{name}", "#!", mode=0o755)
    machine.files.lay("/etc/kubernetes/admin.conf", "apiVersion: v1\nkind: Config\n", mode=0o600)
    machine.files.make_folders("/var/lib/kubelet/device-plugins")
    machine.cluster = Cluster()
