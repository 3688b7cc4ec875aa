"""NVIDIA's download servers on a lab host: an https mirror of stub packages under the real host names.

`prepare` lays the served tree, a certificate authority the host trusts, the names in /etc/hosts and a unit into a host
that is not booted yet. `python3 -m gpunode.lab.mirror ADDRESS` is the server that the unit runs inside it.

The file faults.toml in the served tree, read again at each request, makes the server misbehave:

    [[fault]]
    prefix = "nvidia.github.io/libnvidia-container/gpgkey"   # host name and path begin with this
    status = 503            # answer with this status
    html = "<h1>Log in</h1>"   # or: status 200 and this page, as a captive portal does
    drop_after = 100        # or: break the connection off after so many bytes of the body
    instead = "stale"       # or: answer with the file of another tree (see gpunode.lab.bad_mirror)
    delay = 2.0             # seconds to wait before the answer, alone or with the above

Before the tables, `certificate = "stranger"` has the server show another certificate (see gpunode.lab.bad_mirror).
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

from gpunode.lab import certificates, runfiles, stubs
from gpunode.lab.interpreter import PYTHON
from gpunode.lab.machine import lock, run_in
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
RELEASES = {"bullseye": 11, "bookworm": 12, "trixie": 13}
NAMES = ("developer.download.nvidia.com", "nvidia.github.io", "us.download.nvidia.com")
# NVIDIA has a repository of its own for each Debian release.
CUDA_OF = {suite: f"{NAMES[0]}/compute/cuda/repos/debian{number}/x86_64" for suite, number in RELEASES.items()}
CUDA = CUDA_OF["trixie"]
TOOLKIT = f"{NAMES[1]}/libnvidia-container"
LOCAL = "debian-local"

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
ExecStart={python} -m gpunode.lab.mirror {address}

[Install]
WantedBy=sysinit.target
"""


# --- laying it into a host ---


def prepare(root: Path, address: str, signing: Mapping[str, Signing] | None = None, *, suite: str = "trixie") -> None:
    """Put the mirror into a host that is not booted yet, reachable there at `address` under NVIDIA's names.

    `signing` says what is wrong with which repository ("cuda", "container-toolkit", "debian-local"); by default
    nothing is. `suite` is the host's Debian release. Raises LabError when a package, a library or a certificate cannot be made.
    """
    fingerprint = lay_tree(root, signing or {}, suite)
    _trust_authority(root, address)
    _write(root / "etc/apt/sources.list.d/lab-debian-local.list", _local_source())
    _write(root / "etc/gpunode/catalog.d/50-lab.toml", _catalog(fingerprint))
    hosts = root / "etc/hosts"
    known = hosts.read_text() if hosts.exists() else "127.0.0.1 localhost\n"
    _write(hosts, f"{known}{address} {' '.join(NAMES)}\n")
    _write(root / "etc/systemd/system/lab-mirror.service", UNIT.format(python=f"/{PYTHON}", address=address))
    wants = root / "etc/systemd/system/sysinit.target.wants/lab-mirror.service"
    wants.parent.mkdir(parents=True, exist_ok=True)
    wants.unlink(missing_ok=True)
    wants.symlink_to("/etc/systemd/system/lab-mirror.service")


def lay_tree(root: Path, signing: Mapping[str, Signing], suite: str = "trixie") -> str:
    """Write everything that is served, replacing what was, and return the fingerprint of the published key."""
    tree = root / TREE
    shutil.rmtree(tree, ignore_errors=True)
    libraries = CACHE / "mocks"
    with lock("mirror"):
        repositories = {name: publish(tree, name, signing.get(name), suite) for name in places(suite)}
        for version in stubs.driver_versions():
            _lay_runfile(tree, *runfiles.driver(version, libraries))
        for words in stubs.toolkits():
            _lay_runfile(tree, *runfiles.toolkit(words, libraries))
    local = repositories["debian-local"]  # the host has its key from the start, as it has Debian's
    _write_bytes(root / LOCAL_KEYRING, local.public_key(armor=False))
    (tree / FAULTS).touch()
    return local.fingerprint


