"""Container images loaded into containerd from an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gpunode.errors import CommandError
from gpunode.host import container_images
from gpunode.host.verbs.base import Hands, Json, NeverConflicts, Taken

SECONDS = 900.0


@dataclass(frozen=True)
class ImportImages(NeverConflicts):
    """Load an archive. `ctr` is the client's command line up to its verb; `names` are those that the archive gives its images."""

    name: ClassVar[str] = "import-images"
    ctr: tuple[str, ...]
    archive: str
    names: tuple[str, ...]

    def intent(self, hands: Hands) -> Json | None:
        """The names that are new, and the aliases that are not; None where all names are there."""
        present = container_images.digests(hands.reader, self.ctr)
        new = [name for name in self.names if name not in present]
        known = [name for name in present if name.startswith(container_images.ALIAS)]
        return {"ctr": list(self.ctr), "archive": self.archive, "names": new, "aliases": known} if new else None

    def act(self, hands: Hands, intent: Json) -> None:
        """Load it. Raises CommandError."""
        output = hands.machine.run([*intent["ctr"], "images", "import", intent["archive"]], timeout=SECONDS)
        if not output.ok:
            raise CommandError(
                f"containerd did not take the images of {intent['archive']}", details=output.last_words()
            )

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Remove those that were new, their aliases first. A containerd that does not answer keeps them, and says so."""
        ctr, names = intent["ctr"], intent["names"]
        try:
            present = container_images.digests(hands.reader, tuple(ctr))
        except CommandError as error:
            return _left(names, error.details)
        aliases = [name for name in container_images.aliases(present, names) if name not in intent["aliases"]]
        going = [*aliases, *(name for name in names if name in present)]
        if not going:
            return Taken()
        output = hands.machine.run([*ctr, "images", "rm", "--sync", *going], timeout=SECONDS)
        return Taken() if output.ok else _left(names, output.last_words(1))


def _left(names: Sequence[str], words: Sequence[str]) -> Taken:
    return Taken(left=(f"images {', '.join(names)}: {' '.join(words)}",))
