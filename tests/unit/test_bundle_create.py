"""A bundle for another release and architecture than this machine's, by the real apt and gpg from an https site of stub packages."""

from __future__ import annotations

import io
import json
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gpunode.cli import main
from gpunode.formats import bundle_archive
from gpunode.formats.bundle import parse
from gpunode.lab.debs import Deb
from gpunode.lab.images import oci_archive
from gpunode.lab.repository import Key, Repository, Signing

NEEDED = ("apt-get", "dpkg-deb", "gpg", "openssl")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)}"),
]

DRIVER, TOOLKIT = "580.159.04-1", "1.20.0-1"
KERNEL = "6.12.95+deb13-arm64"
IMAGE = "registry.example.com/team/tool:1"


def deb(name: str, version: str, *depends: str, architecture: str = "arm64") -> Deb:
    return Deb(name, version, architecture, depends=depends)


REPOSITORIES = {
    "cuda/debian13/sbsa": [
        deb("nvidia-open", DRIVER, f"nvidia-kernel-open-dkms (= {DRIVER})", f"libcuda1 (= {DRIVER})", architecture="all"),
        deb("nvidia-open", "580.178.01-1", architecture="all"),
        deb("nvidia-kernel-open-dkms", DRIVER, "dkms"),
        deb("nvidia-kernel-open-dkms", "580.178.01-1"),
        deb("libcuda1", DRIVER, "libc6"),
        deb("libcuda1", "580.178.01-1"),
        deb("nvidia-persistenced", DRIVER),
    ],
    "toolkit/stable/deb/arm64": [
        deb("nvidia-container-toolkit", TOOLKIT, f"nvidia-container-toolkit-base (= {TOOLKIT})", "libnvidia-container-tools"),
        deb("nvidia-container-toolkit-base", TOOLKIT),
        deb("libnvidia-container-tools", TOOLKIT, "libnvidia-container1"),
        deb("libnvidia-container1", TOOLKIT, "libc6"),
    ],
    "debian": [
        deb("libc6", "2.41-12"),
        deb("gcc", "4:14.2.0-1", "libc6"),
        deb("make", "4.4.1-2", "libc6"),
        deb("dkms", "3.2.2-1", "gcc", architecture="all"),
        deb(f"linux-headers-{KERNEL}", "6.12.95-1"),
    ],
}  # fmt: skip


@dataclass
class Site:
    """Repositories and their key behind https, and the profile and sources by which they are reached."""

    folder: Path
    profile: Path
    sources: Path
    key: Key

    def create(self, *words: str) -> list[str]:
        target = [
            "--distribution",
            "debian",
            "--release",
            "13",
            "--architecture",
            "aarch64",
            "--sources",
            str(self.sources),
        ]
        return ["bundle", "create", "--profile", str(self.profile), *target, *words]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    work = tmp_path_factory.mktemp("site")
    for place, debs in REPOSITORIES.items():
        repository = Repository(work / "www" / place, cache=work / "cache", signing=Signing())
        repository.publish(debs)
    key = repository.key
    (work / "www/key.asc").write_bytes(key.public(armor=True))
    certificate = work / "site.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(work / "site.key"), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ThreadingHTTPServer(("localhost", 0), partial(Quiet, directory=str(work / "www")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, work / "site.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"https://localhost:{server.server_address[1]}"
    keyring = work / "archive.asc"
    keyring.write_bytes(key.public(armor=True))
    sources = work / "target.sources"
    sources.write_text(f"Types: deb\nURIs: {base}/debian\nSuites: ./\nSigned-By: {keyring}\n")
    profile = work / "profile.toml"
    profile.write_text(profile_text(base, key.fingerprint, str(certificate)))
    yield Site(work, profile, sources, key)
    server.shutdown()


def profile_text(base: str, fingerprint: str, certificate: str) -> str:
    mirror = f'key_url = "{base}/key.asc"\nfingerprints = ["{fingerprint}"]\n'
    return (
        '[driver]\nmodules = "open"\nversion = "580.159.04"\n'
        f'[network]\nca_bundle = "{certificate}"\n'
        f'[repositories.cuda]\nurl = "{base}/cuda"\n{mirror}'
        f'[repositories.container_toolkit]\nurl = "{base}/toolkit"\n{mirror}'
    )


