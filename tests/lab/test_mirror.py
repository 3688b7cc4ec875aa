"""The mirror and the emulated GPU, with the host's own apt, modprobe and systemd."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from gpunode.lab import gpu, layers, mirror, partial_archive, product
from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.repository import Signing

OLD, WANTED, NEW = "580.126.20", "580.159.04", "580.178.01"
DRIVER = (
    *("nvidia-open", "nvidia-kernel-open-dkms", "libcuda1", "libnvidia-ml1"),
    *("nvidia-smi", "nvidia-modprobe", "nvidia-persistenced"),
)
KEYRING = "/usr/share/keyrings/nvidia.asc"
SOURCES = f"""\
Types: deb
URIs: https://developer.download.nvidia.com/compute/cuda/repos/debian13/x86_64/
Suites: /
Signed-By: {KEYRING}

Types: deb
URIs: https://nvidia.github.io/libnvidia-container/stable/deb/amd64/
Suites: /
Signed-By: {KEYRING}
"""
FETCH = "import sys,urllib.request as u; sys.stdout.buffer.write(u.urlopen(sys.argv[1], timeout=10).read())"


def new_host(name: str, signing: Mapping[str, Signing] | None = None, devices: tuple[str, ...] = ()) -> LabHost:
    base = layers.base()

    def emulation(root: Path, address: str) -> None:
        partial_archive.prepare(root)
        mirror.prepare(root, address, signing)
        gpu.prepare(root, devices)

    host = LabHost.create(
        name, layers=[base, layers.warm(base, layers.FRESH), *product.product(base)], prepare=[emulation]
    )
    host.boot()
    host.write("/etc/apt/sources.list.d/nvidia.sources", SOURCES)
    key = host.run("python3", "-c", FETCH, f"https://{mirror.CUDA}/8793F200.pub").stdout
    host.write(KEYRING, key)
    return host


def apt(host: LabHost, *words: str, check: bool = True) -> str:
    command = ["apt-get", "-y", "--no-install-recommends", "--allow-downgrades", *words]
    done = host.run(*command, env={"DEBIAN_FRONTEND": "noninteractive"}, check=check, timeout=300)
    return done.stdout + done.stderr


def at(version: str) -> list[str]:
    return [f"{name}={version}-1" for name in DRIVER]


def loaded(host: LabHost) -> str:
    return host.run("cat", "/sys/module/nvidia/version", check=False).stdout.strip()


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    with new_host("test-mirror", devices=("10de:2330",)) as made:
        apt(made, "update", "--error-on=any")
        yield made


def test_driver_from_install_to_purge(host: LabHost) -> None:
    """One story, in the order an operator lives it: each part needs the host as the one before left it."""
    assert "Module nvidia not found in directory /lib/modules/" in host.run("modprobe", "nvidia", check=False).stderr
    apt(host, "install", f"linux-headers-{kernel(host)}", "gcc", "make")
    before = Snapshot.take(host)
    assert "CC [M]" in apt(host, "install", *at(WANTED))
    host.run("modprobe", "nvidia")
    assert "Open Kernel Module for x86_64  580.159.04" in host.read("/proc/driver/nvidia/version")
    assert "NVIDIA H100" in host.run("nvidia-smi", "-L").stdout
    host.reboot()
    assert (host.state(), loaded(host)) == ("running", WANTED)

    apt(host, "install", *at(NEW))
    assert "Driver/library version mismatch" in host.run("nvidia-smi", check=False).stdout
    assert host.run("modprobe", "-r", "nvidia", check=False).returncode == 1  # nvidia-persistenced holds it
    host.shell("systemctl stop nvidia-persistenced; sleep 0.5; modprobe -r nvidia; modprobe nvidia")
    assert loaded(host) == NEW
    apt(host, "install", *at(OLD))
    host.reboot()
    assert (host.state(), loaded(host)) == ("running", OLD)

    apt(host, "purge", *DRIVER)
    host.reboot()
    assert loaded(host) == ""
    changes = Snapshot.compare(before, Snapshot.take(host))
    accounts = {f"/etc/{name}{suffix}" for name in ("passwd", "group", "shadow", "gshadow") for suffix in ("", "-")}
    assert changes and {change.name for change in changes} <= accounts, report(changes)


def test_module_is_not_built_without_headers(host: LabHost) -> None:
    apt(host, "purge", f"linux-headers-{kernel(host)}")
    assert "Your kernel headers for kernel" in apt(host, "install", *at(WANTED), check=False)
    apt(host, "purge", *DRIVER)


def kernel(host: LabHost) -> str:
    return host.run("uname", "-r").stdout.strip()


def test_one_version_of_the_metapackage_alone_is_not_enough(host: LabHost) -> None:
    assert "nvidia-kernel-open-dkms (= 580.159.04-1) but" in apt(host, "-s", "install", at(WANTED)[0], check=False)
    apt(host, "install", f"nvidia-driver-pinning-{WANTED}")
    assert f"Inst nvidia-kernel-open-dkms ({WANTED}-1" in apt(host, "-s", "install", "nvidia-open")
    apt(host, "purge", f"nvidia-driver-pinning-{WANTED}")


def test_cuda_toolkits_share_the_link_by_alternatives(host: LabHost) -> None:
    assert "Inst nvidia-kernel-dkms" in apt(host, "-s", "install", "cuda")  # the trap
    apt(host, "install", "cuda-toolkit-12-8", "cuda-toolkit-13-0")
    assert "release 13.0, V13.0.88" in host.run("/usr/local/cuda/bin/nvcc", "--version").stdout
    apt(host, "purge", "cuda-toolkit-13-0")
    assert "release 12.8, V12.8.93" in host.run("/usr/local/cuda/bin/nvcc", "--version").stdout
    apt(host, "purge", "cuda-toolkit-12-8")
    assert host.run("ls", "/usr/local/cuda", check=False).returncode != 0


def test_container_toolkit_can_be_skewed_as_upstream(host: LabHost) -> None:
    versions = ("nvidia-container-toolkit=1.19.1-1", "nvidia-container-toolkit-base=1.19.1-1")
    planned = apt(host, "-s", "install", *versions)
    assert "Inst libnvidia-container-tools (1.20.0-1" in planned
    apt(host, "install", "nvidia-container-toolkit")
    assert "version 1.20.0" in host.run("nvidia-ctk", "--version").stdout
    assert host.run("systemctl", "is-active", "nvidia-cdi-refresh.path").stdout == "active\n"
    apt(host, "purge", "nvidia-container-toolkit", "nvidia-container-toolkit-base")
    apt(host, "purge", "libnvidia-container-tools", "libnvidia-container1")


FAULTS: list[tuple[str, Callable[[str], bool]]] = [
    ("status = 503", lambda said: "503" in said),
    ('html = "<html>Please log in</html>"', lambda said: "Please log in" in said),
    ("drop_after = 10", lambda said: "IncompleteRead(10 bytes read" in said),
]


@pytest.mark.parametrize(("fault", "shows"), FAULTS)
def test_mirror_misbehaves_on_request(host: LabHost, fault: str, shows: Callable[[str], bool]) -> None:
    path = f"{mirror.TOOLKIT}/gpgkey"
    host.write(f"/{mirror.TREE}/{mirror.FAULTS}", f'[[fault]]\nprefix = "{path}"\n{fault}\n')
    done = host.run("python3", "-c", FETCH, f"https://{path}", check=False)
    host.write(f"/{mirror.TREE}/{mirror.FAULTS}", "")
    assert shows(done.stdout + done.stderr)
    assert "BEGIN PGP" in host.run("python3", "-c", FETCH, f"https://{path}").stdout


# The machine that carries the lab may itself tell apt to take old Release files, and its hosts inherit that.
ON_TIME = ("-o", "Acquire::Check-Valid-Until=true", "-o", "Acquire::Check-Date=true")
PAST = datetime.now(timezone.utc) - timedelta(days=30)
BAD_SIGNINGS = [
    (Signing(other_key=True), "Missing key"),
    (Signing(expired_key=True), "is not live"),
    (Signing(valid_until=PAST), "is expired"),
]


@pytest.mark.parametrize(("signing", "complaint"), BAD_SIGNINGS)
def test_apt_refuses_a_badly_signed_repository(signing: Signing, complaint: str) -> None:
    with new_host("test-signing", {"cuda": signing}) as host:
        assert complaint in apt(host, *ON_TIME, "update", "--error-on=any", check=False)


def test_apt_refuses_a_tampered_package() -> None:
    with new_host("test-signing", {"cuda": Signing(tampered=frozenset({"nvidia-modprobe"}))}) as host:
        apt(host, "update", "--error-on=any")
        assert "Hash Sum mismatch" in apt(host, "install", "nvidia-modprobe", check=False)


def test_without_a_gpu_the_module_does_not_load() -> None:
    with new_host("test-no-gpu") as host:
        assert "10de" not in host.shell("cat /sys/bus/pci/devices/*/vendor").stdout
        apt(host, "update", "--error-on=any")
        apt(host, "install", f"linux-headers-{kernel(host)}", *at(WANTED))
        assert "No such device" in host.run("modprobe", "nvidia", check=False).stderr
