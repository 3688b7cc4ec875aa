"""Repositories and package work that go wrong on a real host: one clear line each, nothing half-done, and a clean try afterwards.

The tests are one story of one host, in order: it meets a fault after the other, does its job once they are gone, and is taken back.
From the second chapter on its mirror shows a certificate by a company's authority, which the system's store alone knows. A lab host
has the machine's clock: a clock that has stayed behind is shown by what it would see, all that it meets being of the future.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gpunode.lab import bad_mirror
from gpunode.lab.host import LabHost
from gpunode.lab.manifest import Change, Snapshot, report
from gpunode.lab.node import create_node

DRIVER = "580.159.04"
PROFILE = """\
[driver]
source = "preinstalled"
[kubernetes]
flavour = "none"
[device_plugin]
mode = "none"
[verify]
level = "container"
"""
# The machine that carries the lab may tell apt to take old indices, and its hosts inherit that; a retry only takes time here.
APT = 'Acquire::Check-Valid-Until "true";\nAcquire::Check-Date "true";\nAcquire::Retries "0";\n'
FAULTS = "/srv/lab-mirror/faults.toml"
KEYRING = "/usr/share/keyrings/nvidia-container-toolkit-keyring.gpg"
SOURCE = "/etc/apt/sources.list.d/nvidia-container-toolkit.sources"
COMPANY = "/usr/local/share/ca-certificates/company.crt"
PROXY = """\
import http.server
class Refusing(http.server.BaseHTTPRequestHandler):
    def do_CONNECT(self):
        self.send_error(407)
http.server.HTTPServer(("{address}", 3128), Refusing).serve_forever()
"""
FULL = "/etc/nvidia-container-toolkit"  # a folder that a package brings a file into
HELPER = "/usr/bin/deb-systemd-helper"  # which that package's postinst calls
KILLS_ITS_DPKG = "#!/bin/sh\n[ -e /run/killed ] || { touch /run/killed; kill -KILL $PPID; }\n"
OTHER = "Package: pf-other\nVersion: 1\nArchitecture: all\nMaintainer: lab <root@localhost>\nDescription: lab stub\n"


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    with create_node("pf-faults", cluster=False, driver=DRIVER) as host:
        bad_mirror.lay(host.root, host.address)
        host.boot()
        host.write("/etc/gpunode/profile.toml", PROFILE)
        host.write("/etc/apt/apt.conf.d/zz-lab", APT)
        yield host


@pytest.fixture(scope="module")
def before(host: LabHost) -> Snapshot:
    return Snapshot.take(host)


def apply(host: LabHost) -> subprocess.CompletedProcess[str]:
    return host.run("gpunode", "apply", "--yes", "--step", "container_toolkit", check=False, timeout=300)


def refused(host: LabHost, words: str, hint: str) -> None:
    """The first line says what and where, the last what to do next."""
    done = apply(host)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("gpunode: ")
    assert words in lines[0]
    assert hint in lines[-1]
    assert "Traceback" not in done.stderr


def changed(host: LabHost, before: Snapshot) -> list[Change]:
    """What differs from before, but for the mirror's instructions and the operator's CA."""
    host.write(FAULTS, "")
    changes = Snapshot.compare(before, Snapshot.take(host))
    return [change for change in changes if not change.name.startswith((COMPANY, "/etc/ssl/certs"))]


def taken_back(host: LabHost, before: Snapshot) -> None:
    done = host.run("gpunode", "rollback", "--yes", check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    changes = changed(host, before)
    assert not changes, report(changes)


def instead(tree: str) -> str:
    return f'[[fault]]\nprefix = "nvidia.github.io/libnvidia-container"\ninstead = "{tree}"\n'


@contextmanager
def proxy(host: LabHost) -> Iterator[str]:
    """A proxy that wants to know who asks, while in the context; its address."""
    process = host.popen("python3", "-c", PROXY.format(address=host.address))
    reached = f"import socket; socket.create_connection(('{host.address}', 3128))"
    host.shell(f'until python3 -c "{reached}" 2>&-; do sleep 0.1; done')
    yield f"http://{host.address}:3128"
    process.kill()
    process.wait(10)


# --- found out before anything is changed ---


@pytest.mark.parametrize(
    ("fault", "words", "hint"),
    [
        pytest.param(
            'certificate = "stranger"\n',
            "libnvidia-container/gpgkey: [SSL: CERTIFICATE_VERIFY_FAILED]",
            "add your CA to the system's trust store",
            id="unknown CA",
        ),
        pytest.param(
            'certificate = "ahead"\n', "certificate is not yet valid", "is this host's clock right?", id="clock in 2020"
        ),
        pytest.param(
            instead("expired-key"),
            "libnvidia-container/gpgkey is expired since 2025-02-02; it was not trusted",
            "its publisher has a newer one",
            id="expired key",
        ),
    ],
)
def test_a_repository_that_cannot_be_trusted_is_found_out_first(
    host: LabHost, before: Snapshot, fault: str, words: str, hint: str
) -> None:
    host.write(FAULTS, fault)
    refused(host, words, hint)
    assert not changed(host, before)


def test_a_proxy_that_asks_for_a_user_is_found_out_first(host: LabHost, before: Snapshot) -> None:
    host.write(FAULTS, "")
    with proxy(host) as address:
        host.write("/etc/gpunode/profile.toml", f'{PROFILE}[network]\nproxy = "{address}"\n')
        refused(host, "407 Proxy Authentication Required", "by network.proxy")
    host.write("/etc/gpunode/profile.toml", PROFILE)
    assert not changed(host, before)


# --- found out by apt, before it installs anything; behind a company's CA from here on ---


@pytest.fixture(scope="module")
def company(host: LabHost, before: Snapshot) -> str:
    """The CA as an operator adds it to the system's store, and the line that has the mirror show a certificate of it."""
    del before  # which is to be without it
    host.shell(f"cp /{bad_mirror.STRANGER} {COMPANY}; update-ca-certificates")
    return 'certificate = "stranger"\n'


