"""The stub packages of NVIDIA's names: data of the folder stubs/ turned into packages.

What they hold is declared in stubs/packages.toml; nothing here knows a package by name.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from gpunode.lab import LabError, mocklibs
from gpunode.lab.debs import Deb
from gpunode.lab.machine import command

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Libraries that nothing in the lab calls: one symbol is enough for the loader's cache and for a version look-up.
PLAIN_LIBRARIES = {
    "libcudart.so": ("libcudart.so.{major}", "cudaRuntimeGetVersion"),
    "libnvidia-container.so": ("libnvidia-container.so.1", "nvc_version"),
}


class StubError(LabError):
    """A stub cannot be made; the message names it."""


def packages(repository: str, libraries: Path) -> list[Deb]:
    """All stub packages of one repository: "cuda", "container-toolkit" or "debian-local".

    `libraries` is the folder that the compiled mock libraries are kept in. Raises StubError when an entry names
    a file that does not exist, LabError when gcc is missing or a library does not compile.
    """
    declared = _declared()
    families = declared["families"]
    return [
        _package(entry, words, libraries)
        for entry in declared["packages"]
        if families[entry["family"]]["repository"] == repository
        for words in _versions(families[entry["family"]])
    ]


def driver_versions() -> list[str]:
    """The driver versions that there are stubs of, without the Debian revision."""
    return [words["upstream"] for words in _versions(_declared()["families"]["driver"])]


def toolkits() -> list[dict[str, str]]:
    """The words of each CUDA toolkit that there are stubs of: release, nvcc, runtime, branch …"""
    families = _declared()["families"]
    return [words for name, family in families.items() if name.startswith("cuda-") for words in _versions(family)]


def _declared() -> dict[str, Any]:
    return tomllib.loads(_stub("packages.toml"))


def _versions(family: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    kernel = os.uname().release
    for version in family["versions"]:
        full = str(version).format(kernel=kernel)
        upstream = full.rsplit("-", 1)[0]
        branch = upstream.split(".", 1)[0]
        yield {"version": full, "upstream": upstream, "branch": branch, "kernel": kernel, **family.get("words", {})}


def _package(entry: Mapping[str, Any], family_words: Mapping[str, str], libraries: Path) -> Deb:
    words = {**family_words, **entry.get("words", {})}
    # A word of the package may itself be made of its version.
    words = {key: value.format_map(words) for key, value in words.items()}

    def several(key: str) -> tuple[str, ...]:
        return tuple(text.format_map(words) for text in entry.get(key, ()))

    contents = {
        path.format_map(words): content(kind, words, libraries) for path, kind in entry.get("files", {}).items()
    }
    return Deb(
        name=entry["name"].format_map(words),
        version=words["version"],
        architecture=entry.get("architecture", "amd64"),
        section=entry.get("section", "misc"),
        summary=entry.get("summary", ""),
        depends=several("depends"),
        provides=several("provides"),
        conflicts=several("conflicts"),
        files={path: (data, 0o755 if data.startswith(b"#!") else 0o644) for path, data in contents.items()},
        links={path.format_map(words): target.format_map(words) for path, target in entry.get("links", {}).items()},
        conffiles=several("conffiles"),
        control={name: _fill(_stub(stub), words) for name, stub in entry.get("control", {}).items()},
    )


def content(kind: str, words: Mapping[str, str], libraries: Path) -> bytes:
    """What a file is made of, by the word for it in the declaration. `libraries` is as in `packages`. Raises StubError."""
    source, _, name = kind.rpartition(":")
    if source == "library":
        return _library(name, words, libraries)
    if source == "mocks":
        return (files("gpunode.lab") / "mocks" / name).read_bytes()
    return _fill(_stub(name), words).encode()


def _stub(name: str) -> str:
    try:
        return (files("gpunode.lab") / "stubs" / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StubError(f"stubs/{name}: no such stub file") from None


def _fill(text: str, words: Mapping[str, str]) -> str:
    return re.sub(r"@([a-z]+)@", lambda match: words.get(match[1], match[0]), text)


def _library(name: str, words: Mapping[str, str], libraries: Path) -> bytes:
    if name in PLAIN_LIBRARIES:
        soname, symbol = PLAIN_LIBRARIES[name]
        return _plain_library(soname.format(major=words["branch"]), symbol, libraries)
    return mocklibs.build(words["upstream"], libraries)[name].read_bytes()


def _plain_library(soname: str, symbol: str, folder: Path) -> bytes:
    target = folder / soname
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / soname
            compiler = ("gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", made, "-x", "c", "-")
            command(*compiler, stdin=f"int {symbol}(void) {{ return 0; }}\n")
            made.replace(target)
    return target.read_bytes()
