"""tests/cases/containerd through the real binary of each case's release: what it makes of the files before and after, as data."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from containerd_cases import Case, after, cases

from gpunode.formats.containerd_config import edit, effective_difference, unintended
from gpunode.formats.containerd_releases import knowledge
from gpunode.formats.engine_config import ConfigFile, ConfigFiles
from gpunode.formats.toml_data import TomlError, lookup, parse
from gpunode.lab import engines

Document = dict[str, Any]


@cache
def binaries() -> dict[str, Path]:
    """The real binaries by the release that they say they are."""
    return {engines.version(release): engines.binary(release) for release in engines.SUITES}


def release_of(case: Case) -> str:
    """The case's release without what a distribution adds to it."""
    return re.split(r"[^0-9.]", case.request.version)[0]


ALL = [case for case in cases() if release_of(case) in {"1.4.13", "1.6.20", "1.7.24", "2.1.9"}]
K0S = [case for case in ALL if case.files.main.path.startswith("/etc/k0s/")]  # k0s merges the files, not containerd
OF_CONTAINERD = [case for case in ALL if case not in K0S]
COMPARED = [case for case in OF_CONTAINERD if case.effective is not None]
UNREADABLE = [case for case in OF_CONTAINERD if case.effective is None and not case.error]
# Refused for what the files say, and not for what is asked of them.
REFUSED = [case for case in OF_CONTAINERD if case.error and case.request.place == "auto" and not case.request.cdi]


def by_name(chosen: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.name)


def dump(case: Case, files: ConfigFiles, folder: Path) -> subprocess.CompletedProcess[str]:
    """Lay the files into a folder as they lie on a host and have the binary read them, imports found by itself."""
    for file in (files.main, *files.imported):
        if file.text is not None:
            target = folder / file.path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(moved(file.text, folder).encode())
    main = folder / files.main.path.lstrip("/")
    if not main.exists():
        main.parent.mkdir(parents=True, exist_ok=True)
        main.write_text(f"version = {knowledge().release(case.request.version).writes}\n")
    argv: list[str | Path] = [binaries()[release_of(case)], "--config", main, "config", "dump"]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def moved(text: str, folder: Path) -> str:
    """The text with the paths of its imports in the folder; relative ones stay."""
    try:
        imports = parse(text).get("imports", [])
    except TomlError:
        return text
    for path in {path for path in imports if path.startswith("/")}:
        text = re.sub(f"(?<=[\"']){re.escape(path)}(?=[\"'])", f"{folder}{path}", text)
    return text


def effective(case: Case, files: ConfigFiles, folder: Path) -> Document:
    done = dump(case, files, folder)
    assert done.returncode == 0, done.stderr
    document = parse(done.stdout)
    document.pop("imports", None)
    return document


@pytest.mark.parametrize("release", engines.SUITES)
def test_there_is_a_binary_of_each_release(release: str) -> None:
    assert engines.version(release).startswith(f"{release}.")
    assert any(release_of(case) == engines.version(release) for case in COMPARED)


@by_name(COMPARED)
def test_what_the_binary_makes_of_the_files_differs_as_the_case_says(case: Case, tmp_path: Path) -> None:
    edited = edit(case.files, case.request)
    before = effective(case, case.files, tmp_path / "before")
    now = effective(case, after(case.files, edited), tmp_path / "after")

    differences = effective_difference(before, now)

    expected = [(tuple(each["path"]), each.get("before"), each.get("after")) for each in case.effective or []]
    assert sorted(differences, key=str) == sorted(expected, key=str)
    assert unintended(differences, edited, case.files) == []


@by_name(REFUSED)
def test_files_that_gpunode_refuses_the_binary_refuses_too(case: Case, tmp_path: Path) -> None:
    assert dump(case, case.files, tmp_path).returncode != 0


@by_name([case for case in K0S if not case.error])
def test_what_k0s_is_given_to_merge_the_binary_reads_as_it_is_meant(case: Case, tmp_path: Path) -> None:
    layouts, request = knowledge().layouts, case.request
    [drop_in] = edit(case.files, request).files
    runtimes = layouts[knowledge().release(request.version).writes].runtimes
    alone = ConfigFiles(ConfigFile(drop_in.path, drop_in.after))
    entry = lookup(effective(case, alone, tmp_path), (*runtimes, request.runtime_name))
    assert (entry["runtime_type"], entry["options"]["BinaryName"]) == ("io.containerd.runc.v2", request.binary)


@by_name(UNREADABLE)
def test_what_the_binary_refused_before_it_reads_afterwards(case: Case, tmp_path: Path) -> None:
    assert dump(case, case.files, tmp_path / "before").returncode != 0
    effective(case, after(case.files, edit(case.files, case.request)), tmp_path / "after")
