"""How a JSON text is laid out, so that what is put into it looks like the rest: line ends, indentation, the space after a colon."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from gpunode.formats.json_data import Node
from gpunode.formats.toml_data import Path

UNIT = "  "


@dataclass(frozen=True)
class Style:
    """A text and its habits: `unit` is one step of indentation, `breaks` says whether members have lines of their own."""

    text: str
    newline: str
    unit: str
    colon: str
    breaks: bool

    @classmethod
    def of(cls, text: str, root: Node | None) -> Style:
        """The habits of a document, told from its first member; those of a new one where there is none."""
        newline = "\r\n" if "\r\n" in text else "\n"
        if root is None or not root.items:
            return cls(text, newline, UNIT, ": ", breaks=True)
        first = root.items[0]
        colon = first.colon if re.fullmatch(r"[ \t]*:[ \t]*", first.colon) else ": "
        gap = text[root.start + 1 : first.start]
        unit = gap.rpartition("\n")[2] or UNIT
        return cls(text, newline, unit, colon, breaks="\n" in gap)

    @property
    def space(self) -> str:
        """What stands between a comma and the next thing on the same line."""
        return " " if self.colon.endswith((" ", "\t")) else ""

    def gap(self, node: Node) -> str:
        """The white space to put before one more item of an object or array that has some: as before its last."""
        before = self._before(node, len(node.items) - 1)
        if "\n" in before:
            return self.newline + before.rpartition("\n")[2]
        return before if len(node.items) > 1 else self.space

    def locate(self, root: Node, path: Path) -> tuple[Node, str]:
        """The value at a path that is there, and the indentation of the line on which it begins."""
        node, indent = root, ""
        for key in path:
            index = next(number for number, item in enumerate(node.items) if item.key == key)
            gaps = (self._before(node, number) for number in range(index, -1, -1))
            indent = next((gap.rpartition("\n")[2] for gap in gaps if "\n" in gap), indent)
            node = node.items[index].value
        return node, indent

    def written(self, value: Any, indent: str, *, breaks: bool = True) -> str:
        """A value in this style, which begins on a line of the given indentation. Lists stay on one line."""
        if not isinstance(value, dict):
            return json.dumps(value, ensure_ascii=False, separators=(f",{self.space}", self.colon))
        breaks = breaks and self.breaks
        inner = indent + self.unit
        opening, closing = (self.newline + inner, self.newline + indent) if breaks else ("", "")
        members = [
            f"{json.dumps(key, ensure_ascii=False)}{self.colon}{self.written(each, inner, breaks=breaks)}"
            for key, each in value.items()
        ]
        return f"{{{opening}{f',{opening or self.space}'.join(members)}{closing}}}"

    def _before(self, node: Node, index: int) -> str:
        """The white space between an item and what stands before it: the bracket, or the comma."""
        if index == 0:
            return self.text[node.start + 1 : node.items[0].start]
        return self.text[node.items[index - 1].end : node.items[index].start].partition(",")[2]
