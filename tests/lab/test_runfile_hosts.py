"""NVIDIA's `.run` installers, real makeself archives, on a real host: the driver's and the CUDA toolkit's, and what goes wrong there."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Snapshot, report
from gpunode.lab.node import create_node

OLD, VERSION, NEXT = "580.126.20", "580.159.04", "580.178.01"
SERVED = "/srv/lab-mirror"
DRIVER = f"{SERVED}/us.download.nvidia.com/tesla/{{0}}/NVIDIA-Linux-x86_64-{{0}}.run"
CUDA = f"{SERVED}/developer.download.nvidia.com/compute/cuda"
CUDA_FILES = {
    "13.0": f"{CUDA}/13.0.2/local_installers/cuda_13.0.2_580.95.05_linux.run",
    "12.8": f"{CUDA}/12.8.1/local_installers/cuda_12.8.1_570.124.06_linux.run",
}
PROFILE = "/run/runfile.toml"
REST = """\
[kubernetes]
flavour = "none"
[device_plugin]
mode = "none"
[verify]
level = "host"
"""
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    with create_node("rf-node", cluster=False, whole_archive=True) as host:
        host.boot()
        host.run("apt-get", "update", "-qq")
        yield host


@pytest.fixture
def before(host: LabHost) -> Iterator[Snapshot]:
    """The host before the test; afterwards it is taken back, and must be the same again."""
    snapshot = Snapshot.take(host)
    yield snapshot
    done = host.run("gpunode", "rollback", "--yes", check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    changes = Snapshot.compare(snapshot, Snapshot.take(host))
    assert not changes, report(changes)


def gpunode(host: LabHost, verb: str, *words: str) -> Done:
    return host.run("gpunode", verb, "--profile", PROFILE, *words, check=False, timeout=300)


def apply(host: LabHost, step: str) -> str:
    done = gpunode(host, "apply", "--yes", "--step", step)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return done.stdout


def refused(done: Done, words: str) -> None:
    """One clear line that begins the error, and never a traceback."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("gpunode: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def digest(host: LabHost, path: str) -> str:
    return host.run("sha256sum", path).stdout.split()[0]


def driver_profile(host: LabHost, version: str = VERSION, **keys: str) -> None:
    keys = {"sha256": digest(host, DRIVER.format(version)), **keys}
    lines = "".join(f'runfile.{key} = "{value}"\n' for key, value in keys.items())
    host.write(PROFILE, f'{REST}[driver]\nsource = "runfile"\nversion = "{version}"\n{lines}')


def cuda_profile(host: LabHost, version: str, source: str = "runfile") -> None:
    pin = f'runfile.sha256 = "{digest(host, CUDA_FILES[version])}"\n' if source == "runfile" else ""
    driver = '[driver]\nsource = "preinstalled"\n'
    host.write(PROFILE, f'{REST}{driver}[cuda]\nversion = "{version}"\nsource = "{source}"\n{pin}')


def release(host: LabHost, nvcc: str = "/usr/local/cuda/bin/nvcc") -> str:
    return host.run(nvcc, "--version").stdout.partition("release ")[2].partition(",")[0]


def newest_run(host: LabHost) -> str:
    return max((host.root / "var/lib/gpunode/runs").glob("*.jsonl")).stem


def take_back_to(host: LabHost, run: str) -> None:
    host.run("gpunode", "rollback", "--yes", "--to", run, timeout=300)


def kill_when(host: LabHost, step: str, path: str) -> None:
    """Start an apply, and kill it and its installer as soon as a path is there."""
    running = host.popen("setsid", "--wait", "gpunode", "apply", "--yes", "--step", step, "--profile", PROFILE)
    deadline = time.monotonic() + 120
    while not (host.root / path.lstrip("/")).exists():
        assert time.monotonic() < deadline, f"{path} did not appear: {running.output()[-2000:]}"
        time.sleep(0.02)
    assert running.poll() is None, "apply had ended before it was killed"
    for words in (("-f", "[g]punode apply"), ("-f", "[i]nstaller --silent"), ("-f", "[.]run --silent"), ("-x", "dkms")):
        host.run("pkill", "-KILL", *words, check=False)
    running.wait(10)


@pytest.mark.usefixtures("before")
def test_the_driver_is_verified_installed_registered_and_taken_off(host: LabHost) -> None:
    driver_profile(host, sha256="0" * 64)
    refused(gpunode(host, "apply", "--yes", "--step", "driver"), "it was not run")
    driver_profile(host)
    apply(host, "driver")
    assert (
        f"nvidia/{VERSION}, {host.run('uname', '-r').stdout.strip()}, x86_64: installed"
        in host.run("dkms", "status").stdout
    )
    assert f"Open Kernel Module for x86_64  {VERSION}" in host.read("/proc/driver/nvidia/version")
    assert "Nothing to do" in apply(host, "driver")
    assert gpunode(host, "check", "--step", "driver").returncode == 0
    assert "NVIDIA H100" in host.run("nvidia-smi", "-L").stdout

    host.popen("nvidia-persistenced")  # the module is in use, and no installer gets it out
    time.sleep(1)
    driver_profile(host, NEXT)
    failed = gpunode(host, "apply", "--yes", "--step", "driver")
    host.run("pkill", "-TERM", "-f", "[n]vidia-persistenced")
    refused(failed, f"NVIDIA-Linux-x86_64-{NEXT}.run failed with exit status 1")
    assert "ERROR: An NVIDIA kernel module 'nvidia' appears to be already loaded" in failed.stderr
    assert "/var/log/nvidia-installer.log" in failed.stderr


