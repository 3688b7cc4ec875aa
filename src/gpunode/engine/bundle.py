"""Bundles: made on a connected machine for hosts that are not, and looked at."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import TYPE_CHECKING

from gpunode.catalog.model import Catalog
from gpunode.engine.render import device_plugin_objects
from gpunode.errors import RefusedError, UsageError
from gpunode.formats import openpgp
from gpunode.formats.bundle import DEVICE_PLUGIN, IMAGES, KEYS, PACKAGES, ImageArchive, Manifest, Member, Target
from gpunode.formats.image_archive import image_names
from gpunode.host import bundle
from gpunode.host.bundle_making import Signer, lay_packages, member_of, write_bundle
from gpunode.host.facts import Facts
from gpunode.host.machine import Machine, OnLine
from gpunode.host.packages.base import Spec
from gpunode.host.packages.private_apt import PrivateApt
from gpunode.host.reader import Network, Reader
from gpunode.host.workspace import Workspace, workspace
from gpunode.resources.base import Resource
from gpunode.resources.files import File
from gpunode.resources.packages import Packages
from gpunode.resources.repository import AptRepository, SigningKey
from gpunode.steps import container_toolkit, cuda, decisions_host, decisions_wishes, driver
from gpunode.steps.base import Context

if TYPE_CHECKING:
    from gpunode.profile.model import HostProfile

STEPS = (driver.STEP, cuda.STEP, container_toolkit.STEP)
"""The steps whose packages a bundle carries."""
OWN_SOURCES, OWN_LISTS = "/etc/apt/sources.list", "/etc/apt/sources.list.d"
PREFERENCES, CONFIGURATION = "/etc/apt/preferences.d/", "/etc/apt/apt.conf.d/51gpunode-network"


@dataclass(frozen=True)
class Request:
    """A bundle wanted. `sources` are texts of the target's own apt sources by file name (none: this host's), `status` its dpkg database.

    `kernel` is the release that the target runs, empty where its headers are not to come along; `images` are archives' paths.
    """

    profile: HostProfile
    target: Target
    output: str
    kernel: str = ""
    nvswitches: int = 0
    sources: tuple[tuple[str, str], ...] = ()
    status: bytes = b""
    images: tuple[str, ...] = ()
    signer: Signer | None = None


@dataclass
class Made:
    """A bundle that was made, or looked at: its manifest, the sum of the whole file, and the keys that signed it."""

    path: str
    manifest: Manifest
    sha256: str
    fingerprints: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def create(machine: Machine, catalog: Catalog, request: Request, *, version: str, on_line: OnLine) -> Made:
    """Make a bundle. Raises RefusedError where the profile cannot be had on the target, HostError, UsageError."""
    context = context_of(catalog, request)
    _require_possible(context)
    host = Reader(machine, Network(request.profile.network.proxy, request.profile.network.ca_bundle))
    _require_archive(catalog, host, request)
    with workspace(machine, request.output) as place:
        debs = _gather(host, place, context, request, on_line)
        now = time.time()
        packages = lay_packages(
            place, debs, context.facts.package_architecture, formatdate(now, usegmt=True), request.signer
        )
        images = tuple(_images(place, request.images))
        place.write(DEVICE_PLUGIN, device_plugin_objects(request.profile).text.encode())
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        manifest = Manifest(request.target, created, version, tuple(_members(place)), tuple(packages), images)
        digest = write_bundle(place, manifest, request.signer, request.output)
    keys = openpgp.fingerprints(request.signer.public_key(machine)) if request.signer else ()
    return Made(request.output, manifest, digest, keys, _notes(request))


def inspect(machine: Machine, path: str, profile: HostProfile | None) -> Made:
    """Look at a bundle and verify every file in it; with a profile, that it is the one which the profile takes. Raises HostError."""
    host = Reader(machine)
    found = bundle.read(host, path)
    pins = bundle.Pins(profile.bundle.fingerprints, profile.bundle.sha256 or "") if profile else bundle.Pins()
    bundle.verify(host, found, pins, None)
    signers = bundle.signers(found)
    if signers:
        bundle.require_signed(host, found, signers)
    return Made(path, found.manifest, bundle.sha256(host, path), signers)


# --- the target ------------------------------------------------------------------------------------------------------


def target_of(catalog: Catalog, distribution: str, release: str, architecture: str) -> Target:
    """A target in the catalogue's words. Raises UsageError for one that it does not know."""
    found = catalog.distribution(distribution)
    if found is None:
        raise UsageError(f"{distribution} is not a distribution that gpunode knows: {', '.join(catalog.distributions)}")
    if found.manager != "apt":
        raise UsageError(
            f"{distribution} has {found.manager}, and a bundle can be made for hosts with apt alone so far",
            hint="mirror NVIDIA's repositories inside the site and name the mirrors in the profile: repositories",
        )
    known = found.release(release, "")
    if not known:
        raise UsageError(f"{distribution} {release} is no release that gpunode knows: {', '.join(found.versions)}")
    if architecture not in found.architectures:
        raise UsageError(f"{architecture} is not an architecture that gpunode knows: {', '.join(found.architectures)}")
    return Target(found.name, known, architecture)


def kind_of(catalog: Catalog, os_release: Mapping[str, str]) -> tuple[str, str]:
    """Distribution and release of a host in the catalogue's words, by its os-release; empty words for one that it does not know."""
    found = catalog.distribution(os_release.get("id", ""), tuple(os_release.get("id_like", "").split()))
    return (found.name, found.release(os_release.get("version_id", ""))) if found else ("", "")


