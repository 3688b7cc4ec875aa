"""The product as layers of a lab host: third-party wheels in one, this checkout's source in another that is cheap."""

import hashlib
import importlib.metadata
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import gpunode
from gpunode.lab import LabError, interpreter
from gpunode.lab.layers import build
from gpunode.lab.machine import command

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIBRARIES, SOURCE, COMMAND = "opt/gpunode/lib", "opt/gpunode/src", "usr/local/bin/gpunode"

PACKAGE = Path(gpunode.__file__).parent
PROJECT = PACKAGE.parent.parent  # the checkout, when this runs from one

WRAPPER = f"""#!/{interpreter.PYTHON}
import sys

sys.path[0:0] = ["/{SOURCE}", "/{LIBRARIES}"]
from gpunode.cli import main

sys.exit(main())
"""


def product(below: Path, suite: str = "trixie") -> list[Path]:
    """Return the layers with the product on a Debian layer of this suite, bottom first: its Python, its dependencies, its source."""
    python = interpreter.layer(below, suite)
    ready = [below, python]
    return [python, dependencies(ready, suite), source(ready)]


def dependencies(below: Sequence[Path], suite: str) -> Path:
    """Return the layer with the product's and the lab's wheels for the suite's Python, in /opt/gpunode/lib."""
    arguments = pip_arguments(suite)
    pinned = [Path(word).read_text() for word in arguments if word.endswith(".txt")]

    def make(root: Path) -> None:
        command(sys.executable, "-m", "pip", "install", "--quiet", "--target", root / LIBRARIES, *arguments)
        interpreter.byte_compile(root, LIBRARIES)

    what = "installing the product's dependencies for the lab host (once)"
    return build("libraries", what, [arguments, pinned], below, make)


def source(below: Sequence[Path]) -> Path:
    """Return the layer with this checkout's source in /opt/gpunode/src and the command in /usr/local/bin."""
    digest = _digest(PACKAGE)

    def make(root: Path) -> None:
        copy = root / SOURCE / "gpunode"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if _digest(copy) != digest:
            raise LabError("the source changed while it was copied into the lab: try again")
        interpreter.byte_compile(root, SOURCE)
        wrapper = root / COMMAND
        wrapper.write_text(WRAPPER)
        wrapper.chmod(0o755)

    return build("source", "laying in the product's source", [digest, WRAPPER], below, make)


def _digest(package: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(package)}\0{file.stat().st_mode:o}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def pip_arguments(suite: str) -> list[str]:
    """Return what pip is told: the suite's Python and platform, and the requirements, pinned by hash where they are."""
    python, glibc = interpreter.VERSIONS[suite]
    target = ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp"]
    target += [f"--platform={tag}" for tag in platform_tags(platform.machine(), glibc)]
    pinned = PROJECT / "requirements" / "lab-host.txt"
    if pinned.is_file():
        return [*target, "--require-hashes", "--requirement", str(pinned)]
    return [*target, *requirements()]


def platform_tags(machine: str, glibc: int) -> list[str]:
    """Return the wheel platforms that glibc 2.`glibc` can load, newest first; pip does not derive older from newer."""
    oldest = 5 if machine == "x86_64" else 17
    return [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, oldest - 1, -1)] + [f"manylinux2014_{machine}"]


def requirements() -> list[str]:
    """Return the product's dependencies and those of its lab extra: from the checkout, else from the installed package.

    Raises LabError if neither is there.
    """
    pyproject = PROJECT / "pyproject.toml"
    if pyproject.is_file():
        project = tomllib.loads(pyproject.read_text())["project"]
        return [*project["dependencies"], *project["optional-dependencies"]["lab"]]
    try:
        declared = importlib.metadata.requires("gpunode") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise LabError(
            "gpunode is neither a checkout nor an installed package: its dependencies are unknown"
        ) from error
    return [_without_extra(line) for line in declared if "extra ==" not in line or re.search(r"extra == .lab.", line)]


def _without_extra(requirement: str) -> str:
    """`PyYAML>=6; extra == "lab"` → `PyYAML>=6`: pip knows no extras outside a package."""
    name, _, marker = requirement.partition(";")
    return name.strip() if "extra ==" in marker else requirement
