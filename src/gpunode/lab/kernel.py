"""A lab host that runs another kernel than this machine, as far as programs can tell: every `uname` in it says so.

The lab's own kernel is nobody's package, so that no archive has headers for it. With Debian's release in its place, DKMS builds for
Debian's kernel against Debian's headers. The library is preloaded into every program that is linked dynamically; containers keep the
machine's kernel.
"""

import re
from pathlib import Path

from gpunode.lab.machine import command
from gpunode.lab.mocklibs import MOCKS

LIBRARY = "usr/lib/lab-kernel/uname.so"
RELEASE = "usr/lib/lab-kernel/release"


def prepare(root: Path, release: str) -> None:
    """Make this the running kernel's release in a host that is not booted yet. Raises LabError when gcc fails."""
    library = root / LIBRARY
    library.parent.mkdir(parents=True, exist_ok=True)
    compiler = ("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden")
    command(*compiler, f'-DRELEASE_FILE="/{RELEASE}"', "-o", library, MOCKS / "uname.c")
    (root / RELEASE).write_text(f"{release}\n")
    (root / "etc/ld.so.preload").write_text(f"/{LIBRARY}\n")


def offered(lists: Path) -> list[str]:
    """The releases whose headers the Debian archive has, oldest first, by apt's lists in a layer; ordinary kernels alone."""
    texts = (file.read_text() for file in (lists / "var/lib/apt/lists").glob("*_main_binary-*_Packages"))
    names = {
        name for text in texts for name in re.findall(r"^Package: linux-headers-(\d.*\d-amd64)$", text, re.MULTILINE)
    }
    return sorted((name for name in names if not re.search("-(cloud|rt)-", name)), key=_numbers)


def _numbers(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release)]
