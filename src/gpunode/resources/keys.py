"""Keys of a TOML file that is somebody else's: only they are set, and only they are taken back."""

from __future__ import annotations

from dataclasses import dataclass

from gpunode.errors import HostError
from gpunode.formats.toml_data import MISSING, Path, TomlError, Value, dotted, lookup, parse, same
from gpunode.formats.toml_edit import EditError, set_keys
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import Difference, Local
from gpunode.resources.files import unified


@dataclass(frozen=True)
class KeysState:
    """The file's text, None where there is none, what it should become, and each key's value or MISSING."""

    text: str | None
    edited: str
    found: tuple[object, ...]


@dataclass(frozen=True)
class TomlKeys(Local):
    """Keys with their values in a file, every other byte of it left alone; a file that is not there is made of them.

    `style` is how a rollback takes the keys out of a file that somebody has edited since (see host/verbs/images.py).
    """

    path: str
    keys: tuple[tuple[Path, Value], ...]
    why: str
    style: str = "toml"

    @property
    def id(self) -> str:
        """`toml:PATH`."""
        return f"toml:{self.path}"

    def observe(self, host: Reader) -> KeysState:
        """The file, edited in memory. Raises HostError, naming file, line and column, when it cannot be."""
        text = host.read_text(self.path)
        try:
            data, edited = parse(text or ""), set_keys(text or "", dict(self.keys))
        except TomlError as error:
            hint = f"mend {self.path} by hand, then run the same command again; nothing was changed"
            raise HostError(f"{self.path}: {error}", hint=hint) from None
        except EditError as error:
            raise HostError(f"{self.path}: {error}", hint="set that key in the file yourself") from None
        return KeysState(text, edited, tuple(lookup(data, key) for key, _ in self.keys))

    def differences(self, state: KeysState) -> list[Difference]:
        """Each key that is absent or has another value; the file's difference is shown with the first."""
        diff = unified(self.path, state.text or "", state.edited)
        differences = []
        for (key, wanted), found in zip(self.keys, state.found, strict=True):
            if not same(found, wanted):
                differences.append(Difference(dotted(key), _word(found), _word(wanted), self.why, diff))
                diff = ""
        return differences

    def converge(self, host: Writer, state: KeysState) -> None:
        """Write the file."""
        host.write_file(self.path, state.edited.encode(), style=self.style)


def _word(value: object) -> str:
    if value is MISSING:
        return "absent"
    return str(value).lower() if isinstance(value, bool) else str(value)
