"""Fetching, against a real https server with a CA of its own."""

from __future__ import annotations

import datetime
import gzip
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gpunode.errors import HostError
from gpunode.host import download as downloads

BODY = b"#!/bin/sh\n" + bytes(range(256)) * 400


class Site(BaseHTTPRequestHandler):
    """A site with every fault that a download meets."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        getattr(self, f"answer_{self.path.strip('/').replace('-', '_')}")()

    def answer_whole(self) -> None:
        self._send(200, BODY)

    def answer_missing(self) -> None:
        self._send(404, b"<html>nothing here</html>")

    def answer_cut_short(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[:1000])
        self.close_connection = True

    def answer_chunks_cut_short(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"3e8\r\n" + BODY[:1000] + b"\r\n")
        self.close_connection = True

    def answer_moved(self) -> None:
        self._send(302, b"", Location="/whole")

    def answer_moved_to_http(self) -> None:
        port = self.server.plain_port  # type: ignore[attr-defined] # put there by the fixture
        self._send(302, b"", Location=f"http://localhost:{port}/whole")

    def answer_in_circles(self) -> None:
        self._send(302, b"", Location="/in-circles")

    def answer_compressed(self) -> None:
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            self._send(200, gzip.compress(BODY), **{"Content-Encoding": "gzip"})
        else:
            self._send(200, BODY)

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class GuardedProxy(BaseHTTPRequestHandler):
    """A company's proxy that lets nobody through without a name."""

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def do_CONNECT(self) -> None:
        self.send_response(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "0")
        self.end_headers()


@dataclass(frozen=True)
class Server:
    base: str
    ca: str

    def fetch(self, path: str, limit: int = 1 << 20) -> bytes:
        return downloads.fetch(f"{self.base}/{path}", limit=limit, proxy=None, ca_bundle=self.ca)

    def download(self, path: str, target: Path) -> list[tuple[int, int | None]]:
        seen: list[tuple[int, int | None]] = []
        downloads.download(
            f"{self.base}/{path}",
            str(target),
            on_bytes=lambda count, total: seen.append((count, total)),
            proxy=None,
            ca_bundle=self.ca,
        )
        return seen


def certificate(folder: Path, *, days: int = 1) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, valid from two days ago for so many days more than two."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "ca.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return public, private


def start(folder: Path, *, days: int = 1) -> tuple[Server, list[ThreadingHTTPServer]]:
    public, private = certificate(folder, days=days)
    secure, plain = ThreadingHTTPServer(("localhost", 0), Site), ThreadingHTTPServer(("localhost", 0), Site)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    secure.plain_port = plain.server_address[1]  # type: ignore[attr-defined] # for the handler
    for server in (secure, plain):
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return Server(f"https://localhost:{secure.server_address[1]}", str(public)), [secure, plain]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found, running = start(tmp_path_factory.mktemp("tls"))
    yield found
    for each in running:
        each.shutdown()
        each.server_close()


def test_a_document_is_fetched(server: Server) -> None:
    assert server.fetch("whole") == BODY
    assert server.fetch("moved") == BODY


def test_a_file_is_streamed_with_its_progress(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "driver.run"
    seen = server.download("whole", target)
    assert target.read_bytes() == BODY
    assert target.stat().st_mode & 0o777 == 0o600
    assert seen[-1] == (len(BODY), len(BODY))
    assert [count for count, _ in seen] == sorted(count for count, _ in seen)


def test_an_unknown_ca_is_told_with_what_to_do(server: Server) -> None:
    with pytest.raises(HostError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        downloads.fetch(f"{server.base}/whole", limit=1, proxy=None, ca_bundle=None)
    assert "network.ca_bundle" in caught.value.hint


def test_an_expired_certificate_points_at_the_clock(tmp_path: Path) -> None:
    found, running = start(tmp_path, days=-1)
    try:
        with pytest.raises(HostError, match="expired") as caught:
            found.fetch("whole")
        assert "clock" in caught.value.hint
    finally:
        for each in running:
            each.shutdown()
            each.server_close()


def test_a_page_instead_of_a_file_is_told_by_its_status(server: Server, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="/missing answered 404 Not Found"):
        server.download("missing", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("path", ["cut-short", "chunks-cut-short"])
def test_a_body_cut_short_is_told(server: Server, tmp_path: Path, path: str) -> None:
    with pytest.raises(HostError, match=f"/{path}"):
        server.download(path, tmp_path / "x")
    with pytest.raises(HostError, match=f"/{path}"):
        server.fetch(path)


def test_plain_http_is_refused(server: Server) -> None:
    with pytest.raises(HostError, match="is not https"):
        downloads.fetch("http://localhost/whole", limit=1, proxy=None, ca_bundle=None)
    with pytest.raises(HostError, match=r"leads to http://localhost:.*, which is not https"):
        server.fetch("moved-to-http")


def test_too_much_is_refused(server: Server) -> None:
    with pytest.raises(HostError, match="answered more than 1000 bytes"):
        server.fetch("whole", limit=1000)


def test_circles_end(server: Server) -> None:
    with pytest.raises(HostError, match="redirects"):
        server.fetch("in-circles")


def test_a_file_is_what_it_is_whatever_the_server_would_compress(server: Server, tmp_path: Path) -> None:
    server.download("compressed", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    public, _ = certificate(tmp_path)
    with pytest.raises(HostError, match=r"cannot fetch https://localhost:1/x: .*refused"):
        downloads.fetch("https://localhost:1/x", limit=1, proxy=None, ca_bundle=str(public))


def test_a_proxy_that_wants_a_password_is_told_with_what_to_do(server: Server) -> None:
    proxy = ThreadingHTTPServer(("localhost", 0), GuardedProxy)
    threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    with pytest.raises(HostError, match="407 Proxy Authentication Required") as caught:
        downloads.fetch(
            f"{server.base}/whole", limit=1, proxy=f"http://localhost:{proxy.server_address[1]}", ca_bundle=server.ca
        )
    assert "name a proxy by network.proxy that lets this host through" in caught.value.hint
    proxy.shutdown()
    proxy.server_close()


def test_a_ca_bundle_that_is_not_there_is_named(server: Server) -> None:
    with pytest.raises(HostError, match=r"/nosuch/ca\.pem"):
        downloads.fetch(f"{server.base}/whole", limit=1, proxy=None, ca_bundle="/nosuch/ca.pem")
