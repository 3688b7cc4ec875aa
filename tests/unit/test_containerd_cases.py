"""tests/cases/containerd/<name>: host.toml (the request, or the error expected), input.toml, expected.toml.

No input.toml stands for a file that does not exist. A new case is a new folder and needs no code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpunode.formats.containerd_config import Request, patch, revert
from gpunode.formats.toml_data import parse

CASES = sorted(path.parent for path in (Path(__file__).parents[1] / "cases" / "containerd").glob("*/host.toml"))


def _text(path: Path) -> str | None:
    return path.read_bytes().decode() if path.exists() else None


def _host(case: Path) -> dict[str, Any]:
    return parse((case / "host.toml").read_text("utf-8"))


@pytest.mark.parametrize("case", [case for case in CASES if "error" not in _host(case)], ids=lambda case: case.name)
def test_patch_gives_the_expected_file(case: Path) -> None:
    request = Request(**_host(case)["request"])
    before, expected = _text(case / "input.toml"), _text(case / "expected.toml")
    assert expected is not None

    patched = patch(before, request)

    assert patched.text == expected
    assert (patched.reasons == []) == (expected == before)
    again = patch(patched.text, request)
    assert (again.text, again.reasons) == (expected, [])
    assert revert(before, patched.text, patched.text) == before


@pytest.mark.parametrize("case", [case for case in CASES if "error" in _host(case)], ids=lambda case: case.name)
def test_patch_refuses(case: Path) -> None:
    host = _host(case)
    with pytest.raises(ValueError, match=r"\S") as refusal:
        patch(_text(case / "input.toml"), Request(**host["request"]))
    assert host["error"] in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("case", [case for case in CASES if "error" not in _host(case)], ids=lambda case: case.name)
def test_an_edit_made_since_survives_the_revert(case: Path) -> None:
    before = _text(case / "input.toml")
    written = patch(before, Request(**_host(case)["request"])).text
    gap = "" if written.endswith("\n") else "\n"
    edit = '[proxy_plugins.mine]\naddress = "/run/mine.sock" # added since\n'

    reverted = revert(before, written, written + gap + edit)

    assert reverted is not None
    expected = parse(before or "")
    if not parse(before or ""):
        expected["version"] = parse(written)["version"]
    expected["proxy_plugins"] = {"mine": {"address": "/run/mine.sock"}}
    assert parse(reverted) == expected
    assert reverted.endswith(edit)
