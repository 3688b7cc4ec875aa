"""Signing keys and package repositories."""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.errors import HostError
from gpunode.formats import openpgp
from gpunode.host.packages.apt import list_file_pattern
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import Difference, Local
from gpunode.resources.files import unified

LISTS = "/var/lib/apt/lists"
SIGNED = b"-----BEGIN PGP SIGNED MESSAGE-----"
MIRROR_HINT = "a login page or a wrong mirror? see repositories in the profile"


@dataclass(frozen=True)
class KeyState:
    """The fingerprints in a keyring file; None when there is no file, and a word when it holds no key."""

    fingerprints: tuple[str, ...] | None
    problem: str = ""


@dataclass(frozen=True)
class SigningKey(Local):
    """A keyring file that holds keys of pinned fingerprints and no other."""

    path: str
    url: str
    fingerprints: tuple[str, ...]
    why: str

    @property
    def id(self) -> str:
        """`key:PATH`."""
        return f"key:{self.path}"

    def observe(self, host: Reader) -> KeyState:
        """The fingerprints of the keys in the file, by our own reading."""
        content = host.read(self.path)
        if content is None:
            return KeyState(None)
        try:
            return KeyState(openpgp.fingerprints(content))
        except openpgp.KeyFormatError as error:
            return KeyState((), str(error))

    def differences(self, state: KeyState) -> list[Difference]:
        """Absent, or not (only) the pinned keys."""
        if state.fingerprints and set(state.fingerprints) <= set(self.fingerprints):
            return []
        found = "absent" if state.fingerprints is None else ", ".join(state.fingerprints) or state.problem
        return [Difference("fingerprint", found, " or ".join(self.fingerprints), self.why)]

    def foresee(self, host: Reader, _state: KeyState) -> None:
        """The key can be fetched and is the pinned one."""
        self._fetched(host)

    def converge(self, host: Writer, _state: KeyState) -> None:
        """Fetch the key, compare its fingerprint, and only then put it where apt trusts it. Raises HostError."""
        host.write_file(self.path, self._fetched(host))

    def _fetched(self, host: Reader) -> bytes:
        data = host.fetch(self.url)
        try:
            key = openpgp.binary(data)
            found = openpgp.fingerprints(key)
        except openpgp.KeyFormatError as error:
            words = "an HTML page" if data.lstrip()[:1] == b"<" else f"no usable key ({error})"
            raise HostError(f"{self.url} answered {words}", hint=MIRROR_HINT) from None
        if not set(found) <= set(self.fingerprints):
            raise HostError(
                f"the key at {self.url} is {', '.join(found)}, wanted {' or '.join(self.fingerprints)}; it was not trusted",
                hint="if the mirror signs with its own key, name its fingerprint in the profile: repositories",
            )
        return key


@dataclass(frozen=True)
class RepositoryState:
    """The source file's text, and whether its indices were ever fetched."""

    text: str | None
    fetched: bool


@dataclass(frozen=True)
class AptRepository(Local):
    """A deb822 source bound to its own keyring, its indices fetched."""

    path: str
    uri: str
    suite: str
    keyring: str
    why: str
    components: str = ""

    @property
    def id(self) -> str:
        """`repository:URI`."""
        return f"repository:{self.uri}"

    @property
    def text(self) -> str:
        """The source file."""
        lines = ["Types: deb", f"URIs: {self.uri}", f"Suites: {self.suite}"]
        lines += [f"Components: {self.components}"] if self.components else []
        return "\n".join([*lines, f"Signed-By: {self.keyring}", ""])

    def observe(self, host: Reader) -> RepositoryState:
        """The file, and apt's own copy of the repository's index."""
        content = host.read(self.path)
        text = None if content is None else content.decode("utf-8", "replace")
        return RepositoryState(text, bool(host.glob(LISTS, list_file_pattern(self.uri))))

    def differences(self, state: RepositoryState) -> list[Difference]:
        """The file, or indices that are missing."""
        found = []
        if state.text != self.text:
            word = "absent" if state.text is None else "other content"
            found.append(
                Difference("source", word, "as shown", self.why, unified(self.path, state.text or "", self.text))
            )
        if not state.fetched:
            found.append(Difference("indices", "absent", "fetched", "packages can be found only in fetched indices"))
        return found

    def foresee(self, host: Reader, state: RepositoryState) -> None:
        """A flat repository answers with a signed index; whether the signature is good is apt's to judge."""
        if state.fetched or self.components:
            return
        index = host.fetch(f"{self.uri.rstrip('/')}/InRelease")
        if not index.startswith(SIGNED):
            words = "an HTML page" if index.lstrip()[:1] == b"<" else "no signed index"
            raise HostError(f"{self.uri} answered {words}", hint=MIRROR_HINT)

    def converge(self, host: Writer, _state: RepositoryState) -> None:
        """Write the source and fetch the indices; any that cannot be fetched is an error."""
        with host.refreshing(f"lists:apt:{self.path}"):
            host.write_file(self.path, self.text.encode())
