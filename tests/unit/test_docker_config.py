"""tests/cases/docker/<name>: host.toml, input.json, expected.json. A new case is a new folder and needs no code (see its README)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpunode.formats import docker_config, json_edit
from gpunode.formats.engine_config import ConfigFile, ConfigFiles, Edited, Request
from gpunode.formats.engine_keys import difference
from gpunode.formats.json_data import raw_leaves, read
from gpunode.formats.toml_data import dotted
from gpunode.formats.toml_data import parse as parse_toml

FOLDER = Path(__file__).parents[1] / "cases" / "docker"
CASES = sorted(path.parent for path in FOLDER.glob("*/host.toml"))
PATH = "/etc/docker/daemon.json"


def _host(case: Path) -> dict[str, Any]:
    return parse_toml((case / "host.toml").read_text("utf-8"))


def _text(path: Path) -> str | None:
    return path.read_bytes().decode() if path.exists() else None


def _files(host: dict[str, Any], text: str | None) -> ConfigFiles:
    command = (ConfigFile("docker.service", "\n".join(host["words"])),) if "words" in host else ()
    return ConfigFiles(ConfigFile(PATH, text), command)


def _edit(case: Path, text: str | None) -> Edited:
    request = dict(_host(case)["request"])
    return docker_config.edit(
        _files(_host(case), text), Request(**{**request, "leave": frozenset(request.get("leave", ()))})
    )


GOOD = [case for case in CASES if "error" not in _host(case)]
BAD = [case for case in CASES if "error" in _host(case)]


def test_there_are_cases() -> None:
    assert len(GOOD) > 25
    assert len(BAD) > 8


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_edit_gives_the_expected_file(case: Path) -> None:
    host, before, expected = _host(case), _text(case / "input.json"), _text(case / "expected.json")

    edited = _edit(case, before)

    assert [each.after for each in edited.files] == ([] if expected is None else [expected])
    assert sorted({reason.repair for reason in edited.reasons} - {""}) == host.get("repairs", [])
    assert [each.partition(":")[0] for each in edited.left] == host.get("left", [])
    if expected is None:
        assert edited.reasons == ()
        return
    change = edited.files[0]
    assert (change.path, change.before, change.style) == (PATH, before, "json")
    assert _edit(case, expected).files == ()
    changed = [path for path, _, _ in difference(json_edit.parse(before or ""), json_edit.parse(expected))]
    assert sorted(changed) == sorted(reason.path for reason in edited.reasons), "each change has its reason"


@pytest.mark.parametrize(
    "case", [case for case in GOOD if (case / "expected.json").exists()], ids=lambda case: case.name
)
def test_rollback_takes_out_what_was_set_and_leaves_edits_made_since(case: Path) -> None:
    before, written = _text(case / "input.json"), _text(case / "expected.json") or ""
    assert json_edit.revert(before, written, written) == before

    now = json_edit.set_keys(written, {("labels",): ["mine"], ("runtimes", "theirs", "path"): "/usr/bin/theirs"})
    reverted = json_edit.revert(before, written, now)

    assert reverted is not None
    expected = json_edit.parse(before or "")
    runtimes = {**(expected.get("runtimes") or {}), "theirs": {"path": "/usr/bin/theirs"}}
    assert json_edit.parse(reverted) == {**expected, "labels": ["mine"], "runtimes": runtimes}
    if before and before.strip():
        kept = [leaf for leaf in raw_leaves(before, read(before)) if leaf[1] not in ("{}", "null")]
        assert not [leaf for leaf in kept if leaf not in list(raw_leaves(reverted, read(reverted)))], (
            "written as before"
        )


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_edit_refuses(case: Path) -> None:
    with pytest.raises(ValueError, match=r"\S") as refusal:
        _edit(case, _text(case / "input.json"))
    assert _host(case)["error"] in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_difference_of_two_configurations_names_keys_and_values() -> None:
    before = {"runtimes": {}, "a": None, "b": 1, "c": {"d": True}}
    after = {"runtimes": {"nvidia": {"path": "/n"}}, "a": {"x": 1}, "b": 1.0, "c": {}}
    told = {dotted(path): (old, new) for path, old, new in difference(before, after)}
    assert told == {
        "runtimes.nvidia.path": (None, "/n"),
        "a.x": (None, 1),
        "b": (1, 1.0),
        "c.d": (True, None),
        "c": (None, {}),
    }


def test_cases_are_json_where_they_say_so() -> None:
    for case in GOOD:
        for name in ("input.json", "expected.json"):
            text = (_text(case / name) or "").removeprefix("\ufeff")
            assert not text.strip() or isinstance(json.loads(text), dict)
