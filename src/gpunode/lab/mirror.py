"""NVIDIA's download servers on a lab host: an https mirror of stub packages under the real host names.

`prepare` lays the served tree, a certificate authority the host trusts, the names in /etc/hosts and a unit into a host
that is not booted yet. `python3 -m gpunode.lab.mirror ADDRESS` is the server that the unit runs inside it.

The file faults.toml in the served tree, read again at each request, makes the server misbehave:

    [[fault]]
    prefix = "nvidia.github.io/libnvidia-container/gpgkey"   # host name and path begin with this
    status = 503            # answer with this status
    html = "<h1>Log in</h1>"   # or: status 200 and this page, as a captive portal does
    drop_after = 100        # or: break the connection off after so many bytes of the body
    delay = 2.0             # seconds to wait before the answer, alone or with the above
"""

import hashlib
import http.server
import os
import shutil
import socket
import ssl
import sys
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from time import sleep
from typing import Any

from gpunode.lab import stubs
from gpunode.lab.machine import command, lock, run_in
from gpunode.lab.paths import CACHE
from gpunode.lab.repository import Repository, Signing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TREE = "srv/lab-mirror"
CERTIFICATE = "usr/lib/lab-mirror/server.pem"
AUTHORITY = "usr/local/share/ca-certificates/lab-mirror.crt"
LOCAL_KEYRING = "usr/share/keyrings/lab-debian-local.gpg"
FAULTS = "faults.toml"
NAMES = ("developer.download.nvidia.com", "nvidia.github.io", "us.download.nvidia.com")
# Where each repository lies in the tree, and under which paths its key is published.
CUDA = f"{NAMES[0]}/compute/cuda/repos/debian13/x86_64"
TOOLKIT = f"{NAMES[1]}/libnvidia-container"
PLACES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "cuda": (CUDA, (f"{CUDA}/8793F200.pub", f"{CUDA}/3bf863cc.pub")),
    "container-toolkit": (f"{TOOLKIT}/stable/deb/amd64", (f"{TOOLKIT}/gpgkey",)),
    "debian-local": ("debian-local", ()),
}
VALID_DAYS = "3650"

UNIT = """\
[Unit]
Description=Mirror of NVIDIA's download servers
DefaultDependencies=no
After=local-fs.target
Before=basic.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=notify
Environment=PYTHONPATH=/opt/gpunode/src:/opt/gpunode/lib PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/python3 -m gpunode.lab.mirror {address}

[Install]
WantedBy=sysinit.target
"""


# --- laying it into a host ---


def prepare(root: Path, address: str, signing: Mapping[str, Signing] | None = None) -> None:
    """Put the mirror into a host that is not booted yet, reachable there at `address` under NVIDIA's names.

    `signing` says what is wrong with which repository ("cuda", "container-toolkit", "debian-local"); by default
    nothing is. Raises LabError when a package, a library or a certificate cannot be made.
    """
    fingerprint = lay_tree(root, signing or {})
    _trust_authority(root, address)
    _write(root / "etc/apt/sources.list.d/lab-debian-local.list", _local_source())
    _write(root / "etc/gpunode/catalog.d/50-lab.toml", _catalog(fingerprint))
    hosts = root / "etc/hosts"
    known = hosts.read_text() if hosts.exists() else "127.0.0.1 localhost\n"
    _write(hosts, f"{known}{address} {' '.join(NAMES)}\n")
    _write(root / "etc/systemd/system/lab-mirror.service", UNIT.format(address=address))
    wants = root / "etc/systemd/system/sysinit.target.wants/lab-mirror.service"
    wants.parent.mkdir(parents=True, exist_ok=True)
    wants.unlink(missing_ok=True)
    wants.symlink_to("/etc/systemd/system/lab-mirror.service")


def lay_tree(root: Path, signing: Mapping[str, Signing]) -> str:
    """Write everything that is served, replacing what was, and return the fingerprint of the published key."""
    tree = root / TREE
    shutil.rmtree(tree, ignore_errors=True)
    libraries = CACHE / "mocks"
    with lock("mirror"):
        for name, (place, keys) in PLACES.items():
            repository = Repository(tree / place, cache=CACHE, signing=signing.get(name))
            repository.publish(stubs.packages(name, libraries))
            _publish_key(repository, root, keys)
        for version in stubs.driver_versions():
            _lay_runfile(tree, version, stubs.runfile(version, libraries))
    (tree / FAULTS).touch()
    return repository.fingerprint


def _publish_key(repository: Repository, root: Path, keys: tuple[str, ...]) -> None:
    for path in keys:
        _write_bytes(root / TREE / path, repository.public_key(armor=True))
    if not keys:  # the host has it from the start, as it has Debian's
        _write_bytes(root / LOCAL_KEYRING, repository.public_key(armor=False))


def _lay_runfile(tree: Path, version: str, data: bytes) -> None:
    target = tree / NAMES[2] / "tesla" / version / f"NVIDIA-Linux-x86_64-{version}.run"
    _write_bytes(target, data)
    _write(target.with_name(f"{target.name}.sha256sum"), f"{hashlib.sha256(data).hexdigest()}  {target.name}\n")


