"""NVIDIA's repositories as resources: conflicting lists aside, the key pinned, the source signed by it alone."""

from __future__ import annotations

from gpunode.resources.base import Resource
from gpunode.resources.files import Absent
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
        Absent(
            folder, entry.conflicting, host, entry.list, "apt refuses two sources of one repository with different keys"
        ),
        SigningKey(entry.keyring, key_url, mirror.fingerprints or entry.fingerprints, KEY_WHY),
        AptRepository(entry.list, uri, entry.suite, entry.keyring, why),
    ]


def _slug(context: Context) -> str:
    distribution = context.facts.distribution
    return distribution.slug_of(context.facts.os_version) if distribution else ""