def gpunode(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpunode", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def made(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code = gpunode(monkeypatch, *words, "--json")
    out, err = capsys.readouterr()
    assert code == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def test_a_bundle_for_arm_is_made_here(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything that the steps would install on that host, at the versions pinned, with all it needs; nothing of this machine's."""
    image = oci_archive({"/bin/tool": b"#!"}, reference=IMAGE, entrypoint=["/bin/tool"], env={}, folder=tmp_path)
    file = tmp_path / "arm.bundle"
    monkeypatch.setenv("GNUPGHOME", str(site.key.home))
    words = ("--output", str(file), "--kernel", KERNEL, "--image", str(image), "--sign-with", site.key.fingerprint)
    document = made(monkeypatch, capsys, *site.create(*words))
    assert document["target"] == {"distribution": "debian", "release": "13", "architecture": "aarch64"}
    assert document["packages"] == {
        each.name: each.version for debs in REPOSITORIES.values() for each in debs if "178" not in each.version
    }
    assert document["images"] == [IMAGE]
    assert document["signed_by"] == [site.key.fingerprint]
    assert {"device-plugin.yaml", "images/0.tar", "apt/gcc_14.2.0-1_arm64.deb", "apt/InRelease"} <= set(
        document["files"]
    )
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []
    looked = made(monkeypatch, capsys, "bundle", "inspect", str(file))
    assert looked["files"] == document["files"]
    assert looked["sha256"] == document["sha256"]


def test_what_the_target_has_already_is_left_out(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = tmp_path / "status"
    there = [each for each in REPOSITORIES["debian"] if each.name in ("libc6", "gcc")]
    status.write_text("\n".join(f"{each.control_text()}Status: install ok installed\n" for each in there))
    document = made(monkeypatch, capsys, *site.create("--output", str(tmp_path / "b"), "--status", str(status)))
    assert not {"libc6", "gcc"} & set(document["packages"])
    assert {"make", "dkms", "nvidia-open"} <= set(document["packages"])
    assert document["signed_by"] == []
    assert any("--kernel" in note for note in document["notes"])


def test_an_index_that_another_key_signed_makes_no_bundle(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = Key(tmp_path / "stranger", "somebody else")
    wrong = tmp_path / "wrong.sources"
    keyring = tmp_path / "stranger.asc"
    keyring.write_bytes(stranger.public(armor=True))
    wrong.write_text(site.sources.read_text().replace(str(site.folder / "archive.asc"), str(keyring)))
    words = [word if word != str(site.sources) else str(wrong) for word in site.create("--output", str(tmp_path / "b"))]
    assert gpunode(monkeypatch, *words) == 1
    assert "apt-get update for the target failed" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_manifest_changed_after_it_was_signed_is_refused_by_name(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, forged = tmp_path / "b", tmp_path / "forged"
    monkeypatch.setenv("GNUPGHOME", str(site.key.home))
    made(monkeypatch, capsys, *site.create("--output", str(file), "--sign-with", site.key.fingerprint))
    with file.open("rb") as stream:
        head = bundle_archive.head(stream)
    changed = head.manifest.replace(b'"13"', b'"12"')
    with file.open("rb") as stream, tarfile.open(fileobj=stream) as archive, forged.open("wb") as target:
        manifest = parse(changed)
        files = ((member, archive.extractfile(member.name) or io.BytesIO()) for member in manifest.files)
        bundle_archive.write(target, bundle_archive.Head(changed, head.signature, head.key), files)
    assert gpunode(monkeypatch, "bundle", "inspect", str(forged)) == 1
    assert f"{forged}: manifest.json.asc: it is no good signature of manifest.json" in capsys.readouterr().err


def test_the_archive_of_another_release_must_be_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], site: Site, tmp_path: Path
) -> None:
    words = [
        "bundle",
        "create",
        "--profile",
        str(site.profile),
        "--distribution",
        "ubuntu",
        "--release",
        "22.04",
        "--output",
        str(tmp_path / "b"),
    ]
    assert gpunode(monkeypatch, *words) == 2
    assert "where is the archive of ubuntu 22.04?" in capsys.readouterr().err


@pytest.mark.parametrize("distribution", ["rhel", "sles"])
def test_dnf_and_zypper_are_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], site: Site, tmp_path: Path, distribution: str
) -> None:
    words = [
        "bundle",
        "create",
        "--profile",
        str(site.profile),
        "--distribution",
        distribution,
        "--release",
        "9",
        "--output",
        str(tmp_path / "b"),
    ]
    assert gpunode(monkeypatch, *words) == 2
    assert "alone so far" in (said := capsys.readouterr().err)
    assert "mirror NVIDIA's repositories" in said
