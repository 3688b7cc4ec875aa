"""A machine on which one source of what is known (a file, a program's answer) is damaged, and that knows which sources there are."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gpunode.host.machine import OnLine, Output
from memory.files import error
from memory.machine import MemoryMachine

Damage = Callable[[bytes], bytes]


class DamagedMachine(MemoryMachine):
    """A MemoryMachine whose `source` is damaged: a path, or the name of a program. `sources` are all that were asked."""

    source = ""
    damage: Damage = staticmethod(bytes)
    sources: set[str]

    @classmethod
    def of(cls, machine: MemoryMachine, source: str = "", damage: Damage = bytes) -> DamagedMachine:
        """A copy of a machine, damaged."""
        other = machine.copy()
        other.__class__ = cls
        assert isinstance(other, DamagedMachine)
        other.source, other.damage, other.sources = source, damage, set()
        return other

    def read(self, path: str) -> bytes:
        content = super().read(path)
        self.sources.add(path)
        return self.damage(content) if path == self.source else content

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout: float = 30.0,
        env: Mapping[str, str] | None = None,
        on_line: OnLine | None = None,
        instead: Mapping[str, bytes] | None = None,
    ) -> Output:
        output = super().run(argv, stdin=stdin, timeout=timeout, env=env, on_line=on_line, instead=instead)
        name = argv[0].rpartition("/")[2]
        self.sources.add(name)
        if name != self.source:
            return output
        return replace(output, stdout=self.damage(output.stdout.encode()).decode("utf-8", "replace"))


def unreadable(_content: bytes) -> bytes:
    """What a bad disk does."""
    raise error(errno.EIO, "")
