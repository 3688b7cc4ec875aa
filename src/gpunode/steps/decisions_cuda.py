"""The CUDA toolkit by NVIDIA's installer: which file, how it is run, and why it cannot be."""

from __future__ import annotations

from collections.abc import Iterator

from gpunode.host.installers import Installer
from gpunode.steps.base import Context

KEY = "cuda.runfile"
"""The profile's table that names the file."""


def installer(context: Context) -> Installer:
    """The installer of the profile's version; its sha256 is empty where none is known."""
    known, folder = context.catalog.cuda_runfile, toolkit_folder(context)
    return Installer(
        thing="CUDA toolkit",
        key=KEY,
        source=_source(context),
        sha256=_sha256(context),
        arguments=tuple(each.format(folder=folder) for each in known.arguments),
        uninstaller=tuple(each.format(folder=folder) for each in known.uninstaller),
        record=folder,
        log=known.log,
        link=known.link,
    )


def toolkit_folder(context: Context) -> str:
    """Where the profile's version lies, whoever brings it."""
    return context.catalog.cuda_runfile.folder.format(version=context.profile.cuda.version)


def proof(context: Context) -> str:
    """A file that is there when the profile's version is installed."""
    return context.catalog.cuda_runfile.proof.format(folder=toolkit_folder(context))


def refusals(context: Context) -> list[str]:
    """Why the profile's version cannot be had in the way that it asks for."""
    return [*_checksum(context), *_other_way(context)]


def _checksum(context: Context) -> Iterator[str]:
    """The installer is run as root: only with a checksum."""
    cuda = context.profile.cuda
    if cuda.source != "runfile":
        return
    if not _source(context):
        yield (
            f"no installer of CUDA {cuda.version} is known for {context.facts.architecture}: name it in the profile, {KEY}.url or "
            f"{KEY}.path, and its {KEY}.sha256"
        )
    elif not _sha256(context):
        name = _source(context).rpartition("/")[2]
        yield f"no checksum is known of {name}: give it in the profile, {KEY}.sha256"


def _other_way(context: Context) -> Iterator[str]:
    """Packages and installer put one version into the same folder, and each would take the other's files off."""
    cuda, found = context.profile.cuda, context.facts.toolkits
    folder = toolkit_folder(context)
    if cuda.source == "runfile" and (package := found.by_packages.get(cuda.version)):
        yield (
            f"CUDA {cuda.version} is here already by packages ({package}), in {folder}, where its installer would put it: remove them "
            'first, or choose cuda.source = "packages"'
        )
    if cuda.source == "packages" and cuda.version in found.by_runfile:
        uninstaller = context.catalog.cuda_runfile.uninstaller[0].format(folder=folder)
        yield (
            f"CUDA {cuda.version} is here already by its .run installer ({uninstaller}): run that first, or choose "
            'cuda.source = "runfile"'
        )


def _source(context: Context) -> str:
    """The profile's own address or path, or NVIDIA's address; empty where the catalogue does not know the file's name."""
    own, known = context.profile.cuda.runfile, context.catalog.cuda_runfile
    if own.path or own.url:
        return own.path or own.url or ""
    release, system = known.releases.get(context.profile.cuda.version), known.systems.get(context.facts.architecture)
    if release is None or system is None:
        return ""
    return known.base + known.path.format(release=release.release, driver=release.driver, system=system)


def _sha256(context: Context) -> str:
    """The profile's checksum, or the known one, which is of NVIDIA's own file."""
    release = context.catalog.cuda_runfile.releases.get(context.profile.cuda.version)
    known = release.sha256.get(context.facts.architecture, "") if release else ""
    return context.profile.cuda.runfile.sha256 or known
