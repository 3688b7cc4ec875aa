"""Debian packages out of plain data: what the lab's stub repositories are filled with."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gpunode.lab import LabError

# Every time stamp inside a package: the same data gives the same bytes, on any day.
EPOCH = 1_767_225_600


class DebError(LabError):
    """A package cannot be built; the message names the package and says why."""


@dataclass(frozen=True)
class Deb:
    """One binary package.

    `files` maps an absolute path to (content, permission bits), `links` an absolute path to the target of a symbolic
    link, `control` the name of a file of the control archive ("postinst", "prerm", "triggers" …) to its text.
    """

    name: str
    version: str
    architecture: str = "amd64"
    section: str = "misc"
    summary: str = ""
    depends: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    files: Mapping[str, tuple[bytes, int]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    conffiles: tuple[str, ...] = ()
    control: Mapping[str, str] = field(default_factory=dict)

    @property
    def filename(self) -> str:
        """Name of the package's file as archives write it, without an epoch."""
        return f"{self.name}_{self.version.split(':', 1)[-1]}_{self.architecture}.deb"

    def digest(self) -> str:
        """Hash of everything that goes into the package (24 hexadecimal digits)."""
        parts = [self.control_text(), repr(sorted(self.links.items())), repr(self.conffiles)]
        parts += [repr(sorted(self.control.items()))]
        parts += [
            f"{path} {mode:o} {hashlib.sha256(data).hexdigest()}" for path, (data, mode) in sorted(self.files.items())
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]

    def control_text(self) -> str:
        """The package's control stanza, one field a line."""
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.architecture,
            "Maintainer": "gpunode lab <root@localhost>",
            "Section": self.section,
            "Priority": "optional",
            "Depends": ", ".join(self.depends),
            "Provides": ", ".join(self.provides),
            "Conflicts": ", ".join(self.conflicts),
            "Description": self.summary or f"lab stand-in for {self.name}",
        }
        return "".join(f"{key}: {value}\n" for key, value in fields.items() if value)


def build(deb: Deb, folder: Path) -> Path:
    """Build the package into `folder` and return its path; a file of that name is replaced in one step.

    Raises DebError when dpkg-deb refuses the data (a bad name or version, a conffile that is not a file).
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{deb.name}-", dir=folder) as work:
        tree = Path(work) / "tree"
        _lay_out(deb, tree)
        made = Path(work) / deb.filename
        _dpkg_deb(deb, tree, made)
        target = folder / deb.filename
        made.replace(target)
    return target


def cached(deb: Deb, folder: Path) -> Path:
    """The built package from `folder`, where it is kept under its digest; it is built only when it is not there."""
    keep = folder / deb.digest()
    path = keep / deb.filename
    return path if path.exists() else build(deb, keep)


def _lay_out(deb: Deb, tree: Path) -> None:
    control = tree / "DEBIAN"
    control.mkdir(parents=True)
    _write(control / "control", deb.control_text().encode(), 0o644)
    for name, text in deb.control.items():
        # dpkg runs the maintainer scripts and only reads the rest.
        _write(control / name, text.encode(), 0o644 if name == "triggers" else 0o755)
    if deb.conffiles:
        _write(control / "conffiles", "".join(f"{path}\n" for path in deb.conffiles).encode(), 0o644)
    for path, (data, mode) in deb.files.items():
        _write(tree / path.lstrip("/"), data, mode)
    for path, target in deb.links.items():
        link = tree / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    for directory, _, _ in os.walk(tree):
        Path(directory).chmod(0o755)


def _write(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def _dpkg_deb(deb: Deb, tree: Path, target: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        raise DebError(f"{deb.name}: dpkg-deb is not installed, and only it builds Debian packages")
    # SOURCE_DATE_EPOCH also clamps the time stamps of the files inside, which are all newer than it.
    done = subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(target)],
        env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "SOURCE_DATE_EPOCH": str(EPOCH), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DebError(f"{deb.name} {deb.version}: {done.stderr.strip() or 'dpkg-deb failed without a word'}")
