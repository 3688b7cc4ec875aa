"""NVIDIA's repositories as resources: conflicting lists aside, the key pinned, the source signed by it alone."""

from __future__ import annotations

from gpunode.resources.base import Resource
from gpunode.resources.files import Absent, File
from gpunode.resources.repository import AptRepository, SigningKey
from gpunode.steps.base import Context

KEY_WHY = "packages are trusted because this key signed their index; its fingerprint is compared before it is trusted"


def repository(context: Context, name: str, *, why: str) -> list[Resource]:
    """The resources of a repository of the catalogue, at its mirror where the profile names one."""
    entry = context.catalog.repositories[f"{name}-apt"]
    mirror = context.profile.repositories.cuda if name == "cuda" else context.profile.repositories.container_toolkit
    base = (mirror.url or entry.base).rstrip("/")
    slug = _slug(context)
    places = {"slug": slug, "arch": entry.arch.get(context.facts.architecture, context.facts.architecture)}
    uri = base + entry.path.format(**places)
    key_url = mirror.key_url or base + entry.key_paths.get(slug, entry.key_path).format(**places)
    folder, _, _ = entry.list.rpartition("/")
    host = uri.split("://", 1)[1].rstrip("/")
    return [
        *_way_out(context),
        Absent(
            folder, entry.conflicting, host, entry.list, "apt refuses two sources of one repository with different keys"
        ),
        SigningKey(entry.keyring, key_url, mirror.fingerprints or entry.fingerprints, KEY_WHY),
        AptRepository(entry.list, uri, entry.suite, entry.keyring, why),
    ]


def _way_out(context: Context) -> list[Resource]:
    """The profile's proxy and CA bundle for apt too, to NVIDIA's repositories as to all others."""
    network = context.profile.network
    lines = [f'Acquire::{kind}::Proxy "{network.proxy}";' for kind in ("http", "https")] if network.proxy else []
    lines += [f'Acquire::https::CAInfo "{network.ca_bundle}";'] if network.ca_bundle else []
    if not lines:
        return []
    text = "\n".join(["// The way out of this host, by gpunode's profile.", *lines, ""])
    return [File("/etc/apt/apt.conf.d/51gpunode-network", text, "the profile says how this host reaches the outside")]


def _slug(context: Context) -> str:
    distribution = context.facts.distribution
    return distribution.slug_of(context.facts.os_version) if distribution else ""