def _local_source() -> str:
    return f"deb [signed-by=/{LOCAL_KEYRING}] file:/{TREE}/{PLACES['debian-local'][0]} ./\n"


def _catalog(fingerprint: str) -> str:
    tables = [
        f'[repositories.{name}]\nfingerprints = ["{fingerprint}"]\n' for name in ("cuda-apt", "container-toolkit-apt")
    ]
    return "# This lab's mirror signs with its own key.\n" + "".join(tables)


def _trust_authority(root: Path, address: str) -> None:
    with lock("authority"):
        authority = _authority(CACHE / "authority")
        _write_bytes(root / CERTIFICATE, _server_certificate(authority, address))
        _write_bytes(root / AUTHORITY, (authority / "ca.crt").read_bytes())
    (root / CERTIFICATE).chmod(0o600)
    run_in(root, "update-ca-certificates")


def _authority(folder: Path) -> Path:
    """The lab's own certificate authority, made once per cache."""
    if not (folder / "ca.crt").exists():
        folder.mkdir(parents=True, exist_ok=True)
        extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
        _openssl_certificate(folder / "ca.key", folder / "ca.new", "/CN=gpunode lab authority", extensions)
        (folder / "ca.new").rename(folder / "ca.crt")
    return folder


def _server_certificate(authority: Path, address: str) -> bytes:
    """Key and certificate of the server, in one PEM text; its names are NVIDIA's and the host's address."""
    names = ",".join([*(f"DNS:{name}" for name in NAMES), f"IP:{address}"])
    target = authority / f"server-{address}"
    extensions = (
        *("basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature", "extendedKeyUsage=serverAuth"),
        f"subjectAltName={names}",
    )
    signer = ("-CA", str(authority / "ca.crt"), "-CAkey", str(authority / "ca.key"))
    if not target.exists():
        key, certificate = target.with_suffix(".key"), target.with_suffix(".crt")
        _openssl_certificate(key, certificate, f"/CN={NAMES[0]}", extensions, signer)
        target.write_bytes(key.read_bytes() + certificate.read_bytes())
    return target.read_bytes()


def _openssl_certificate(
    key: Path, certificate: Path, subject: str, extensions: tuple[str, ...], signer: tuple[str, ...] = ()
) -> None:
    # Not the machine's own openssl.cnf: it adds extensions of its own. Python's strict check wants the key identifiers.
    lines = ["[req]", "distinguished_name = dn", "x509_extensions = v3", "[dn]", "[v3]", *extensions]
    settings = certificate.with_suffix(".cnf")
    settings.write_text("\n".join([*lines, "subjectKeyIdentifier = hash", "authorityKeyIdentifier = keyid", ""]))
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-keyout", str(key)]
    options = ["-config", str(settings), "-days", VALID_DAYS, "-subj", subject, "-out", str(certificate)]
    command("openssl", "req", "-x509", *new_key, *options, *signer)


def _write(path: Path, text: str) -> None:
    _write_bytes(path, text.encode())


def _write_bytes(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# --- the server inside the host ---


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the folder named like the request's Host header; misbehaves where faults.toml says so."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, tree: Path) -> None:
        self.tree = tree
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer with a file of the tree, or with what a fault puts in its place."""
        host = self.headers.get("Host", "").partition(":")[0]
        name = os.path.normpath(host + self.path.partition("?")[0])
        fault = self._fault(name)
        sleep(fault.get("delay", 0))
        if "status" in fault:
            self._answer(fault["status"], b"the lab says so\n", "text/plain")
        elif "html" in fault:
            self._answer(200, fault["html"].encode(), "text/html")
        elif host in NAMES and name.startswith(host) and (self.tree / name).is_file():
            self._answer(200, (self.tree / name).read_bytes(), "application/octet-stream", fault.get("drop_after"))
        else:
            self._answer(404, b"not found\n", "text/plain")

    def do_HEAD(self) -> None:
        """Answer as GET does, without the body."""
        self.do_GET()

    def _fault(self, name: str) -> dict[str, Any]:
        faults = tomllib.loads((self.tree / FAULTS).read_text()).get("fault", [])
        return next((fault for fault in faults if name.startswith(fault["prefix"])), {})

    def _answer(self, status: int, body: bytes, kind: str, drop_after: int | None = None) -> None:
        self.send_response(HTTPStatus(status))
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:drop_after])
        if drop_after is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    """One thread a connection, TLS spoken in it, so that a slow client holds up nobody."""

    daemon_threads = True

    def __init__(self, address: str, tree: Path, certificate: Path, port: int = 443) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        super().__init__((address, port), partial(Handler, tree=tree))

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection. It ends with a closing handshake: apt reports an `unexpected eof` without one."""
        try:
            connection = self.context.wrap_socket(request, server_side=True)
        except OSError:  # the client does not trust us, or has gone
            return
        try:
            super().finish_request(connection, client_address)
            connection.unwrap()
        except OSError:
            return  # broken off, by a fault or by the client
        finally:
            connection.close()


def _tell_systemd_ready() -> None:
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", path.replace("@", "\0", 1))


def main(address: str) -> None:
    """Serve the host's own tree at this address, port 443, until stopped."""
    root = Path("/")
    with Server(address, root / TREE, root / CERTIFICATE) as server:
        _tell_systemd_ready()
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
