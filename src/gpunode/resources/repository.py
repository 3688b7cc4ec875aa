"""Signing keys and package repositories."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import urlencode, urlsplit

from gpunode.errors import HostError
from gpunode.formats import openpgp
from gpunode.host.expiry import key_expiries
from gpunode.host.packages import dnf, rpm
from gpunode.host.packages.apt import list_file_pattern
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import Difference, Local
from gpunode.resources.files import unified

LISTS = "/var/lib/apt/lists"
SIGNED = b"-----BEGIN PGP SIGNED MESSAGE-----"
# Where a manager keeps the index of the repository of a name; dnf 5 in the second folder of dnf's.
CACHES = {
    "dnf": (("/var/cache/dnf", "/var/cache/libdnf5"), "{name}-*"),
    "zypper": (("/var/cache/zypp/raw",), "{name}"),
}
EXPIRED_HINT = (
    "its publisher has a newer one, which a mirror may lack; or this host's clock is wrong: see `timedatectl`"
)
MIRROR_HINT = "a login page or a wrong mirror? see repositories in the profile"


@dataclass(frozen=True)
class KeyState:
    """The fingerprints in a keyring file; None when there is no file, and a word when it holds no key, or none that is good any more."""

    fingerprints: tuple[str, ...] | None
    problem: str = ""


@dataclass(frozen=True)
class SigningKey(Local):
    """A keyring file that holds keys of pinned fingerprints and no other. `armoured`: as text, the only form that rpm imports."""

    path: str
    url: str
    fingerprints: tuple[str, ...]
    why: str
    armoured: bool = False

    @property
    def id(self) -> str:
        """`key:PATH`."""
        return f"key:{self.path}"

    def observe(self, host: Reader) -> KeyState:
        """The fingerprints of the keys in the file, by our own reading, and whether they have expired."""
        content = host.read(self.path)
        if content is None:
            return KeyState(None)
        try:
            return KeyState(openpgp.fingerprints(content), _expired(content, host.now()))
        except openpgp.KeyFormatError as error:
            return KeyState((), str(error))

    def differences(self, state: KeyState) -> list[Difference]:
        """Absent, not (only) the pinned keys, or expired: a publisher gives the same key a longer life."""
        if state.fingerprints and set(state.fingerprints) <= set(self.fingerprints) and not state.problem:
            return []
        found = (
            "absent" if state.fingerprints is None else " ".join([", ".join(state.fingerprints), state.problem]).strip()
        )
        return [Difference("fingerprint", found, " or ".join(self.fingerprints), self.why)]

    def foresee(self, host: Reader, _state: KeyState) -> None:
        """The key can be fetched and is the pinned one."""
        self.fetched(host)

    def converge(self, host: Writer, _state: KeyState) -> None:
        """Fetch the key, compare its fingerprint, and only then put it where apt trusts it. Raises HostError."""
        host.write_file(self.path, self.fetched(host))

    def fetched(self, host: Reader) -> bytes:
        """The key from its address, as it is to lie in the file. Raises HostError unless it is a pinned one."""
        data = host.fetch(self.url)
        try:
            key = openpgp.binary(data)
            found, expired = openpgp.fingerprints(key), _expired(key, host.now())
        except openpgp.KeyFormatError as error:
            words = "an HTML page" if data.lstrip()[:1] == b"<" else f"no usable key ({error})"
            raise HostError(f"{self.url} answered {words}", hint=MIRROR_HINT) from None
        if not set(found) <= set(self.fingerprints):
            raise HostError(
                f"the key at {self.url} is {', '.join(found)}, wanted {' or '.join(self.fingerprints)}; it was not trusted",
                hint="if the mirror signs with its own key, name its fingerprint in the profile: repositories",
            )
        if expired:
            raise HostError(f"the key at {self.url} is {expired}; it was not trusted", hint=EXPIRED_HINT)
        return _armoured(key) if self.armoured else key


def _expired(keyring: bytes, now: float) -> str:
    """Since when no key of a keyring is good any more, in words; empty while one is."""
    ends = key_expiries(keyring).values()
    past = [end for end in ends if end is not None and end <= now]
    if not past or len(past) < len(ends):
        return ""
    return f"expired since {datetime.fromtimestamp(max(past), timezone.utc):%Y-%m-%d}"


def _armoured(key: bytes) -> bytes:
    """The key as text, with the checksum that older readers insist on (RFC 4880 §6.1)."""
    crc = 0xB704CE
    for byte in key:
        crc ^= byte << 16
        for _ in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    body = base64.b64encode(key).decode()
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    check = "=" + base64.b64encode(crc.to_bytes(3, "big")).decode()
    end = "-----END PGP PUBLIC KEY BLOCK-----"
    return "\n".join([openpgp.ARMOUR.decode(), "", *lines, check, end, ""]).encode()


@dataclass(frozen=True)
class TrustedKey(Local):
    """The key of a keyring file in rpm's own database: without it `rpm` and zypper do not know whose signature it is."""

    path: str
    fingerprints: tuple[str, ...]
    why: str

    @property
    def id(self) -> str:
        """`rpm-key:PATH`."""
        return f"rpm-key:{self.path}"

    def observe(self, host: Reader) -> tuple[str, ...]:
        """Those of the fingerprints that rpm trusts."""
        return tuple(each for each in self.fingerprints if rpm.trusts(host, each))

    def differences(self, state: tuple[str, ...]) -> list[Difference]:
        """None of them is trusted. The file may hold only some of those that are pinned."""
        return [] if state else [Difference("trust", "absent", " or ".join(self.fingerprints), self.why)]

    def converge(self, host: Writer, _state: tuple[str, ...]) -> None:
        """Import the file's keys, once more compared with the pinned fingerprints. Raises HostError."""
        found = openpgp.fingerprints(host.read(self.path) or b"")
        if not set(found) <= set(self.fingerprints):
            raise HostError(f"{self.path} holds the key {', '.join(found)}, wanted {' or '.join(self.fingerprints)}")
        host.trust_key(self.path, found)


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


