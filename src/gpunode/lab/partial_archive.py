"""A part of the Debian archive on the host itself: the packages that the lab has downloaded already, and no others.

The whole archive's index names 60,000 packages, and apt reads it anew at every step: on a lab host that takes longer than what the step
installs. The packages are Debian's own files; the index is the lab's, unsigned, and apt is told to trust it.
"""

import os
import shutil
from pathlib import Path

from gpunode.lab.machine import command, run_in

TREE = "var/lib/lab-debian"
SOURCE = "etc/apt/sources.list.d/debian.sources"
LISTS = "var/lib/apt/lists"
ENTRY = "Types: deb\nURIs: file:/{tree}\nSuites: {suite}\nComponents: main\nTrusted: yes\n"


def lay(root: Path, suite: str) -> None:
    """Make the archive of the packages that apt has downloaded in there, and keep apt's lists of it beside it."""
    tree = root / TREE
    pool, index = tree / "pool", tree / "dists" / suite / "main" / "binary-amd64"
    pool.mkdir(parents=True)
    index.mkdir(parents=True)
    for file in (root / "var/cache/apt/archives").glob("*.deb"):
        os.link(file, pool / file.name.replace("%3a", "_"))
    (index / "Packages").write_text(command("env", f"--chdir={tree}", "apt-ftparchive", "packages", "pool"))
    (tree / "dists" / suite / "Release").write_text(_release(tree, suite))
    (tree / "debian.sources").write_text(ENTRY.format(tree=TREE, suite=suite))
    options = {"Dir::Etc::SourceList": f"/{TREE}/debian.sources", "Dir::Etc::SourceParts": "-"}
    options["Dir::State::Lists"] = f"/{TREE}/lists"
    (tree / "lists/partial").mkdir(parents=True)
    words = [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
    run_in(root, "apt-get", *words, "--quiet", "--error-on=any", "update")


def _release(tree: Path, suite: str) -> str:
    fields = {"Origin": "Debian", "Label": "Debian", "Codename": suite}
    fields |= {"Components": "main", "Architectures": "amd64"}
    words = [f"--option=APT::FTPArchive::Release::{name}={value}" for name, value in fields.items()]
    return command("apt-ftparchive", *words, "release", tree / "dists" / suite)


def prepare(root: Path) -> None:
    """Have this part be the archive of a host that is not booted yet, with its lists fetched."""
    shutil.copyfile(root / TREE / "debian.sources", root / SOURCE)
    for old in (*(root / LISTS).glob("*_*"), *(root / "var/cache/apt").glob("*.bin")):
        old.unlink()
    for fetched in (root / TREE / "lists").glob("*_*"):
        shutil.copy2(fetched, root / LISTS, follow_symlinks=False)  # the index is a link to the archive's own
