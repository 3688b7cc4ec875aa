"""Packages of any Debian release, whatever this machine runs: apt fetches them, and checks them against Debian's archive keys.

It does so with a configuration and a memory of its own, so that this machine's apt knows nothing of other releases.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from gpunode.lab import layers
from gpunode.lab.machine import command, lock, say

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def packages(suite: str, names: Sequence[str], folder: Path, components: str = "main") -> list[Path]:
    """Return the files of these packages of a Debian release from `folder`, fetched where it is not there yet. Raises LabError.

    What they depend on is not fetched. `components` are the archive's, as apt's sources name them.
    """
    with lock(f"fetch-{suite}"):
        if not folder.is_dir():
            say(f"fetching {names[0]} of Debian {suite} (once)")
            _fetch(suite, names, folder, components)
    return sorted(folder.glob("*.deb"))


def _fetch(suite: str, names: Sequence[str], folder: Path, components: str) -> None:
    """The packages appear whole or not at all."""
    apt = folder.with_name(f"{folder.name}.apt")
    fetching = apt / "fetching"
    shutil.rmtree(apt, ignore_errors=True)
    for path in ("lists/partial", "cache/archives/partial", "fetching"):
        (apt / path).mkdir(parents=True)
    (apt / "status").touch()
    source = f"deb [signed-by={KEYRING}] {layers.debian_mirror().rstrip('/')} {suite} {components}\n"
    (apt / "sources.list").write_text(source)
    options = _options(apt)
    command("apt-get", *options, "--quiet", "--error-on=any", "update", timeout=600)
    # apt-get downloads into the folder that it stands in.
    command("env", f"--chdir={fetching}", "apt-get", *options, "--quiet", "download", *names, timeout=600)
    fetching.rename(folder)
    shutil.rmtree(apt)


def _options(apt: Path) -> list[str]:
    settings = {
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": os.devnull,
        "Dir::State::Lists": apt / "lists",
        "Dir::State::Status": apt / "status",
        "Dir::Cache": apt / "cache",
        "Acquire::Languages": "none",
        "Acquire::Check-Valid-Until": "false",  # a mirror of sid may lag behind
        "APT::Sandbox::User": "root",  # the lab's folders are root's alone
    }
    return [f"--option={name}={value}" for name, value in settings.items()]
