"""The Python that gpunode and the lab's own programs run under on a lab host: at one place, whatever the host's Debian.

Debian 11's own is 3.9, too old for gpunode. An operator brings a newer one there, and so does the lab: Debian 12's, with a C library of its
own in a folder of its own, so that nothing else on the host sees either. The host's own `python3` stays what it is.
"""

from collections.abc import Sequence
from pathlib import Path

from gpunode.lab import archive, layers
from gpunode.lab.machine import command, run_in
from gpunode.lab.paths import CACHE

PYTHON = "opt/gpunode/bin/python3"
HOME = "opt/gpunode/python"
# What a Debian release has of Python, or is brought, and the minor number of the glibc 2 that it runs with.
VERSIONS = {"trixie": ("3.13", 41), "bookworm": ("3.11", 36), "bullseye": ("3.11", 36)}

BROUGHT_TO = "bullseye"
BROUGHT_FROM = "bookworm"
BROUGHT = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libssl3", "libbz2-1.0", "liblzma5"),
)
# The kernel knows the interpreter by the loader that started it; Python itself goes by the name that it was called by.
LAUNCHER = f"""\
#!/bin/sh
home=/{HOME}
libraries=$home/lib/x86_64-linux-gnu:$home/usr/lib/x86_64-linux-gnu
exec "$home/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --library-path "$libraries" --argv0 "$home/usr/bin/python3" \\
    "$home/usr/bin/python3.11" "$@"
"""


def layer(below: Path, suite: str) -> Path:
    """Return the layer on a Debian of this suite in which PYTHON is there. Raises LabError when it cannot be fetched."""
    if suite == BROUGHT_TO:
        return _brought(below)
    return layers.build("python", "linking the host's Python (once)", PYTHON, [below], _link_own)


def _link_own(root: Path) -> None:
    _link(root, "/usr/bin/python3")


def _brought(below: Path) -> Path:
    debs = archive.packages(BROUGHT_FROM, BROUGHT, CACHE / "python" / BROUGHT_FROM)

    def make(root: Path) -> None:
        _unpack(root, debs)
        # What packages do when they are installed: else every run on the host writes there.
        byte_compile(root, f"{HOME}/usr/lib/python3.11")

    return layers.build(
        "python", "bringing a newer Python (once)", [LAUNCHER, *(deb.name for deb in debs)], [below], make
    )


def _unpack(root: Path, debs: Sequence[Path]) -> None:
    (root / HOME).mkdir(parents=True)
    for deb in debs:
        command("dpkg-deb", "--extract", deb, root / HOME)
    launcher = root / HOME / "usr/bin/python3"
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)
    _link(root, f"/{HOME}/usr/bin/python3")


def _link(root: Path, target: str) -> None:
    link = root / PYTHON
    link.parent.mkdir(parents=True)
    link.symlink_to(target)


def byte_compile(root: Path, folder: str) -> None:
    """Byte-compile what lies in a folder with the host's Python, so that no run on the host writes there."""
    run_in(root, f"/{PYTHON}", "-m", "compileall", "-q", "-j", "0", f"/{folder}")
