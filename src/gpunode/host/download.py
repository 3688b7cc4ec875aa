"""Fetching over https. The system's own trust store is used, not the one a Python package brings: companies add their CA there."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from gpunode.errors import HostError
from gpunode.host.machine import OnBytes

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 15.0
READ_SECONDS = 60.0


def fetch(url: str, *, limit: int, proxy: str | None, ca_bundle: str | None) -> bytes:
    """The body at `url`, at most `limit` bytes. Raises HostError saying what the other side did."""
    body = bytearray()
    with _response(url, proxy, ca_bundle) as response:
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > limit:
                raise HostError(f"{url} answered more than {limit} bytes: that is not what was asked for")
    return bytes(body)


def download(url: str, path: str, *, on_bytes: OnBytes | None, proxy: str | None, ca_bundle: str | None) -> None:
    """Stream `url` into `path` (0600), reporting bytes so far and the total where the server gives one."""
    with _response(url, proxy, ca_bundle) as response:
        length = response.headers.get("content-length")
        total = int(length) if length and length.isdigit() else None
        seen = 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                seen += len(chunk)
                if on_bytes:
                    on_bytes(seen, total)
        if total is not None and seen != total:
            raise HostError(f"{url} ended after {seen} of {total} bytes", hint="run the same command again")


@contextlib.contextmanager
def _response(url: str, proxy: str | None, ca_bundle: str | None) -> Iterator[httpx.Response]:
    import httpx

    if not url.startswith("https://"):
        raise HostError(f"{url} is not https", hint="gpunode fetches over https alone")
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        context = trust(ca_bundle)
        with (
            httpx.Client(
                verify=context,
                proxy=proxy,
                timeout=timeout,
                follow_redirects=True,
                max_redirects=5,
                event_hooks={"request": [partial(_require_https, url)]},
            ) as client,
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status_code != 200:
                raise HostError(f"{url} answered {response.status_code} {response.reason_phrase}")
            yield response
    except httpx.HTTPError as error:
        raise HostError(f"cannot fetch {url}: {_reason(error)}", hint=_hint(str(error))) from None
    except OSError as error:
        raise HostError(f"cannot fetch {url}: {error.strerror or error}") from None


def _require_https(asked: str, request: httpx.Request) -> None:
    """For every hop of a redirect."""
    if request.url.scheme != "https":
        raise HostError(f"{asked} leads to {request.url}, which is not https")


def trust(ca_bundle: str | None) -> ssl.SSLContext:
    """The system's trust, or a CA bundle in its place. Raises HostError."""
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise HostError(
            f"cannot use the CA bundle {ca_bundle}: {error.strerror or error}", hint="network.ca_bundle in the profile"
        ) from None


def _reason(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__


def _hint(reason: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        if "not yet valid" in reason or "expired" in reason:
            return "is this host's clock right? see `timedatectl`"
        return "add your CA to the system's trust store, or name it in the profile: network.ca_bundle"
    if reason.startswith("407"):
        return "the proxy asks for a user name, which no profile holds: name a proxy by network.proxy that lets this host through"
    if "Name or service not known" in reason or "name resolution" in reason:
        return "is there a network, and a name server? a proxy is set in the profile: network.proxy"
    return "is there a network? a proxy or a mirror is set in the profile: network.proxy, repositories"
