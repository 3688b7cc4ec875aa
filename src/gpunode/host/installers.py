"""A vendor's self-extracting installer (`.run`), as gpunode uses it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Installer:
    """One `.run` file: where it is (an https address or a path), what it must be, how it is run and what it leaves behind.

    `thing` is what it installs, in a person's words, `key` the profile's table that names the file. `uninstaller` is a command that is
    there once the installation is whole, `record` a path that is there as soon as it has begun. `takes_off` are the arguments by which the
    installer itself takes off what it had only begun; where it knows none, it is run to its end first. `link` is a link that it
    makes of its own accord: where that leads is not its to say.
    """

    thing: str
    key: str
    source: str
    sha256: str
    arguments: tuple[str, ...]
    uninstaller: tuple[str, ...]
    record: str
    log: str
    takes_off: tuple[str, ...] = ()
    link: str = ""

    @property
    def name(self) -> str:
        """The file's name."""
        return self.source.rpartition("/")[2]
