"""Kubeconfig documents."""

from __future__ import annotations

from base64 import b64encode

from gpunode.lab.kubernetes.kinds import Object
from gpunode.lab.kubernetes.pki import Pair


def kubeconfig(server: str, authority: Pair, user: str, client: Pair) -> Object:
    """A kubeconfig for one cluster and one user with a client certificate, everything inline."""

    def inline(data: bytes) -> str:
        return b64encode(data).decode()

    cluster = {"server": server, "certificate-authority-data": inline(authority.certificate_pem)}
    credentials = {
        "client-certificate-data": inline(client.certificate_pem),
        "client-key-data": inline(client.key_pem),
    }
    context = f"{user}@kubernetes"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubernetes", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": context, "context": {"cluster": "kubernetes", "user": user}}],
        "current-context": context,
    }