def context_of(catalog: Catalog, request: Request) -> Context:
    """The target as the steps see it, as far as it is known from here: its GPUs are not."""
    target = request.target
    facts = Facts(
        os_id=target.distribution,
        os_version=target.release,
        os_name=f"{target.distribution} {target.release}",
        distribution=catalog.distributions[target.distribution],
        architecture=target.architecture,
        kernel=request.kernel,
        root=True,
        gpus=(),
        nvswitches=request.nvswitches,
        nouveau=False,
        driver=None,
        headers=not request.kernel,
        secure_boot=None,
        engines={},
        flavour=catalog.flavours["plain"],
        kubectl=False,
        kubeconfig=None,
        kubelet=False,
        hostname="",
        free=0,
        now=time.time(),
    )
    return Context(request.profile, facts, catalog)


def _require_possible(context: Context) -> None:
    source = context.profile.driver.source
    if source not in ("local", "nvidia"):
        raise UsageError(
            f'a bundle carries NVIDIA\'s packages, and driver.source is "{source}"',
            hint='choose "local" (or "nvidia") in the profile',
        )
    online = _online(context)
    reasons = [*decisions_wishes.driver_refusals(online), *decisions_host.repository_refusals(online)]
    reasons += [*cuda.STEP.refusals(online), *container_toolkit.STEP.refusals(online)]
    if reasons:
        raise RefusedError(tuple(reasons))


def _online(context: Context) -> Context:
    """The same target, were it to fetch everything itself: its repositories and keys are where the bundle's packages come from."""
    return decisions_wishes.with_driver(context, source="nvidia")


def _notes(request: Request) -> list[str]:
    notes = []
    if request.profile.driver.modules == "auto":
        notes.append(
            "the target's GPUs are not known here, and the open kernel modules were taken: driver.modules in the profile decides it"
        )
    if not request.kernel:
        notes.append("no kernel headers were taken, for no kernel was named: --kernel, unless the target has them")
    return notes


# --- gathering -------------------------------------------------------------------------------------------------------


def _gather(host: Reader, place: Workspace, context: Context, request: Request, on_line: OnLine) -> list[str]:
    online = [resource for step in STEPS for resource in step.resources(_online(context))]
    apt = PrivateApt(place, context.facts.package_architecture, status=request.status, more=_configuration(online))
    for name, text in request.sources or _own_sources(host):
        apt.add_source(name, text)
    _add_repositories(host, apt, online)
    for file in _files(online):
        if file.path.startswith(PREFERENCES):
            apt.prefer(file.path.removeprefix(PREFERENCES), file.text)
    apt.update(on_line)
    return apt.download(_specs(online), on_line)


def _require_archive(catalog: Catalog, host: Reader, request: Request) -> None:
    """Raise UsageError where no archive of the target's own is known: this host's is of another kind."""
    target = request.target
    if not request.sources and (target.distribution, target.release) != kind_of(catalog, host.os_release()):
        raise UsageError(
            f"where is the archive of {target.distribution} {target.release}? It is not this host's",
            hint="give its apt sources: --sources FILE (a file of lines `deb URI SUITE COMPONENTS`, or in deb822)",
        )


def _own_sources(host: Reader) -> list[tuple[str, str]]:
    """This host's apt sources, by file name."""
    listed = (path for name in ("*.list", "*.sources") for path in host.glob(OWN_LISTS, name))
    found = ((path, host.read_text(path)) for path in (OWN_SOURCES, *listed))
    return [(path.rpartition("/")[2], text) for path, text in found if text]


def _add_repositories(host: Reader, apt: PrivateApt, resources: Sequence[Resource]) -> None:
    """Each repository, verified by the key that the profile or the catalogue pins."""
    keyrings: dict[str, str] = {}
    for key in (each for each in resources if isinstance(each, SigningKey)):
        if key.path not in keyrings:
            keyrings[key.path] = apt.add_key(key.path.rpartition("/")[2], key.fetched(host))
    for each in resources:
        if isinstance(each, AptRepository):
            apt.add_source(each.path.rpartition("/")[2], replace(each, keyring=keyrings[each.keyring]).text)


def _specs(resources: Sequence[Resource]) -> list[Spec]:
    """Every package that apply would install by name on the target."""
    found = [spec for each in resources if isinstance(each, Packages) for spec in each.specs]
    return list(dict.fromkeys(found))


def _files(resources: Sequence[Resource]) -> list[File]:
    return [each for each in resources if isinstance(each, File)]


def _configuration(resources: Sequence[Resource]) -> str:
    return "\n".join(each.text for each in _files(resources) if each.path == CONFIGURATION)


def _images(place: Workspace, paths: Sequence[str]) -> Iterator[ImageArchive]:
    host = Reader(place.machine)
    for number, path in enumerate(paths):
        name = f"{IMAGES}/{number}.tar"
        with host.stream(path) as stream:
            try:
                names = image_names(stream)
            except ValueError as error:
                raise UsageError(f"{path}: {error}") from None
        place.place(path, name)
        yield ImageArchive(name, names)


def _members(place: Workspace) -> Iterator[Member]:
    """What goes into the bundle: small things first, so that a look at it is quick."""
    yield member_of(f"{place.path}/{DEVICE_PLUGIN}", DEVICE_PLUGIN)
    for folder in (KEYS, PACKAGES, IMAGES):
        for name in place.names(folder):
            yield member_of(f"{place.path}/{folder}/{name}", f"{folder}/{name}")
