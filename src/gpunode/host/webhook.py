"""Posting to a webhook over https. Its address may be all the secret that it has: no message names more than the host."""

from __future__ import annotations

from urllib.parse import urlsplit

from gpunode.errors import HostError
from gpunode.host.download import trust

SECONDS = 15.0


def post(url: str, body: bytes, *, proxy: str | None = None, ca_bundle: str | None = None) -> None:
    """Post a JSON document; no redirect is followed. Raises HostError when it is not taken with a status of 200 to 299."""
    import httpx

    host = urlsplit(url).hostname or "its host"
    headers = {"Content-Type": "application/json"}
    try:
        with httpx.Client(verify=trust(ca_bundle), proxy=proxy, timeout=SECONDS, follow_redirects=False) as client:
            answer = client.post(url, content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise HostError(f"the webhook at {host} cannot be reached: {type(error).__name__}") from None
    if not answer.is_success:
        raise HostError(f"the webhook at {host} answered {answer.status_code}")
