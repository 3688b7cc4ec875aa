"""A bundle is written only if a host would accept it, and from the very files that its manifest tells of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_bundle import FILES, manifest_of

from gpunode.errors import HostError
from gpunode.formats.bundle import ImageArchive
from gpunode.host.bundle_making import write_bundle
from gpunode.host.local import LocalMachine
from gpunode.host.workspace import workspace


def test_a_relative_link_is_placed_as_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "images-1.tar").write_bytes(b"an archive")
    link = tmp_path / "images.tar"
    link.symlink_to("images-1.tar")
    with workspace(LocalMachine(), str(tmp_path / "b")) as place:
        placed = Path(place.place(str(link), "images/0.tar"))
        assert not placed.is_symlink()
        assert placed.read_bytes() == b"an archive"
        assert place.names("images") == ["0.tar"]


def test_a_bundle_that_no_host_would_accept_is_not_written(tmp_path: Path) -> None:
    output = tmp_path / "b"
    manifest = replace(manifest_of(FILES), images=(ImageArchive("images/0.tar", ("a/b:1",)),))
    with workspace(LocalMachine(), str(output)) as place:
        for name, content in FILES.items():
            place.write(name, content)
        with pytest.raises(HostError, match=r"is not written: images/0.tar: the manifest names it among the images"):
            write_bundle(place, manifest, None, str(output))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"Package: b\n", b"Package: a\nmore", b""])
def test_a_file_that_changes_while_it_is_written_makes_no_bundle(tmp_path: Path, content: bytes) -> None:
    output = tmp_path / "b"
    with workspace(LocalMachine(), str(output)) as place:
        for name, told in FILES.items():
            place.write(name, told)
        place.write("apt/Packages", content)
        with pytest.raises(HostError, match=r"is not written: apt/Packages: it "):
            write_bundle(place, manifest_of(FILES), None, str(output))
    assert list(tmp_path.iterdir()) == []
