"""A bundle that is not as it should be is refused whole, by the name of the file in it, before anything is written."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gpunode.cli import main
from gpunode.errors import HostError
from gpunode.formats import bundle as format_
from gpunode.formats import bundle_archive
from gpunode.formats.bundle import BundleError, ImageArchive, Manifest, Member, PackageEntry, Target, parse
from gpunode.formats.image_archive import image_names
from gpunode.host import bundle
from gpunode.host.local import LocalMachine
from gpunode.host.reader import Reader
from gpunode.lab.images import oci_archive
from memory import keys

HERE = Target("debian", "13", "x86_64")
FILES = {
    "device-plugin.yaml": b"kind: DaemonSet\n",
    "apt/a_1_amd64.deb": b"package a" * 500,
    "apt/Packages": b"Package: a\n",
}
LAST = "apt/Packages"
ENDLESS = b"""{"schema": "gpunode-bundle/1", "target": {"distribution": "debian", "release": "13", "architecture": "x86_64"}, "created": "",
"gpunode": "", "files": [{"name": "a", "size": Infinity, "sha256": ""}], "packages": [], "images": []}"""
SIGNER, STRANGER = keys.public_key("the site"), keys.public_key("somebody else")


def manifest_of(files: Mapping[str, bytes], target: Target = HERE) -> Manifest:
    members = tuple(Member(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items())
    return Manifest(target, "2026-11-24T12:00:00Z", "1.0", members, (PackageEntry("a", "1"),), ())


def lay_head(folder: Path, head: bundle_archive.Head) -> str:
    """A bundle of FILES whose head is as given."""
    path = folder / "gpu.bundle"
    with path.open("wb") as stream:
        bundle_archive.write(stream, head, ((each, io.BytesIO(FILES[each.name])) for each in manifest_of(FILES).files))
    return str(path)


def lay(folder: Path, files: Mapping[str, bytes] = FILES, *, manifest: Manifest | None = None, key: bytes = b"") -> str:
    """A bundle of these files, its manifest another's where one is given; with a key it says that it is signed."""
    told = manifest or manifest_of(FILES)
    head = bundle_archive.Head(told.encoded(), b"a signature" if key else b"", keys.armored(key) if key else b"")
    path = folder / "gpu.bundle"
    with path.open("wb") as stream:
        bundle_archive.write(
            stream, head, ((member, io.BytesIO(files[member.name])) for member in manifest_of(files).files)
        )
    return str(path)


def refusal(path: str, pins: bundle.Pins | None = None, target: Target | None = HERE) -> str:
    host = Reader(LocalMachine())
    with pytest.raises(HostError) as refused:
        bundle.verify(host, bundle.read(host, path), pins or bundle.Pins(), target)
    return refused.value.message


def test_a_whole_bundle_is_taken(tmp_path: Path) -> None:
    path, host = lay(tmp_path), Reader(LocalMachine())
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    bundle.verify(host, bundle.read(host, path), bundle.Pins(sha256=digest), HERE)
    found = {each.member.name: b"".join(each.chunks) for each in bundle.contents(host, path, manifest_of(FILES))}
    assert found == FILES


def test_a_manifest_reads_back_as_it_was_written() -> None:
    manifest = replace(manifest_of(FILES), images=(ImageArchive("apt/Packages", ("a/b:1", "a/c:1")),))
    assert parse(manifest.encoded()) == manifest


