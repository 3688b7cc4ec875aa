"""Tables renamed in place."""

from __future__ import annotations

import pytest

from gpunode.formats.toml_edit import EditError
from gpunode.formats.toml_rename import rename_table

CRI = ("plugins", "cri")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[plugins.cri]\na = 1 # cri\n", '[plugins."x.y"]\na = 1 # cri\n'),
        ("  [ plugins . 'cri' . b ] # b\n", "  [ plugins.'x.y'.b ] # b\n"),
        ("[plugins]\ncri.a = 1\ncri.b = 'cri'\n", "[plugins]\n'x.y'.a = 1\n'x.y'.b = 'cri'\n"),
        ("plugins.cri.a = 1\r\n", 'plugins."x.y".a = 1\r\n'),
        ("[plugins]\ncri = { a = 1 }\n", '[plugins]\n"x.y" = { a = 1 }\n'),
        ("[plugins.cri]\n[[plugins.cri.list]]\na = 1\n", '[plugins."x.y"]\n[[plugins."x.y".list]]\na = 1\n'),
        ("\ufeff[plugins.cri]\n", '\ufeff[plugins."x.y"]\n'),
        ("[plugins.criminal]\n[plugins.cri]\n", '[plugins.criminal]\n[plugins."x.y"]\n'),
    ],
)
def test_only_the_name_changes(text: str, expected: str) -> None:
    quoted = "'" if "'" in expected else '"'
    rest = f"\n[other]\ncri = {quoted}cri{quoted}\nmore = {quoted}{quoted}\n"
    assert rename_table(text + rest, CRI, "x.y") == expected + rest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[plugins.cri]\n[plugins.x]\n", "there already"),
        ("plugins = { cri = { a = 1 } }\n", "not spelled in a header or a dotted key"),
    ],
)
def test_a_name_that_cannot_be_changed(text: str, message: str) -> None:
    with pytest.raises(EditError, match=message):
        rename_table(text, CRI, "x")
