"""A bundle as the source of packages and images, for a host without network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from gpunode.errors import HostError
from gpunode.formats.bundle import KEY, PACKAGES, ImageArchive, Target
from gpunode.host import bundle, container_images
from gpunode.host.packages.apt import list_file_pattern
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import Difference, Local
from gpunode.resources.files import unified
from gpunode.resources.repository import LISTS

ROOM = 64 << 20
"""Bytes to be left free beside what is unpacked."""
NAMESPACE = ("--namespace", "k8s.io")
"""containerd's own name space for the kubelet's images."""


@dataclass(frozen=True)
class BundleState:
    """The bundle, where its files belong, whether they are there, the apt source's text, and whether apt has read its index."""

    found: bundle.Bundle
    folder: str
    unpacked: bool
    text: str | None
    fetched: bool


@dataclass(frozen=True)
class LocalRepository(Local):
    """A bundle unpacked, and apt pointed to it. It is verified whole before anything of it is written.

    `target` is the kind of host that this is.
    """

    path: str
    fingerprints: tuple[str, ...]
    sha256: str
    target: Target
    why: str

    @property
    def id(self) -> str:
        """`bundle:PATH`."""
        return f"bundle:{self.path}"

    @property
    def pins(self) -> bundle.Pins:
        """By what the profile knows the right bundle."""
        return bundle.Pins(self.fingerprints, self.sha256)

    def observe(self, host: Reader) -> BundleState:
        """The bundle by its head, and what is unpacked of it. Raises HostError for one that is not signed as wanted or for another host."""
        found = looked_at(host, self.path)
        if self.fingerprints:
            bundle.require_signed(host, found, self.fingerprints)
        bundle.require_for(found, self.target)
        folder = bundle.folder_of(found)
        text = host.read_text(bundle.SOURCE)
        # apt keeps the index of a repository that nobody signed as Release, not as InRelease.
        pattern = list_file_pattern(_uri(folder)).replace("*InRelease", "*Release")
        fetched = bool(host.glob(LISTS, pattern))
        return BundleState(found, folder, bundle.unpacked(host, found, self.sha256), text, fetched)

    def differences(self, state: BundleState) -> list[Difference]:
        """Not unpacked, not named among apt's sources, or not read by apt."""
        found, manifest = [], state.found.manifest
        if not state.unpacked:
            words = f"{len(manifest.files)} files, {-(-manifest.size >> 20)} MiB, in {state.folder}"
            found.append(Difference("files", "absent", words, self.why))
        if state.text != self.text(state):
            word = "absent" if state.text is None else "other content"
            diff = unified(bundle.SOURCE, state.text or "", self.text(state))
            found.append(Difference("source", word, "as shown", self.why, diff))
        if not state.fetched:
            found.append(Difference("indices", "absent", "fetched", "packages can be found only in fetched indices"))
        return found

    def foresee(self, host: Reader, state: BundleState) -> None:
        """Every byte of the bundle is as its manifest says, and there is room for it."""
        if state.unpacked:
            return
        self._require_file(state)
        bundle.verify(host, state.found, self.pins, self.target)
        free, needed = host.free_bytes(bundle.FOLDER), state.found.manifest.size + ROOM
        if free < needed:
            raise HostError(
                f"{free >> 20} MiB are free below {bundle.FOLDER}, and the bundle takes {needed >> 20}",
                hint="free some space first",
            )

    def converge(self, host: Writer, state: BundleState) -> None:
        """Unpack what was verified, write the source, have apt read its index. Raises HostError."""
        if not state.unpacked:
            self._require_file(state)
            bundle.verify(host, state.found, self.pins, self.target)
            digest = hashlib.sha256(state.found.head.manifest).hexdigest()
            host.unpack_bundle(state.found.path, state.folder, manifest=digest, sha256=self.sha256)
        with host.refreshing(f"lists:apt:{bundle.SOURCE}"):
            host.write_file(bundle.SOURCE, self.text(state).encode())

    def _require_file(self, state: BundleState) -> None:
        """Raise HostError where the bundle's file is gone, and what is unpacked is not enough without it."""
        if state.found.path != self.path:
            raise HostError(
                f"{self.path} is not there, and what is unpacked in {state.folder} is damaged, or was verified by another sum",
                hint=f"bring the bundle back to {self.path}",
            )

    def text(self, state: BundleState) -> str:
        """The apt source. An index that nobody signed is trusted for the sum of the whole bundle, which was compared before."""
        trust = f"Signed-By: {state.folder}/{KEY}" if state.found.head.key else "Trusted: yes"
        return f"Types: deb\nURIs: {_uri(state.folder)}\nSuites: ./\n{trust}\n"


def _uri(folder: str) -> str:
    return f"file://{folder}/{PACKAGES}/"


def looked_at(host: Reader, path: str) -> bundle.Bundle:
    """The bundle at a path; the one in use where the file is gone by now (a medium that was taken out). Raises HostError."""
    if host.exists(path):
        return bundle.read(host, path)
    found = bundle.in_use(host)
    if found is None:
        raise HostError(
            f"there is no bundle {path}",
            hint="bring it there, or name it in the profile: bundle.path; `gpunode bundle create` makes one",
        )
    return found


@dataclass(frozen=True)
class LoadedImages(Local):
    """The bundle's images in containerd: for the kubelet, and for `ctr` itself. `ctr` is the client's command line up to its verb."""

    path: str
    ctr: tuple[str, ...]
    why: str

    @property
    def id(self) -> str:
        """`images:BUNDLE`."""
        return f"images:{self.path}"

    def observe(self, host: Reader) -> dict[tuple[str, ...], list[ImageArchive]]:
        """By client, the archives of which an image is missing. Raises HostError."""
        archives = looked_at(host, self.path).manifest.images
        if not archives:
            return {}
        return {client: _missing(archives, container_images.digests(host, client)) for client in self._clients()}

    def differences(self, state: dict[tuple[str, ...], list[ImageArchive]]) -> list[Difference]:
        """One for each image that is missing."""
        names = sorted({name for archives in state.values() for each in archives for name in each.names})
        return [Difference(name, "absent", "loaded", self.why) for name in names]

    def converge(self, host: Writer, state: dict[tuple[str, ...], list[ImageArchive]]) -> None:
        """Load them from where the bundle lies unpacked."""
        folder = bundle.folder_of(looked_at(host, self.path))
        for client, archives in state.items():
            for archive in archives:
                host.import_images(client, f"{folder}/{archive.file}", archive.names)

    def _clients(self) -> tuple[tuple[str, ...], ...]:
        return ((*self.ctr, *NAMESPACE), self.ctr)


def _missing(archives: tuple[ImageArchive, ...], present: Mapping[str, str]) -> list[ImageArchive]:
    return [archive for archive in archives if not present.keys() >= set(archive.names)]
