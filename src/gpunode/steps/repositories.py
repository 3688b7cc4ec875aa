"""NVIDIA's repositories as resources: conflicting lists aside, the key pinned, the source signed by it alone."""

from __future__ import annotations

from gpunode.catalog.model import Distribution, Repository
from gpunode.host.bundle import FOLDER, SOURCE
from gpunode.resources.base import Resource
from gpunode.resources.files import Absent, File
from gpunode.resources.repository import AptRepository, RpmRepository, SigningKey, TrustedKey
from gpunode.steps import decisions, local_bundle
from gpunode.steps.base import Context

KEY_WHY = (
    "packages are trusted because this key signed them or their index; its fingerprint is compared before it is trusted"
)


def repository(context: Context, name: str, *, why: str) -> list[Resource]:
    """The resources of a repository of the catalogue, at its mirror where the profile names one; of the bundle in place of any."""
    if context.profile.driver.source == "local":
        return local_bundle.repository(context)
    found = decisions.distribution(context)
    if found is None:
        return []
    entry = context.catalog.repositories[f"{name}-{found.manager}"]
    mirror = context.profile.repositories.cuda if name == "cuda" else context.profile.repositories.container_toolkit
    base, places = (mirror.url or entry.base).rstrip("/"), _places(context, found, entry)
    uri = base + entry.path.format(**places)
    key_url = mirror.key_url or base + entry.key_paths.get(places["slug"], entry.key_path).format(**places)
    fingerprints, is_apt = mirror.fingerprints or entry.fingerprints, found.manager == "apt"
    key = SigningKey(entry.keyring, key_url, fingerprints, KEY_WHY, armoured=not is_apt)
    resources = [*_way_out(context, found.manager), _others_aside(entry, uri), key]
    if is_apt:
        return [*_bundle_aside(), *resources, AptRepository(entry.list, uri, entry.suite, entry.keyring, why)]
    # Into rpm's database before anything: dnf would import the key by itself, and nobody could take that back.
    name = entry.id.format(**places)
    return [
        *resources,
        TrustedKey(entry.keyring, fingerprints, KEY_WHY),
        _rpm(context, entry, (found.manager, name, uri), why),
    ]


def _places(context: Context, found: Distribution, entry: Repository) -> dict[str, str]:
    architecture = context.facts.architecture
    return {"slug": found.slug_of(decisions.release(context)), "arch": entry.arch.get(architecture, architecture)}


def _others_aside(entry: Repository, uri: str) -> Resource:
    host = uri.split("://", 1)[1].rstrip("/")
    why = "one repository has one source: a second one with another key stops apt, and makes dnf and zypper warn at every call"
    return Absent(entry.list.rpartition("/")[0], entry.conflicting, host, entry.list, why)


def _bundle_aside() -> list[Resource]:
    """The source of a bundle that the profile named once: it would go on offering its packages, and vouch for them by itself."""
    folder, _, name = SOURCE.rpartition("/")
    return [Absent(folder, (name,), FOLDER, "", "the profile takes no packages from a bundle (any more)")]


def _rpm(context: Context, entry: Repository, where: tuple[str, str, str], why: str) -> Resource:
    """The repository of a package manager, by a name, at an address."""
    manager, name, uri = where
    network, signed = context.profile.network, entry.signed
    return RpmRepository(
        manager,
        entry.list,
        name,
        uri,
        entry.keyring,
        why,
        signed_index="index" in signed,
        signed_packages="packages" in signed,
        proxy=network.proxy or "",
        ca_bundle=network.ca_bundle or "",
    )


def _way_out(context: Context, manager: str) -> list[Resource]:
    """The profile's proxy and CA bundle for apt too, to NVIDIA's repositories as to all others. dnf and zypper have them by repository."""
    network = context.profile.network
    lines = [f'Acquire::{kind}::Proxy "{network.proxy}";' for kind in ("http", "https")] if network.proxy else []
    lines += [f'Acquire::https::CAInfo "{network.ca_bundle}";'] if network.ca_bundle else []
    if manager != "apt" or not lines:
        return []
    text = "\n".join(["// The way out of this host, by gpunode's profile.", *lines, ""])
    return [File("/etc/apt/apt.conf.d/51gpunode-network", text, "the profile says how this host reaches the outside")]