@dataclass(frozen=True)
class RpmRepository(Local):
    """A .repo file of dnf's or zypper's, bound to its own key, its indices fetched.

    `signed_index` and `signed_packages` say which of the two the publisher signs: what is signed is checked, and something must be.
    `ca_bundle` is dnf's alone: zypper trusts the system's store.
    """

    manager: str
    path: str
    name: str
    uri: str
    keyring: str
    why: str
    signed_index: bool = True
    signed_packages: bool = True
    proxy: str = ""
    ca_bundle: str = ""

    def __post_init__(self) -> None:
        """A repository of which nothing is checked is no repository. Raises ValueError: the catalogue's mistake, not the host's."""
        if not self.signed_index and not self.signed_packages:
            raise ValueError(f"{self.uri}: nothing of it is signed")

    @property
    def id(self) -> str:
        """`repository:URI`."""
        return f"repository:{self.uri}"

    @property
    def text(self) -> str:
        """The .repo file."""
        check = (("gpgcheck", self.signed_packages), ("repo_gpgcheck", self.signed_index))
        lines = [f"[{self.name}]", f"name={self.name}", *self._address(), "enabled=1"]
        lines += [f"{key}={int(value)}" for key, value in check]
        lines += ["type=rpm-md", "autorefresh=1"] if self.manager == "zypper" else []
        return "\n".join([*lines, f"gpgkey=file://{self.keyring}", ""])

    def _address(self) -> list[str]:
        """zypper takes a proxy as part of the address, dnf as a key of its own."""
        if self.manager == "zypper" and self.proxy:
            proxy = urlsplit(self.proxy)
            words = {
                "proxy": proxy.hostname,
                "proxyport": proxy.port,
                "proxyuser": proxy.username,
                "proxypass": proxy.password,
            }
            return [f"baseurl={self.uri}?{urlencode({key: word for key, word in words.items() if word})}"]
        lines = [f"baseurl={self.uri}"]
        lines += [f"proxy={self.proxy}"] if self.proxy else []
        return lines + ([f"sslcacert={self.ca_bundle}"] if self.ca_bundle else [])

    def observe(self, host: Reader) -> RepositoryState:
        """The file, and the manager's own copy of the repository's index."""
        content = host.read(self.path)
        text = None if content is None else content.decode("utf-8", "replace")
        return RepositoryState(text, self._has_index(host))

    def _has_index(self, host: Reader) -> bool:
        caches, pattern = CACHES[self.manager]
        folders = [each for cache in caches for each in host.glob(cache, pattern.format(name=self.name))]
        return any(host.exists(f"{folder}/repodata/repomd.xml") for folder in folders)

    def differences(self, state: RepositoryState) -> list[Difference]:
        """The file, or an index that is missing."""
        found = []
        if state.text != self.text:
            word, diff = (
                "absent" if state.text is None else "other content",
                unified(self.path, state.text or "", self.text),
            )
            found.append(Difference("source", word, "as shown", self.why, diff))
        if not state.fetched:
            found.append(Difference("indices", "absent", "fetched", "packages can be found only in fetched indices"))
        return found

    def foresee(self, host: Reader, state: RepositoryState) -> None:
        """The address answers with an index; whether its signature is good is the package manager's to judge."""
        if state.fetched:
            return
        index = host.fetch(f"{self.uri.rstrip('/')}/repodata/repomd.xml")
        if b"<repomd" not in index[:1000]:
            words = "an HTML page" if index.lstrip()[:1] == b"<" else "no index"
            raise HostError(f"{self.uri} answered {words}", hint=MIRROR_HINT)

    def converge(self, host: Writer, _state: RepositoryState) -> None:
        """Write the file and fetch the index; one that cannot be fetched is an error, though an older copy is at hand."""
        with host.refreshing(f"lists:{self.manager}:{self.path}"):
            host.write_file(self.path, self.text.encode())