def test_what_the_rest_needs_is_there_before(host: LabHost) -> None:
    """Compiler, DKMS, headers and libxml2, so that what follows takes no package."""
    headers = f"linux-headers-{host.run('uname', '-r').stdout.strip()}"
    host.run(
        "apt-get", "install", "-qq", "--no-install-recommends", "gcc", "make", "dkms", "libxml2", headers, timeout=300
    )


def test_the_installer_by_hand_is_nvidias_in_options_and_exit_status(host: LabHost) -> None:
    file = DRIVER.format(VERSION)
    assert VERSION in host.run("sh", file, "--version").stdout
    assert "./nvidia-installer" in host.run("sh", file, "--info").stdout
    assert "is not an option" in host.run("sh", file, "--sillent", check=False).stderr
    host.run("sh", file, "-x", "--target", "/run/unpacked")
    assert host.run("/run/unpacked/nvidia-installer", "--sanity", check=False).returncode == 1
    host.write("/tmp/.X0-lock", "1\n")
    in_use = host.run("sh", file, "--silent", check=False)
    host.run("rm", "/tmp/.X0-lock")
    assert (in_use.returncode, "running an X server" in in_use.stderr) == (1, True)


@pytest.mark.usefixtures("before")
def test_a_damaged_archive_is_told_by_itself_where_its_sum_was_pinned(host: LabHost) -> None:
    """Whoever takes the sum of a broken download pins just that."""
    host.shell(
        f"sh {DRIVER.format(VERSION)} --check; cp {DRIVER.format(VERSION)} /run/driver.run; printf x >> /run/driver.run"
    )
    assert host.run("sh", "/run/driver.run", "--check", check=False).returncode == 2
    driver_profile(host, path="/run/driver.run", sha256=digest(host, "/run/driver.run"))
    failed = gpunode(host, "apply", "--yes", "--step", "driver")
    refused(failed, "driver.run failed with exit status 2")
    assert "Error in CRC checksums" in failed.stderr
    assert "it ended before it wrote a log" in failed.stderr


@pytest.mark.usefixtures("before")
def test_a_module_that_does_not_build_is_told_by_the_compiler(host: LabHost) -> None:
    broken = "nv-pci.c:237:9: error: too few arguments to function 'pci_resize_resource'"
    host.write("/usr/local/bin/gcc", f'#!/bin/sh\necho "{broken}" >&2\nexit 1\n', mode=0o755)
    driver_profile(host)
    failed = gpunode(host, "apply", "--yes", "--step", "driver")
    host.run("rm", "/usr/local/bin/gcc")
    refused(failed, f"DKMS could not build nvidia/{VERSION}")
    assert broken in failed.stderr
    assert "/var/lib/dkms/nvidia" in failed.stderr


@pytest.mark.usefixtures("before")
def test_a_driver_that_was_cut_short_is_taken_off(host: LabHost) -> None:
    driver_profile(host)
    kill_when(host, "driver", "/var/lib/nvidia/log")


@pytest.mark.usefixtures("before")
def test_a_driver_that_was_cut_short_is_finished(host: LabHost) -> None:
    driver_profile(host)
    kill_when(host, "driver", "/var/lib/dkms/nvidia")
    apply(host, "driver")
    assert "NVIDIA H100" in host.run("nvidia-smi", "-L").stdout
    assert gpunode(host, "check", "--step", "driver").returncode == 0


@pytest.fixture(scope="module")
def driven(host: LabHost) -> LabHost:
    """The host with a driver that somebody has installed by hand."""
    host.run("sh", DRIVER.format(VERSION), "--silent", "--dkms", "--kernel-module-type=proprietary")
    host.run("modprobe", "nvidia")
    assert f"NVIDIA UNIX x86_64 Kernel Module  {VERSION}" in host.read("/proc/driver/nvidia/version")
    return host


@pytest.mark.usefixtures("driven", "before")
def test_toolkits_stand_side_by_side_and_the_driver_in_them_stays_there(host: LabHost) -> None:
    cuda_profile(host, "12.8")
    apply(host, "cuda")
    first = newest_run(host)
    cuda_profile(host, "13.0")
    apply(host, "cuda")
    assert [release(host), release(host, "/usr/local/cuda-12.8/bin/nvcc")] == ["13.0", "12.8"]
    assert "release 13.0" in host.run("sh", "-lc", "nvcc --version").stdout
    assert "libcudart.so.13" in host.run("ldconfig", "-p").stdout
    assert host.read("/sys/module/nvidia/version").strip() == VERSION
    assert OLD not in host.read("/var/log/nvidia-installer.log")
    assert "Nothing to do" in apply(host, "cuda")
    cuda_profile(host, "13.0", "packages")
    refused(gpunode(host, "apply", "--yes", "--step", "cuda"), "CUDA 13.0 is here already by its .run installer")
    take_back_to(host, first)
    assert release(host) == "12.8"


@pytest.mark.usefixtures("driven", "before")
def test_a_toolkit_that_was_cut_short_is_taken_off_and_the_packages_link_comes_back(host: LabHost) -> None:
    cuda_profile(host, "12.8", "packages")
    apply(host, "cuda")
    packaged, first = host.run("readlink", "/usr/local/cuda").stdout, newest_run(host)
    cuda_profile(host, "13.0")
    kill_when(host, "cuda", "/usr/local/cuda-13.0/version.json")
    take_back_to(host, first)
    assert host.run("ls", "/usr/local/cuda-13.0", check=False).returncode != 0
    assert host.run("readlink", "/usr/local/cuda").stdout == packaged