@pytest.mark.parametrize(
    ("tree", "words", "hint"),
    [
        ("stale", "deb/amd64/InRelease is expired (invalid since 1d", "has stopped following its original"),
        ("dated-ahead", "deb/amd64/InRelease is not valid yet", "is this host's clock right?"),
        ("signed-ahead", "stable/deb/amd64: Verifying signature: Not live until", "is this host's clock right?"),
        ("tampered", "libnvidia-container1_1.20.0-1_amd64.deb Hash Sum mismatch", "nothing of it was installed"),
    ],
)
def test_what_apt_does_not_take_is_told_and_nothing_is_installed(
    host: LabHost, before: Snapshot, company: str, tree: str, words: str, hint: str
) -> None:
    host.write(FAULTS, company + instead(tree))
    refused(host, words, hint)
    assert {change.name for change in changed(host, before)} == {KEYRING, SOURCE}


# --- dpkg ---


def test_a_disk_that_fills_while_dpkg_unpacks_is_told(host: LabHost, company: str) -> None:
    host.write(FAULTS, company)
    host.shell(f"mkdir {FULL}; mount -t tmpfs -o size=4k tmpfs {FULL}; head -c 4096 /dev/zero > {FULL}/full")
    refused(
        host, f"'{FULL}/nvidia-cdi-refresh.env.dpkg-new': failed to write (No space left on device)", "free some space"
    )
    host.shell(f"umount {FULL}; rmdir {FULL}")
    assert "nvidia-container-toolkit" in host.run("dpkg", "--audit").stdout


def test_a_script_that_fails_is_told_and_what_dpkg_began_is_taken_back(
    host: LabHost, before: Snapshot, company: str
) -> None:
    host.write(FAULTS, company)
    host.write("/run/refuse", "#!/bin/sh\necho no such unit >&2\nexit 1\n", 0o755)
    host.shell(f"mount --bind /run/refuse {HELPER}")
    refused(host, "nvidia-container-toolkit-base (configure): installed", "a script of that package failed")
    host.run("umount", HELPER)
    taken_back(host, before)


def test_once_the_faults_are_gone_apply_does_its_job_though_somebody_elses_dpkg_was_cut_short(
    host: LabHost, company: str
) -> None:
    host.write(FAULTS, company)
    host.write("/run/other/DEBIAN/control", OTHER)
    host.write("/run/other/DEBIAN/postinst", KILLS_ITS_DPKG, 0o755)
    host.shell("dpkg-deb --build /run/other /run/other.deb")
    assert host.run("dpkg", "--install", "/run/other.deb", check=False).returncode != 0
    assert "pf-other" in host.run("dpkg", "--audit").stdout
    done = apply(host)
    assert done.returncode == 0, done.stderr
    assert host.run("dpkg", "--audit").stdout == ""
    host.run("dpkg", "--purge", "pf-other")


# --- apt has older indices, and exits 0 with a warning alone ---


def test_a_dead_mirror_behind_older_indices_is_told(host: LabHost, company: str) -> None:
    host.write(FAULTS, company)
    host.write("/etc/gpunode/profile.toml", f'{PROFILE}[container_toolkit]\nversion = "1.21.0"\n')
    host.run("systemctl", "stop", "lab-mirror.service")
    refused(host, "was not found; not every index could be fetched anew: ", "is the mirror up")
    host.run("systemctl", "start", "lab-mirror.service")
    host.write("/etc/gpunode/profile.toml", PROFILE)


@pytest.mark.parametrize("fault", ["unknown CA", "proxy"])
def test_an_untrusted_mirror_behind_older_indices_is_told(host: LabHost, company: str, fault: str) -> None:
    """Only the source is to be written anew, so that all that goes out is apt."""
    host.run("rm", SOURCE)
    if fault == "proxy":
        with proxy(host) as address:
            host.write("/etc/apt/apt.conf.d/zz-proxy", f'Acquire::https::Proxy "{address}";\n')
            refused(host, "from proxy: HTTP/1.0 407 Proxy Authentication Required", "by network.proxy")
        host.run("rm", "/etc/apt/apt.conf.d/zz-proxy")
    else:
        host.write(FAULTS, 'certificate = "ahead"\n')
        refused(host, "certificate verify failed", "add your CA to the system's trust store (update-ca-certificates)")
        host.write(FAULTS, company)


def test_all_of_it_is_taken_back(host: LabHost, before: Snapshot, company: str) -> None:
    host.write(FAULTS, company)
    assert apply(host).returncode == 0
    taken_back(host, before)
