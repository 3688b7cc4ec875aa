"""Every case of tests/cases/containerd, edited and compared byte for byte. A new case is a new folder and needs no code."""

from __future__ import annotations

import pytest
from containerd_cases import Case, after, cases

from gpunode.formats.containerd_config import edit, revert
from gpunode.formats.toml_data import parse

ALL = cases()
EDITED = pytest.mark.parametrize("case", [case for case in ALL if not case.error], ids=lambda case: case.name)
REFUSED = pytest.mark.parametrize("case", [case for case in ALL if case.error], ids=lambda case: case.name)


def test_there_are_enough_cases() -> None:
    assert len(ALL) >= 60


@EDITED
def test_the_files_become_what_is_expected(case: Case) -> None:
    edited = edit(case.files, case.request)

    assert {each.path: each.after for each in edited.files} == case.expected
    assert edited.place.startswith(case.place)
    assert "\n" not in edited.place
    assert sorted({reason.repair for reason in edited.reasons if reason.repair}) == case.repairs
    assert sorted(line.rpartition("(")[2].rstrip(")") for line in edited.left) == case.left


@EDITED
def test_every_change_has_its_reason(case: Case) -> None:
    edited = edit(case.files, case.request)

    assert {reason.file for reason in edited.reasons} == {each.path for each in edited.files}
    assert all(reason.why and "\n" not in reason.why and not reason.why.endswith(".") for reason in edited.reasons)
    assert len({(reason.file, reason.path) for reason in edited.reasons}) == len(edited.reasons)


@EDITED
def test_a_second_edit_changes_nothing(case: Case) -> None:
    edited = edit(case.files, case.request)
    again = edit(after(case.files, edited), case.request)

    assert (again.files, again.reasons) == ((), ())


@EDITED
def test_the_revert_gives_back_every_byte(case: Case) -> None:
    for each in edit(case.files, case.request).files:
        assert revert(each.before, each.after, each.after) == each.before


@EDITED
def test_an_edit_made_since_survives_the_revert(case: Case) -> None:
    for each in edit(case.files, case.request).files:
        gap = "" if each.after.endswith("\n") else "\n"
        since = '[proxy_plugins.mine]\naddress = "/run/mine.sock" # added since\n'

        reverted = revert(each.before, each.after, each.after + gap + since)

        expected = parse(each.before or "")
        written = parse(each.after)
        if not expected and "version" in written:
            expected["version"] = written["version"]
        expected["proxy_plugins"] = {"mine": {"address": "/run/mine.sock"}}
        assert reverted is not None
        assert parse(reverted) == expected
        assert reverted.endswith(since)


@REFUSED
def test_a_refusal_is_one_line(case: Case) -> None:
    with pytest.raises(ValueError, match=r"\S") as refusal:
        edit(case.files, case.request)
    assert case.error in str(refusal.value)
    assert "\n" not in str(refusal.value)
