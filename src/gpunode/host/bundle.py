"""A bundle on the host that it is for: whose it is and what it holds, each file of it verified, and where it lies unpacked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gpunode.errors import HostError
from gpunode.formats import bundle_archive, openpgp
from gpunode.formats.bundle import (
    KEY,
    MANIFEST,
    PACKAGES,
    SIGNATURE,
    BundleError,
    Manifest,
    Target,
    parse,
    require_target,
)
from gpunode.formats.bundle_archive import CHUNK, Content, Head
from gpunode.host.reader import Reader

FOLDER = "/var/lib/gpunode-bundle"
"""Where bundles are unpacked: root's own, and readable by all, for apt reads its sources as a user of its own."""
SOURCE = "/etc/apt/sources.list.d/gpunode-bundle.sources"
"""The apt source of the bundle in use."""
URI = "URIs: file://"
MARK = ".sha256"
"""Holds the sum by which the bundle that lies unpacked was verified. No file of a bundle can have this name: it begins with a dot."""
# Stand for what is read from memory: nothing of the bundle is on the disk before all of it is verified.
KEYRING, SIGNED, BY = "@gpunode-bundle-key@", "@gpunode-bundle-signature@", "@gpunode-bundle-manifest@"
GOOD = "[GNUPG:] GOODSIG "
HINT = "nothing was changed; fetch the bundle again from where it was made (`gpunode bundle inspect FILE` looks at one)"


@dataclass(frozen=True)
class Pins:
    """By what a bundle is known to be the right one: who may have signed it, the sum of the whole file, or both."""

    fingerprints: tuple[str, ...] = ()
    sha256: str = ""


@dataclass(frozen=True)
class Bundle:
    """A bundle that was looked at: its path, its head, and the manifest in it."""

    path: str
    head: Head
    manifest: Manifest


def read(host: Reader, path: str) -> Bundle:
    """The bundle in a file, its manifest not verified yet. Raises HostError."""
    with host.stream(path) as stream, naming(path):
        head = bundle_archive.head(stream)
        return Bundle(path, head, parse(head.manifest))


def signers(bundle: Bundle) -> tuple[str, ...]:
    """The fingerprints of the keys that are in the bundle to verify its signature by; none where nobody signed it. Raises HostError."""
    head = bundle.head
    with naming(bundle.path):
        if head.signature and not head.key:
            raise BundleError(KEY, f"there is a signature ({SIGNATURE}) and no key to verify it by")
        if head.key and not head.signature:
            raise BundleError(SIGNATURE, f"there is a key ({KEY}) and no signature by it")
        try:
            return openpgp.fingerprints(head.key) if head.key else ()
        except openpgp.KeyFormatError as error:
            raise BundleError(KEY, str(error)) from None


def require_signed(host: Reader, bundle: Bundle, fingerprints: tuple[str, ...]) -> None:
    """Raise HostError unless one of the keys pinned has signed the manifest."""
    found = signers(bundle)
    with naming(bundle.path):
        if not found:
            raise BundleError(
                SIGNATURE, "the bundle is not signed, and the profile wants a signature of " + " or ".join(fingerprints)
            )
        if not set(found) <= set(fingerprints):
            raise BundleError(
                KEY, f"the bundle is signed by {', '.join(found)}, and the profile wants {' or '.join(fingerprints)}"
            )
        _require_good_signature(host, bundle.head)


def _require_good_signature(host: Reader, head: Head) -> None:
    """By the program that apt itself trusts for this: gpgv, or sqv where there is none. Its key alone is in the keyring."""
    contents = {KEYRING: openpgp.binary(head.key), SIGNED: head.signature, BY: head.manifest}
    if host.which("gpgv"):
        output = host.query(["gpgv", "--status-fd", "1", "--keyring", KEYRING, SIGNED, BY], instead=contents)
        good = output.ok and GOOD in output.stdout
    elif host.which("sqv"):
        output = host.query(["sqv", "--keyring", KEYRING, SIGNED, BY], instead=contents)
        good = output.ok
    else:
        raise HostError(
            "there is neither gpgv nor sqv on this host to verify the bundle's signature by",
            hint="apt needs one of them too",
        )
    if not good:
        raise BundleError(SIGNATURE, f"it is no good signature of {MANIFEST}: {' '.join(output.last_words(1))}")


def verify(host: Reader, bundle: Bundle, pins: Pins, target: Target | None) -> None:
    """Read the whole bundle: sum, signature, kind of host, and every file. Raises HostError naming the first file that is wrong."""
    if pins.sha256:
        _require_sum(host, bundle.path, pins.sha256)
    if pins.fingerprints:
        require_signed(host, bundle, pins.fingerprints)
    if target is not None:
        require_for(bundle, target)
    with naming(bundle.path):
        for content in contents(host, bundle.path, bundle.manifest):
            for _ in content.chunks:
                pass


def require_for(bundle: Bundle, target: Target) -> None:
    """Raise HostError where the bundle is for another kind of host."""
    with naming(bundle.path):
        require_target(bundle.manifest, target)


def contents(host: Reader, path: str, manifest: Manifest) -> Iterator[Content]:
    """Every file of a bundle, verified as it is read. Raises HostError."""
    with host.stream(path) as stream, naming(path):
        yield from bundle_archive.contents(stream, manifest)


def sha256(host: Reader, path: str) -> str:
    """The sum of a whole file, however large. Raises HostError."""
    digest = hashlib.sha256()
    with host.stream(path) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _require_sum(host: Reader, path: str, wanted: str) -> None:
    found = sha256(host, path)
    if found != wanted:
        raise HostError(f"{path}: its sha256 is {found}, and the profile wants {wanted} (bundle.sha256)", hint=HINT)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Turn what is wrong with a file of a bundle into an error that names both."""
    try:
        yield
    except BundleError as error:
        raise HostError(f"{path}: {error}", hint=HINT) from None


# --- unpacked -------------------------------------------------------------------------------------------------------


def folder_of(bundle: Bundle) -> str:
    """Where a bundle is unpacked: a folder of its own for each, so that the one before can be gone back to."""
    return f"{FOLDER}/{hashlib.sha256(bundle.head.manifest).hexdigest()[:16]}"


def in_use(host: Reader) -> Bundle | None:
    """The bundle that apt is pointed to, by its unpacked head; None where there is none, or what is there is damaged."""
    lines = (host.read(SOURCE) or b"").decode("utf-8", "replace").splitlines()
    uri = next((line.removeprefix(URI) for line in lines if line.startswith(URI)), "")
    folder = uri.removesuffix(f"/{PACKAGES}/")
    head = Head(*((host.read(f"{folder}/{name}") or b"") for name in (MANIFEST, SIGNATURE, KEY)))
    if not uri or not head.manifest:
        return None
    try:
        found = Bundle(folder, head, parse(head.manifest))
    except BundleError:
        return None
    return found if folder_of(found) == folder else None


def unpacked(host: Reader, bundle: Bundle, sha256: str = "") -> bool:
    """Whether every file lies unpacked, whole by its size: their hashes were compared when they were written.

    What was verified by another sum than the one that is wanted now, or by none, counts as not unpacked.
    """
    folder, head = folder_of(bundle), bundle.head
    if sha256 and host.read(f"{folder}/{MARK}") != sha256.encode():
        return False
    if any(data and host.read(f"{folder}/{name}") != data for name, data in head.parts()):
        return False
    return all(
        (stat := host.lstat(f"{folder}/{member.name}")) is not None and stat.size == member.size
        for member in bundle.manifest.files
    )