def places(suite: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Where each repository lies in the tree of a host of that release, and under which paths its key is published."""
    cuda = CUDA_OF[suite]
    return {
        "cuda": (cuda, (f"{cuda}/8793F200.pub", f"{cuda}/3bf863cc.pub")),
        "container-toolkit": (f"{TOOLKIT}/stable/deb/amd64", (f"{TOOLKIT}/gpgkey",)),
        "debian-local": (LOCAL, ()),
    }


def publish(tree: Path, name: str, signing: Signing | None, suite: str = "trixie") -> Repository:
    """Lay one of the `places` and its key into a tree; the lock "mirror" is the caller's to hold. Raises LabError."""
    place, keys = places(suite)[name]
    repository = Repository(tree / place, cache=CACHE, signing=signing)
    repository.publish(stubs.packages(name, CACHE / "mocks"))
    for path in keys:
        _write_bytes(tree / path, repository.public_key(armor=True))
    return repository


def _lay_runfile(tree: Path, address: str, data: bytes) -> None:
    target = tree / address.removeprefix("https://")
    _write_bytes(target, data)
    _write(target.with_name(f"{target.name}.sha256sum"), f"{hashlib.sha256(data).hexdigest()}  {target.name}\n")


def _local_source() -> str:
    return f"deb [signed-by=/{LOCAL_KEYRING}] file:/{TREE}/{LOCAL} ./\n"


def _catalog(fingerprint: str) -> str:
    tables = [
        f'[repositories.{name}]\nfingerprints = ["{fingerprint}"]\n' for name in ("cuda-apt", "container-toolkit-apt")
    ]
    return "# This lab's mirror signs with its own key.\n" + "".join(tables)


def _trust_authority(root: Path, address: str) -> None:
    authority = certificates.authority(CACHE / "authority")
    _write_bytes(root / CERTIFICATE, certificates.server(authority, names(address)))
    _write_bytes(root / AUTHORITY, (authority / "ca.crt").read_bytes())
    (root / CERTIFICATE).chmod(0o600)
    run_in(root, "update-ca-certificates")


def names(address: str) -> tuple[str, ...]:
    """What the server's certificate is good for, in openssl's words: NVIDIA's names and the host's address."""
    return (*(f"DNS:{name}" for name in NAMES), f"IP:{address}")


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
        file = self.tree / fault.get("instead", "") / name
        sleep(fault.get("delay", 0))
        if "status" in fault:
            self._answer(fault["status"], b"the lab says so\n", "text/plain")
        elif "html" in fault:
            self._answer(200, fault["html"].encode(), "text/html")
        elif host in NAMES and name.startswith(host) and file.is_file():
            self._answer(200, file.read_bytes(), "application/octet-stream", fault.get("drop_after"))
        else:
            self._answer(404, b"not found\n", "text/plain")

    def do_HEAD(self) -> None:
        """Answer as GET does, without the body."""
        self.do_GET()

    def _fault(self, name: str) -> dict[str, Any]:
        listed = faults(self.tree).get("fault", [])
        return next((fault for fault in listed if name.startswith(fault["prefix"])), {})

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


def faults(tree: Path) -> dict[str, Any]:
    """What a tree's faults.toml asks for at this moment."""
    return tomllib.loads((tree / FAULTS).read_text())


class Server(http.server.ThreadingHTTPServer):
    """One thread a connection, TLS spoken in it, so that a slow client holds up nobody."""

    daemon_threads = True

    def __init__(self, address: str, tree: Path, certificate: Path, port: int = 443) -> None:
        self.tree, self.certificate = tree, certificate
        super().__init__((address, port), partial(Handler, tree=tree))

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection. It ends with a closing handshake: apt reports an `unexpected eof` without one."""
        try:
            connection = self._context().wrap_socket(request, server_side=True)
        except OSError:  # the client does not trust us, or has gone
            return
        try:
            super().finish_request(connection, client_address)
            connection.unwrap()
        except OSError:
            return  # broken off, by a fault or by the client
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        """The certificate of the moment, with its key: the other ones lie beside the ordinary one."""
        other = faults(self.tree).get("certificate", self.certificate.stem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate.with_stem(other))
        return context


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
