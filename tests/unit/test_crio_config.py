"""tests/cases/crio/<name>: host.toml, input.toml, input/NAME, expected…. A new case is a new folder and needs no code (see its README)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpunode.formats import crio_config, toml_edit
from gpunode.formats.engine_config import ConfigFile, ConfigFiles, Edited, Request
from gpunode.formats.engine_keys import difference
from gpunode.formats.toml_data import lookup, parse

FOLDER = Path(__file__).parents[1] / "cases" / "crio"
CASES = sorted(path.parent for path in FOLDER.glob("*/host.toml"))
MAIN, DROP_INS = "/etc/crio/crio.conf", "/etc/crio/crio.conf.d"


def _host(case: Path) -> dict[str, Any]:
    return parse((case / "host.toml").read_text("utf-8"))


def _texts(case: Path, kind: str) -> dict[str, str]:
    """The files of a case by the paths that they stand for."""
    found = {MAIN: case / f"{kind}.toml"} if (case / f"{kind}.toml").exists() else {}
    found |= {f"{DROP_INS}/{path.name}": path for path in sorted((case / kind).glob("*"))}
    return {name: path.read_bytes().decode() for name, path in found.items()}


def _files(texts: dict[str, str]) -> ConfigFiles:
    imported = [ConfigFile(path, text) for path, text in sorted(texts.items()) if path != MAIN]
    return ConfigFiles(ConfigFile(MAIN, texts.get(MAIN)), tuple(imported), f"{DROP_INS}/99-nvidia.toml")


def _edit(case: Path, texts: dict[str, str]) -> Edited:
    request = dict(_host(case)["request"])
    return crio_config.edit(_files(texts), Request(**{**request, "leave": frozenset(request.get("leave", ()))}))


GOOD = [case for case in CASES if "error" not in _host(case)]
BAD = [case for case in CASES if "error" in _host(case)]


def test_there_are_cases() -> None:
    assert len(GOOD) > 10
    assert BAD


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_edit_gives_the_expected_files(case: Path) -> None:
    host, before, expected = _host(case), _texts(case, "input"), _texts(case, "expected")

    edited = _edit(case, before)

    assert {each.path: each.after for each in edited.files} == expected
    assert all(each.before == before.get(each.path) for each in edited.files)
    assert sorted({reason.repair for reason in edited.reasons} - {""}) == host.get("repairs", [])
    assert [each.partition(" is ")[0].partition(":")[0] for each in edited.left] == [
        each.partition(":")[0] for each in host.get("left", [])
    ]
    after = {**before, **expected}
    assert _edit(case, after).files == ()
    changed = difference(crio_config.merged(_files(before)), crio_config.merged(_files(after)))
    assert sorted(path for path, _, _ in changed) == sorted(reason.path for reason in edited.reasons)
    assert all(toml_edit.revert(each.before, each.after, each.after) == each.before for each in edited.files)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_edit_refuses(case: Path) -> None:
    with pytest.raises(ValueError, match=r"\S") as refusal:
        _edit(case, _texts(case, "input"))
    assert _host(case)["error"] in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_entry_comes_whole_from_the_file_that_is_read_last() -> None:
    first = '[crio.runtime]\nlog_level = "info"\n[crio.runtime.runtimes.a]\nruntime_path = "/a"\nmonitor_path = "/m"\n'
    last = '[crio.runtime]\nlog_level = "debug"\n[crio.runtime.runtimes.a]\nruntime_path = "/b"\n'
    merged = crio_config.merged(_files({f"{DROP_INS}/1": first, f"{DROP_INS}/2": last}))
    assert lookup(merged, ("crio", "runtime")) == {"log_level": "debug", "runtimes": {"a": {"runtime_path": "/b"}}}


def test_there_must_be_a_folder_for_the_drop_in() -> None:
    with pytest.raises(ValueError, match=r"/etc/crio/crio\.conf: there is no folder for a drop-in"):
        crio_config.edit(ConfigFiles(ConfigFile(MAIN, None)), Request("1.37.0"))


def test_the_place_is_told_with_its_reason() -> None:
    assert crio_config.edit(_files({}), Request("1.37.0")).place.startswith(f"a drop-in, {DROP_INS}/99-nvidia.toml: ")
    theirs = {f"{DROP_INS}/50-gpu.conf": '[crio.runtime.runtimes.nvidia]\nruntime_path = "/x"\n'}
    assert crio_config.edit(_files(theirs), Request("1.37.0")).place.startswith(
        f"{DROP_INS}/50-gpu.conf: the runtime is"
    )
