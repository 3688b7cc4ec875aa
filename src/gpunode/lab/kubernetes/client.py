"""A small client of the API, for the kubelet stand-in."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import tempfile
import threading
from base64 import b64decode
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import yaml

from gpunode.lab.kubernetes.errors import ApiError
from gpunode.lab.kubernetes.kinds import Kind, Object

_USER_AGENT = "kubelet/v1.32.3"


def _tls(document: Object) -> ssl.SSLContext:
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    authority = b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as pem:
        pem.write(b64decode(user["client-certificate-data"]) + b64decode(user["client-key-data"]))
        pem.flush()
        context.load_cert_chain(pem.name)
    return context


class Client:
    """Requests as the user of a kubeconfig, one at a time on one connection. OSError: the server cannot be reached."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        url = urlsplit(document["clusters"][0]["cluster"]["server"])
        self._connection = http.client.HTTPSConnection(url.hostname or "", url.port, timeout=10, context=_tls(document))
        self._lock = threading.Lock()

    def _request(self, method: str, path: str, body: Object | None, content_type: str) -> Object:
        headers = {"User-Agent": _USER_AGENT, "Content-Type": content_type, "Accept": "application/json"}
        data = None if body is None else json.dumps(body)
        with self._lock:
            try:
                self._connection.request(method, path, data, headers)
                answer = self._connection.getresponse()
                document: Object = json.loads(answer.read())
            except (http.client.HTTPException, OSError) as error:
                with contextlib.suppress(OSError):
                    self._connection.close()
                raise ConnectionError(str(error)) from error
        if answer.status >= 400:
            raise ApiError(answer.status, document["reason"], document["message"])
        return document

    @staticmethod
    def _path(kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
        place = ("namespaces", namespace) if kind.namespaced and namespace else ()
        return "/" + "/".join(quote(part) for part in (kind.prefix, *place, kind.plural, name, subresource) if part)

    def list(self, kind: Kind, namespace: str = "", **query: str) -> list[Object]:
        """The kind's objects, in all namespaces when none is given; `query` holds selectors."""
        path = f"{self._path(kind, namespace)}?{urlencode(query)}"
        items: list[Object] = self._request("GET", path, None, "application/json")["items"]
        return items

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None when it is not there."""
        try:
            return self._request("GET", self._path(kind, namespace, name), None, "application/json")
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        """Create the object; raises ApiError."""
        return self._request("POST", self._path(kind, namespace), body, "application/json")

    def patch(self, kind: Kind, body: Object, change: Object, subresource: str = "") -> Object:
        """Merge-patch the object `body` with `change`; raises ApiError."""
        metadata = body["metadata"]
        path = self._path(kind, metadata.get("namespace", ""), metadata["name"], subresource)
        return self._request("PATCH", path, change, "application/merge-patch+json")

    def delete(self, kind: Kind, body: Object, grace_seconds: int | None = None) -> None:
        """Delete the object `body`, and no other that has taken its name; one that is gone already is fine."""
        metadata = body["metadata"]
        options: Object = {"preconditions": {"uid": metadata["uid"]}}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        path = self._path(kind, metadata.get("namespace", ""), metadata["name"])
        try:
            self._request("DELETE", path, options, "application/json")
        except ApiError as error:
            if error.code not in (404, 409):
                raise