@pytest.mark.parametrize("name", FILES)
def test_a_tampered_file_is_named(tmp_path: Path, name: str) -> None:
    data = bytearray(FILES[name])
    data[len(data) // 2] ^= 1
    path = lay(tmp_path, {**FILES, name: bytes(data)})
    assert refusal(path).startswith(f"{path}: {name}: its sha256 is ")


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_length_is_named(tmp_path: Path, name: str) -> None:
    path = lay(tmp_path, {**FILES, name: FILES[name] + b"more"})
    assert f": {name}: it has {len(FILES[name]) + 4} bytes" in refusal(path)


def test_a_bundle_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    """At every length but those that end only in the padding, which is nobody's file."""
    path = Path(lay(tmp_path))
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        end = max(each.offset_data + each.size for each in archive)
    for length in {*range(0, end, 97), end - 1}:
        path.write_bytes(whole[:length])
        said = refusal_of_any(str(path))
        assert said.startswith(f"{path}: "), length
        assert any(name in said for name in (*FILES, format_.MANIFEST)), said


def refusal_of_any(path: str) -> str:
    host = Reader(LocalMachine())
    with pytest.raises(HostError) as refused:
        bundle.verify(host, bundle.read(host, path), bundle.Pins(), HERE)
    return refused.value.message


def test_the_file_in_which_a_bundle_ends_is_named(tmp_path: Path) -> None:
    path = Path(lay(tmp_path))
    with tarfile.open(path) as archive:
        deb, last = archive.getmember("apt/a_1_amd64.deb"), archive.getmember(LAST)
    whole = path.read_bytes()
    path.write_bytes(whole[: deb.offset_data + 1000])
    assert refusal(str(path)) == f"{path}: apt/a_1_amd64.deb: the bundle ends in the middle of it: it was cut short"
    path.write_bytes(whole[: last.offset])
    assert refusal(str(path)) == f"{path}: {LAST}: the bundle ends before it: it was cut short"


def test_a_file_that_the_manifest_does_not_list_is_named(tmp_path: Path) -> None:
    path = lay(tmp_path, {**FILES, "apt/extra.deb": b"x"})
    assert ": apt/extra.deb: it is in the bundle, and the manifest does not list it" in refusal(path)


def test_a_link_is_no_file(tmp_path: Path) -> None:
    path, manifest = tmp_path / "b", manifest_of({"apt/Packages": b""}).encoded()
    with tarfile.open(path, "w") as archive:
        head = tarfile.TarInfo(format_.MANIFEST)
        head.size = len(manifest)
        archive.addfile(head, io.BytesIO(manifest))
        link = tarfile.TarInfo("apt/Packages")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
        archive.addfile(link)
    assert ": apt/Packages: it is in the bundle, and the manifest does not list it as a file" in refusal(str(path))


@pytest.mark.parametrize(
    "name", ["../etc/passwd", "/etc/passwd", "apt/../../x", "apt/.hidden", "apt//x", "key.asc", "a b", "apt/x\n"]
)
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(BundleError) as refused:
        parse(manifest_of({name: b"x"}).encoded())
    assert refused.value.file == name


@pytest.mark.parametrize(
    ("made_for", "words"),
    [
        (Target("ubuntu", "24.04", "x86_64"), "for ubuntu 24.04 on x86_64"),
        (Target("debian", "12", "x86_64"), "for debian 12 on x86_64"),
        (Target("debian", "13", "aarch64"), "for debian 13 on aarch64"),
    ],
)
def test_a_bundle_for_another_kind_of_host_is_refused(tmp_path: Path, made_for: Target, words: str) -> None:
    path = lay(tmp_path, manifest=manifest_of(FILES, made_for))
    assert refusal(path) == f"{path}: manifest.json: the bundle is {words}, and this host is {HERE}"


def test_one_that_nobody_signed_is_refused_where_a_key_is_pinned(tmp_path: Path) -> None:
    path, wanted = lay(tmp_path), keys.fingerprint(SIGNER)
    assert refusal(path, bundle.Pins((wanted,))) == (
        f"{path}: manifest.json.asc: the bundle is not signed, and the profile wants a signature of {wanted}"
    )


def test_one_that_another_signed_is_refused(tmp_path: Path) -> None:
    path, wanted, found = lay(tmp_path, key=STRANGER), keys.fingerprint(SIGNER), keys.fingerprint(STRANGER)
    said = refusal(path, bundle.Pins((wanted,)))
    assert said == f"{path}: key.asc: the bundle is signed by {found}, and the profile wants {wanted}"
    both = lay(tmp_path, key=SIGNER + STRANGER)  # the right key beside another's
    assert "key.asc" in refusal(both, bundle.Pins((wanted,)))


def test_a_signature_that_is_none_is_refused(tmp_path: Path) -> None:
    path = lay(tmp_path, key=SIGNER)
    assert ": manifest.json.asc: it is no good signature" in refusal(path, bundle.Pins((keys.fingerprint(SIGNER),)))


@pytest.mark.parametrize(
    ("signature", "key", "said"),
    [
        (b"a signature", b"no key", "key.asc: these bytes are no OpenPGP packets"),
        (b"a signature", b"", "key.asc: there is a signature (manifest.json.asc) and no key to verify it by"),
        (b"", keys.armored(SIGNER), "manifest.json.asc: there is a key (key.asc) and no signature by it"),
    ],
)
def test_half_a_signature_is_refused_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    signature: bytes,
    key: bytes,
    said: str,
) -> None:
    path = lay_head(tmp_path, bundle_archive.Head(manifest_of(FILES).encoded(), signature, key))
    assert refusal(path, bundle.Pins((keys.fingerprint(SIGNER),))) == f"{path}: {said}"
    code, line = inspect(path, monkeypatch, capsys)
    assert code == 1
    assert line.startswith(f"gpunode: {path}: {said}")


def inspect(path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """`gpunode bundle inspect`: its exit status and what it said on standard error."""
    monkeypatch.setattr(sys, "argv", ["gpunode", "bundle", "inspect", path])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().err


def test_what_nobody_foresaw_is_one_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: object) -> None:
        raise IndexError("nobody foresaw this")

    monkeypatch.setattr(bundle, "verify", fail)
    code, line = inspect(lay(tmp_path), monkeypatch, capsys)
    assert code == 1
    assert line.startswith("gpunode: internal error: IndexError: nobody foresaw this")


def test_the_sum_of_the_whole_is_compared(tmp_path: Path) -> None:
    path = lay(tmp_path)
    assert "its sha256 is " in refusal(path, bundle.Pins(sha256="0" * 64))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no tar", b"x" * 5000, b"\0" * 10240])
def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "b"
    path.write_bytes(content)
    with pytest.raises(HostError) as refused:
        bundle.read(Reader(LocalMachine()), str(path))
    assert refused.value.message.startswith(f"{path}: manifest.json: ")


@pytest.mark.parametrize(
    "content", [b"{}", b"[]", b"\xff", b'{"schema": "gpunode-bundle/2"}', b'{"schema": "gpunode-bundle/1"}', ENDLESS]
)
def test_a_manifest_of_another_make_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError) as refused:
        parse(content)
    assert refused.value.file == "manifest.json"


def test_images_are_known_by_their_full_names(tmp_path: Path) -> None:
    archive = oci_archive(
        {"/x": b"x"}, reference="registry.example.com/a/b:1", entrypoint=["/x"], env={}, folder=tmp_path
    )
    with archive.open("rb") as stream:
        assert image_names(stream) == ("registry.example.com/a/b:1",)
    with pytest.raises(ValueError, match="no archive of images"):
        image_names(io.BytesIO(b"no tar"))
