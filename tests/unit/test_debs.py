"""The lab's package builder: data in, the package's own bytes out, the same every time."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gpunode.lab.debs import Deb, DebError, build, cached

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed here")

STUB = Deb(
    "nvidia-stub",
    "580.159.04-1",
    depends=("libc6", "nvidia-other (= 580.159.04-1)"),
    conflicts=("nvidia-rival",),
    files={"/usr/bin/stub": (b"#!/bin/sh\nexit 0\n", 0o755), "/etc/stub.conf": (b"key = 1\n", 0o644)},
    links={"/usr/lib/libstub.so.1": "libstub.so.580"},
    conffiles=("/etc/stub.conf",),
    control={"postinst": "#!/bin/sh\nexit 0\n", "triggers": "activate-noawait ldconfig\n"},
)


def dpkg_deb(*arguments: str) -> str:
    return subprocess.run(["dpkg-deb", *arguments], capture_output=True, text=True, check=True).stdout


def test_package_says_and_holds_what_the_data_says(tmp_path: Path) -> None:
    path = build(STUB, tmp_path)
    assert path.name == "nvidia-stub_580.159.04-1_amd64.deb"
    assert dpkg_deb("--field", str(path), "Depends").strip() == "libc6, nvidia-other (= 580.159.04-1)"
    assert dpkg_deb("--field", str(path), "Conflicts").strip() == "nvidia-rival"
    assert dpkg_deb("--info", str(path), "conffiles") == "/etc/stub.conf\n"
    assert dpkg_deb("--info", str(path), "triggers") == "activate-noawait ldconfig\n"
    listing = {line.split()[5]: line for line in dpkg_deb("--contents", str(path)).splitlines()}
    assert listing["./usr/bin/stub"].startswith("-rwxr-xr-x root/root")
    assert listing["./etc/stub.conf"].startswith("-rw-r--r-- root/root")
    assert listing["./usr/lib/libstub.so.1"].endswith("-> libstub.so.580")


def test_same_data_gives_same_bytes(tmp_path: Path) -> None:
    first = build(STUB, tmp_path / "one").read_bytes()
    again = build(STUB, tmp_path / "two").read_bytes()
    assert first == again


@pytest.mark.parametrize(
    "other",
    [
        replace(STUB, version="580.178.01-1"),
        replace(STUB, depends=()),
        replace(STUB, files={"/usr/bin/stub": (b"#!/bin/sh\nexit 0\n", 0o700)}),
        replace(STUB, links={}),
        replace(STUB, conffiles=()),
        replace(STUB, control={}),
    ],
)
def test_every_part_counts_in_the_digest(other: Deb) -> None:
    assert other.digest() != STUB.digest()


def test_cache_builds_once(tmp_path: Path) -> None:
    path = cached(STUB, tmp_path)
    stamp = path.stat().st_ino
    assert cached(STUB, tmp_path).stat().st_ino == stamp


def test_refused_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(DebError, match=r"Not_A_Name 1\.0"):
        build(Deb("Not_A_Name", "1.0"), tmp_path)
