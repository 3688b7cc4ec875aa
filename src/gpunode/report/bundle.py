"""A bundle in words: whom it is for, what it holds, and how a profile names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpunode.report.page import Page

if TYPE_CHECKING:
    from gpunode.engine.bundle import Made


def bundle(page: Page, made: Made) -> None:
    """What was made or looked at, and the lines by which a profile takes it."""
    manifest = made.manifest
    page.line((f"{made.path}: for {manifest.target}, made {manifest.created} by gpunode {manifest.gpunode}", "bold"))
    page.line(
        f"{len(manifest.packages)} packages and {len(manifest.files)} files, {-(-manifest.size >> 20)} MiB, every hash as the manifest says"
    )
    for name in (name for archive in manifest.images for name in archive.names):
        page.line(f"image {name}")
    for note in made.notes:
        page.prose(note, "yellow", lead=("! ", "yellow"))
    pin = f'fingerprints = ["{made.fingerprints[0]}"]' if made.fingerprints else f'sha256 = "{made.sha256}"'
    page.line("signed; in the profile:" if made.fingerprints else "not signed; in the profile, for this very file:")
    page.line(f'  [driver] source = "local"   [bundle] path = "{made.path}"   {pin}')


def document(made: Made, command: str) -> dict[str, Any]:
    """The same for a program."""
    manifest = made.manifest
    return {
        "schema": "gpunode/1",
        "command": command,
        "path": made.path,
        "sha256": made.sha256,
        "signed_by": list(made.fingerprints),
        "target": vars(manifest.target),
        "created": manifest.created,
        "packages": {package.name: package.version for package in manifest.packages},
        "images": [name for archive in manifest.images for name in archive.names],
        "files": {member.name: {"size": member.size, "sha256": member.sha256} for member in manifest.files},
        "notes": made.notes,
    }
