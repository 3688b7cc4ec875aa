"""Which images a containerd has."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gpunode.errors import CommandError
from gpunode.host.reader import Reader

ALIAS = "sha256:"
"""How the names begin by which containerd's CRI plugin keeps an image for the kubelet, beside the name that it was loaded by."""


def digests(host: Reader, ctr: tuple[str, ...]) -> dict[str, str]:
    """The images' digests by their names, by the client `ctr` (its command line up to its verb).

    Raises CommandError where containerd does not answer.
    """
    output = host.query([*ctr, "images", "ls"])
    if not output.ok:
        raise CommandError("containerd does not list its images", hint="does it run?", details=output.last_words())
    rows = (line.split() for line in output.stdout.splitlines()[1:])
    return {name: digest for name, _kind, digest, *_ in rows}


def aliases(present: Mapping[str, str], names: Collection[str]) -> list[str]:
    """The names that the CRI plugin gave to the images of these names, and to no others that stay."""
    going = {present[name] for name in names if name in present}
    staying = {digest for name, digest in present.items() if name not in names and not name.startswith(ALIAS)}
    return [name for name, digest in present.items() if name.startswith(ALIAS) and digest in going - staying]
