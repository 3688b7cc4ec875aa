"""What a simulated program is given and gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Call:
    """A command being run: its words behind the program's own name, its standard input, and contents that it reads in place of files."""

    name: str
    words: tuple[str, ...]
    stdin: str = ""
    instead: Mapping[str, bytes] = field(default_factory=dict)

    def operands(self) -> list[str]:
        """Words that do not begin with a dash."""
        return [word for word in self.words if not word.startswith("-")]

    def option(self, name: str, default: str = "") -> str:
        """The value of `--name=value`."""
        start = f"--{name}="
        return next((word[len(start) :] for word in self.words if word.startswith(start)), default)


@dataclass(frozen=True)
class Answer:
    """What a program printed and its exit status."""

    stdout: str = ""
    stderr: str = ""
    status: int = 0
