"""Signed flat apt repositories, laid out as NVIDIA publishes its own."""

import gzip
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

from gpunode.lab import LabError
from gpunode.lab.debs import Deb, cached
from gpunode.lab.machine import lock

# Keys are old enough that one of them can have expired long before today.
KEY_CREATED = "20250101T000000"
EXPIRY_SET_AT = "20250201T000000"
KEY_USER = "gpunode lab signing key"


class RepositoryError(LabError):
    """A repository cannot be signed; the message carries gpg's own words."""


@dataclass(frozen=True)
class Signing:
    """How a repository is signed, and what is wrong with it on purpose.

    Without arguments nothing is. `other_key`: signed with a key that is not the published one. `expired_key`: the
    published key is the right one, but it expired in February 2025. `valid_until`: end of the Release file's life; one
    in the past makes apt call it expired. `date` is the Release file's own, and `signed_at` when it was signed: later than now, they
    are what a host sees whose clock has stayed behind. `tampered`: names of packages whose file differs from what the index says.
    """

    other_key: bool = False
    expired_key: bool = False
    valid_until: datetime | None = None
    date: datetime | None = None
    signed_at: datetime | None = None
    tampered: frozenset[str] = frozenset()


class Key:
    """A signing key in a private GnuPG home, made on first use and kept there."""

    def __init__(self, home: Path, user: str = KEY_USER) -> None:
        self.home = home
        self.user = user
        if not (home / "complete").exists():
            self._make()

    @property
    def fingerprint(self) -> str:
        """The primary key's fingerprint: 40 upper-case hexadecimal digits."""
        listing = self._gpg("--with-colons", "--list-keys").decode()
        return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))

    def public(self, *, armor: bool, expired: bool = False) -> bytes:
        """The public key, binary or armored; `expired` gives the same key with an expiry date in the past."""
        if expired:
            return self._expired_twin().public(armor=armor)
        return self._gpg("--export", *(["--armor"] if armor else []))

    def sign(self, document: Path, target: Path, mode: str, at: datetime | None = None) -> None:
        """Sign a file into `target`, as if at the moment `at`; mode is gpg's "--clearsign" or "--detach-sign" (armored)."""
        clock = ("--faked-system-time", at.strftime("%Y%m%dT%H%M%S")) if at else ()
        self._gpg(*clock, "--yes", "--armor", "--digest-algo", "SHA256", "--output", str(target), mode, str(document))
        target.chmod(0o644)

    def _make(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True, mode=0o700)
        recipe = (
            "%no-protection\nKey-Type: RSA\nKey-Length: 2048\nKey-Usage: sign\n"
            f"Creation-Date: {KEY_CREATED}\nName-Real: {self.user}\nExpire-Date: 0\n%commit\n"
        )
        self._gpg("--gen-key", stdin=recipe.encode())
        (self.home / "complete").touch()

    def _expired_twin(self) -> "Key":
        home = self.home.with_name(f"{self.home.name}-expired")
        if not (home / "complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(self.home, home, ignore=shutil.ignore_patterns("S.*", "complete"))
            twin = Key._open(home, self.user)
            twin._gpg("--faked-system-time", EXPIRY_SET_AT, "--quick-set-expire", self.fingerprint, "1d")
            (home / "complete").touch()
        return Key(home, self.user)

    @classmethod
    def _open(cls, home: Path, user: str) -> "Key":
        """A key in a home that is still being prepared."""
        key = cls.__new__(cls)
        key.home, key.user = home, user
        return key

    def _gpg(self, *arguments: str, stdin: bytes = b"") -> bytes:
        command = ["gpg", "--batch", "--no-tty", "--quiet", "--homedir", str(self.home), *arguments]
        # The agent that gpg starts would outlive this process and keep the cache busy; another process must not be signing by it then.
        with lock("signing"):
            done = subprocess.run(command, input=stdin, capture_output=True, check=False)
            subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], capture_output=True, check=False)
        if done.returncode != 0:
            raise RepositoryError(f"gpg {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout


class Repository:
    """A flat repository in a folder, signed by the key kept under `cache`/signing.

    `cache` also keeps the built packages, so that publishing again costs little.
    """

    def __init__(self, folder: Path, *, cache: Path, signing: Signing | None = None) -> None:
        self.folder = folder
        self.cache = cache
        self.signing = signing or Signing()
        self.key = Key(cache / "signing" / "lab")

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the published key."""
        return self.key.fingerprint

    def public_key(self, *, armor: bool) -> bytes:
        """The key that users are told to trust."""
        return self.key.public(armor=armor, expired=self.signing.expired_key)

    def publish(self, debs: Iterable[Deb]) -> None:
        """Write the packages, their index and the signed Release files, replacing what is there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        published = list(debs)
        stanzas = [self._add(deb) for deb in published]
        index = "\n".join(stanzas).encode()
        (self.folder / "Packages").write_bytes(index)
        (self.folder / "Packages.gz").write_bytes(gzip.compress(index, mtime=0))
        architectures = sorted({deb.architecture for deb in published} - {"all"})
        (self.folder / "Release").write_text(self._release(architectures))
        self._sign()

    def _add(self, deb: Deb) -> str:
        target = self.folder / deb.filename
        _link_or_copy(cached(deb, self.cache / "debs"), target)
        data = target.read_bytes()
        if deb.name in self.signing.tampered:
            target.unlink()  # the cache's own file must stay whole
            target.write_bytes(data[:-1] + bytes([data[-1] ^ 0xFF]))
        sums = f"Filename: ./{deb.filename}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        return deb.control_text() + sums

    def _release(self, architectures: list[str]) -> str:
        # A signature's clock and a reader's may differ by a little: an hour in the past is safe for both.
        now = datetime.now(timezone.utc) - timedelta(hours=1)
        until = self.signing.valid_until
        date = self.signing.date or (min(now, until - timedelta(days=7)) if until else now)
        lines = ["Origin: NVIDIA", "Label: NVIDIA", f"Architectures: {' '.join(architectures)}", f"Date: {_rfc(date)}"]
        if until:
            lines.append(f"Valid-Until: {_rfc(until)}")
        lines.append("SHA256:")
        for name in ("Packages", "Packages.gz"):
            data = (self.folder / name).read_bytes()
            lines.append(f" {hashlib.sha256(data).hexdigest()} {len(data):>16} {name}")
        return "\n".join(lines) + "\n"

    def _sign(self) -> None:
        key = Key(self.cache / "signing" / "other", "somebody else") if self.signing.other_key else self.key
        release, at = self.folder / "Release", self.signing.signed_at
        key.sign(release, self.folder / "InRelease", "--clearsign", at)
        key.sign(release, self.folder / "Release.gpg", "--detach-sign", at)


def _rfc(moment: datetime) -> str:
    return format_datetime(moment.astimezone(timezone.utc), usegmt=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
