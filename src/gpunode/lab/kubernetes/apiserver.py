"""The API server stand-in: HTTPS with client certificates or bearer tokens.

`python3 -m gpunode.lab.kubernetes.apiserver --address A --folder DIR` serves until it is stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from gpunode.lab.kubernetes import discovery, openapi_proto, routes
from gpunode.lab.kubernetes.errors import ApiError
from gpunode.lab.kubernetes.faults import Fault, Faults
from gpunode.lab.kubernetes.kinds import Object
from gpunode.lab.kubernetes.routes import Request
from gpunode.lab.kubernetes.store import Store

PORT = 6443
LOGS = Path("/var/log/pods")
_UNAUTHORIZED = ApiError(401, "Unauthorized", "Unauthorized")
_OPEN = ("/version", "/healthz", "/livez", "/readyz")
"""Paths that answer without credentials, as a real server's default roles allow."""


@dataclass(frozen=True)
class Tls:
    """The server's certificate and key, and the authority whose client certificates it accepts. PEM files."""

    certificate: Path
    key: Path
    authority: Path


class ApiServer(ThreadingHTTPServer):
    """Serves `store` at `address`; `tokens` are the bearer tokens it accepts, `logs` the folder of container logs.

    `faults` is the file of what it is to do wrong (see gpunode.lab.kubernetes.faults).
    """

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], store: Store, tls: Tls, tokens: frozenset[str], logs: Path, faults: Path
    ) -> None:
        super().__init__(address, _Handler)
        self.store, self.tokens, self.logs, self.faults = store, tokens, logs, Faults(faults)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(tls.certificate, tls.key)
        self._tls.load_verify_locations(tls.authority)
        self._tls.verify_mode = ssl.CERT_OPTIONAL

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread, so that a slow client keeps nobody waiting."""
        request.settimeout(60)
        with contextlib.suppress(OSError), self._tls.wrap_socket(request, server_side=True) as connection:
            super().finish_request(connection, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ApiServer
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Requests are not logged: a node's journal is for what goes wrong."""

    def _handle(self) -> None:
        fault = self.server.faults.meeting(self.headers.get("User-Agent", ""), self.command, self.path)
        try:
            if fault:
                self._fail(fault)
            else:
                self._route()
        except ApiError as error:
            self._answer(error.code, error.status())
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 # names given by http.server

    def _route(self) -> None:
        url = urlsplit(self.path)
        request = self._request(url.path, dict(parse_qsl(url.query, keep_blank_values=True)))
        if not self._known() and url.path not in _OPEN:
            raise _UNAUTHORIZED
        if url.path in _OPEN[1:]:
            self._answer_text("ok")
            return
        if url.path == "/openapi/v2" and openapi_proto.ASKED in request.accept:
            content = openapi_proto.document(discovery.GIT_VERSION, discovery.WRITE_PARAMETERS)
            self._send(200, content, openapi_proto.MEDIA_TYPE)
            return
        found = routes.document(url.path, "{}:{}".format(*self.server.server_address[:2]))
        if found is not None:
            self._answer(200, found)
        elif url.path.endswith("/log"):
            self._log(request)
        elif request.query.get("watch") in ("true", "1"):
            self._watch(request)
        else:
            self._answer(*routes.serve(self.server.store, request))

    def _fail(self, fault: Fault) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(fault.delay)
        self.close_connection = True
        if fault.code:
            status = ApiError(fault.code, fault.reason, fault.message).status()
            headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after else {}
            self._send(fault.code, json.dumps(status).encode(), "application/json", headers)

    def _known(self) -> bool:
        """Whether the client showed a certificate of the cluster's authority, or a token that is known."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer":
            return token in self.server.tokens
        return bool(self.connection.getpeercert())

    def _request(self, path: str, query: dict[str, str]) -> Request:
        content_type = self.headers.get("Content-Type", "").partition(";")[0]
        agent = self.headers.get("User-Agent", "")
        return Request(self.command, path, query, self.headers.get("Accept", ""), content_type, agent, self._body())

    def _body(self) -> bytes:
        """What the client sends with the request; in chunks where it does not know the length, as `kubectl create --raw`."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, code: int, body: Object) -> None:
        self._send(code, json.dumps(body).encode(), "application/json")

    def _answer_text(self, text: str) -> None:
        self._send(200, text.encode(), "text/plain")

    def _send(
        self, code: int, data: bytes, content_type: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _begin_stream(self, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _watch(self, request: Request) -> None:
        events = routes.watch(self.server.store, request, float(request.query.get("timeoutSeconds") or 1800))
        self._begin_stream("application/json")
        try:
            for event in events:
                if event is not None:
                    self._chunk(json.dumps(event).encode() + b"\n")
                elif self._hung_up():
                    return
        except ApiError as error:
            self._chunk(json.dumps({"type": "ERROR", "object": error.status()}).encode() + b"\n")
        self._chunk(b"")

    def _hung_up(self) -> bool:
        """Whether the client has gone: readable without data."""
        self.connection.settimeout(0)
        try:
            return not self.connection.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(60)

    def _log(self, request: Request) -> None:
        target = routes.parse_target(request.path)
        file = routes.log_file(self.server.store, target, request.query, self.server.logs)
        if request.query.get("follow") != "true":
            data = _tail(file.read_bytes(), request.query.get("tailLines"))
            self._send(200, data, "text/plain")
            return
        self._begin_stream("text/plain")
        with file.open("rb") as stream:
            while (data := stream.read()) or self._running(request):
                if data:
                    self._chunk(data)
                else:
                    time.sleep(0.2)
        self._chunk(b"")

    def _running(self, request: Request) -> bool:
        with self.server.store.lock, contextlib.suppress(ApiError):
            target = routes.parse_target(request.path)
            pod = self.server.store.get(self.server.store.key(target.kind, target.namespace, target.name)) or {}
            running: bool = pod.get("status", {}).get("phase") == "Running"
            return running and not self._hung_up()
        return False


def _tail(data: bytes, lines: str | None) -> bytes:
    """The last `lines` lines of a log, all when none is given."""
    if lines is None or int(lines) < 0:
        return data
    return b"".join(data.splitlines(keepends=True)[-int(lines) :]) if int(lines) else b""


def main() -> None:
    """Serve the folder's objects with the folder's certificates and tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    tls = Tls(folder / "apiserver.crt", folder / "apiserver.key", folder / "ca.crt")
    tokens = frozenset((folder / "tokens").read_text().split())
    store = Store(folder / "objects.json")
    ApiServer((arguments.address, PORT), store, tls, tokens, LOGS, folder / "faults.json").serve_forever()


if __name__ == "__main__":
    main()