@dataclass(frozen=True)
class StreamState:
    """The file in which dnf keeps a module's stream, None where it keeps none, and its keys."""

    text: str | None
    stream: str
    enabled: bool


@dataclass(frozen=True)
class ModuleStream(Local):
    """A stream of a dnf module enabled, whichever was before: only packages of the enabled one can be installed.

    dnf's own file of the choice is what is written, for it is all that `dnf module enable`, `switch-to` and `reset` change before packages
    follow; so the choice before is restored to the byte.
    """

    module: str
    stream: str
    why: str

    @property
    def id(self) -> str:
        """`stream:MODULE`."""
        return f"stream:{self.module}"

    @property
    def path(self) -> str:
        """dnf's file of the module."""
        return f"/etc/dnf/modules.d/{self.module}.module"

    @property
    def text(self) -> str:
        """The file, as dnf writes it."""
        return f"[{self.module}]\nname={self.module}\nstream={self.stream}\nprofiles=\nstate=enabled\n"

    def observe(self, host: Reader) -> StreamState:
        """The stream that is enabled."""
        text = host.read_text(self.path)
        fields = dict(line.partition("=")[::2] for line in (text or "").splitlines())
        return StreamState(text, fields.get("stream", ""), fields.get("state") == "enabled")

    def differences(self, state: StreamState) -> list[Difference]:
        """Another stream, or none."""
        if state.enabled and state.stream == self.stream:
            return []
        found = state.stream if state.enabled else "none"
        return [Difference("stream", found, self.stream, self.why, unified(self.path, state.text or "", self.text))]

    def converge(self, host: Writer, _state: StreamState) -> None:
        """Enable it. Raises HostError naming the streams that there are when the indices do not have it."""
        offered = dnf.streams(host, self.module)
        if self.stream not in offered:
            there = ", ".join(offered) or "none"
            raise HostError(
                f"no repository has the stream {self.module}:{self.stream}",
                hint=f"of {self.module} there is: {there}; see driver.branch, driver.modules in the profile",
            )
        host.write_file(self.path, self.text.encode())
