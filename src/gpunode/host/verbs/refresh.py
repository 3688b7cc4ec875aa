"""Things the host derives from others (the loader's cache, the initramfs, repository indices), made anew after a change.

Recorded before the change that they follow, so that a crash between the two is mended by the next run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpunode.errors import CommandError
from gpunode.host.packages import manager_named
from gpunode.host.verbs.base import Hands, Json, NeverConflicts, Taken

COMMANDS: dict[str, tuple[str, ...]] = {
    "loader-cache": ("ldconfig",),
    "initramfs:update-initramfs": ("update-initramfs", "-u", "-k", "all"),
    "initramfs:dracut": ("dracut", "--force", "--regenerate-all"),
    "units": ("systemctl", "daemon-reload"),
}
"""What can be made anew, and how. `lists:<manager>:<source file>` besides: a package manager's indices, of one source or of all."""

SECONDS = 900.0


@dataclass(frozen=True)
class Refresh(NeverConflicts):  # nobody edits a derived thing
    """Make a derived thing anew. Undone by making it anew once more, after everything else was undone."""

    name: ClassVar[str] = "refresh"
    deferred: ClassVar[bool] = True
    what: str

    def intent(self, _hands: Hands) -> Json | None:
        """What is to be refreshed."""
        return {"what": self.what}

    def act(self, hands: Hands, intent: Json) -> None:
        """Do it. Raises CommandError."""
        what: str = intent["what"]
        kind, _, rest = what.partition(":")
        if kind == "lists":
            name, _, source = rest.partition(":")
            manager_named(name).refresh_lists(hands.machine, hands.on_line, source)
        else:
            _run(hands, COMMANDS[what])
        hands.reader.forget()

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Derive it again from what is there now. Indices are a cache: they are left."""
        if not intent["what"].startswith("lists:"):
            _run(hands, COMMANDS[intent["what"]])
        return Taken()


def _run(hands: Hands, argv: tuple[str, ...]) -> None:
    output = hands.machine.run(argv, timeout=SECONDS, on_line=hands.on_line)
    if not output.ok:
        raise CommandError(f"{' '.join(argv)} failed with exit status {output.returncode}", details=output.last_words())
