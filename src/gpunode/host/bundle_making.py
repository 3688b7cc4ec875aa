"""A bundle being made: packages indexed as a flat apt repository, everything signed, written into one file in one step."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from gpunode.errors import CommandError, HostError
from gpunode.formats import bundle_archive, openpgp
from gpunode.formats.bundle import MANIFEST, PACKAGES, BundleError, Manifest, Member, PackageEntry, require_sound
from gpunode.formats.bundle_archive import CHUNK, Head
from gpunode.host.machine import Machine, Output
from gpunode.host.workspace import Workspace

GPG = ("gpg", "--batch", "--no-tty", "--yes", "--digest-algo", "SHA256")


@dataclass(frozen=True)
class Signer:
    """Whoever signs, by GnuPG: the name of a key, and the settings of the person's own that gpg is to run with (GNUPGHOME, GPG_TTY)."""

    key: str
    environment: tuple[tuple[str, str], ...] = ()

    def public_key(self, machine: Machine) -> bytes:
        """The key that others verify by, armoured. Raises HostError unless it is exactly one that others can read."""
        output = self._gpg(machine, "--export", "--armor", self.key)
        try:
            found = openpgp.fingerprints(output.stdout.encode()) if output.stdout.strip() else ()
        except openpgp.KeyFormatError as error:
            raise HostError(f"gpg's key {self.key}: {error}", hint="sign with another key") from None
        if len(found) != 1:
            raise HostError(
                f"{self.key} names {len(found)} keys, and one is to sign",
                hint="give its fingerprint: `gpg --list-secret-keys` shows them",
            )
        return output.stdout.encode()

    def sign(self, place: Workspace, name: str, data: bytes, *, clear: bool = False) -> bytes:
        """A detached signature of the data, armoured; or with `clear` the data with its signature around it. Raises CommandError."""
        source, target = place.write(f"sign/{name}", data), f"{place.path}/sign/{name}.asc"
        kind = "--clear-sign" if clear else "--detach-sign"
        self._gpg(place.machine, "--armor", "--local-user", self.key, "--output", target, kind, source)
        return place.machine.read(target)

    def _gpg(self, machine: Machine, *words: str) -> Output:
        output = machine.run([*GPG, *words], timeout=300, env=dict(self.environment))
        if not output.ok:
            raise CommandError(f"gpg could not use the key {self.key}", details=output.last_words())
        return output


def lay_packages(
    place: Workspace, debs: Sequence[str], architecture: str, date: str, signer: Signer | None
) -> list[PackageEntry]:
    """Make a flat apt repository of the packages, signed where somebody signs; returns what is in it. `date` is as in RFC 5322."""
    stanzas = []
    for deb in debs:
        stanza = _stanza(place.machine, deb)
        name = f"{stanza['Package']}_{stanza['Version'].split(':', 1)[-1]}_{stanza['Architecture']}.deb"
        member = member_of(place.place(deb, f"{PACKAGES}/{name}"), name)
        stanza |= {"Filename": f"./{name}", "Size": str(member.size), "SHA256": member.sha256}
        stanzas.append(stanza)
    index = "\n".join("".join(f"{key}: {value}\n" for key, value in stanza.items()) for stanza in stanzas).encode()
    place.write(f"{PACKAGES}/Packages", index)
    release = _release(index, architecture, date)
    place.write(f"{PACKAGES}/Release", release)
    if signer:
        place.write(f"{PACKAGES}/InRelease", signer.sign(place, "Release", release, clear=True))
    return [PackageEntry(stanza["Package"], stanza["Version"]) for stanza in stanzas]


def _stanza(machine: Machine, deb: str) -> dict[str, str]:
    """A package's own fields, continuation lines with the field that they continue."""
    output = machine.run(["dpkg-deb", "--field", deb])
    if not output.ok:
        raise CommandError(f"{deb} is no package", details=output.last_words())
    fields: dict[str, str] = {}
    key = ""
    for line in output.stdout.splitlines():
        if line[:1].isspace():
            fields[key] += f"\n{line}"
        else:
            key, _, value = line.partition(":")
            fields[key] = value.strip()
    return fields


def _release(index: bytes, architecture: str, date: str) -> bytes:
    lines = [
        "Origin: gpunode bundle",
        "Label: gpunode bundle",
        f"Architectures: {architecture}",
        f"Date: {date}",
        "SHA256:",
    ]
    return "\n".join([*lines, f" {hashlib.sha256(index).hexdigest()} {len(index)} Packages", ""]).encode()


def member_of(path: str, name: str) -> Member:
    """A file as the manifest lists it. Raises HostError."""
    digest, size = hashlib.sha256(), 0
    with _opened(path) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Member(name, size, digest.hexdigest())


def _opened(path: str) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise HostError(f"cannot read {path}: {error.strerror}") from None


def write_bundle(place: Workspace, manifest: Manifest, signer: Signer | None, output: str) -> str:
    """Sign the manifest and write the bundle, whose files lie in the workspace under their names; returns its sha256.

    Raises HostError where no host would accept it.
    """
    try:
        require_sound(manifest)
        return _write(place, manifest, signer, output)
    except BundleError as error:
        raise HostError(f"{output} is not written: {error}", hint="no host would accept such a bundle") from None


def _write(place: Workspace, manifest: Manifest, signer: Signer | None, output: str) -> str:
    data = manifest.encoded()
    head = Head(data)
    if signer:
        head = Head(data, signer.sign(place, MANIFEST, data), signer.public_key(place.machine))
    temporary = f"{place.path}/bundle"
    with open(temporary, "wb") as stream:
        bundle_archive.write(stream, head, _files(place, manifest))
    os.replace(temporary, output)
    return member_of(output, "").sha256


def _files(place: Workspace, manifest: Manifest) -> Iterator[tuple[Member, IO[bytes]]]:
    for member in manifest.files:
        with _opened(f"{place.path}/{member.name}") as file:
            yield member, file
