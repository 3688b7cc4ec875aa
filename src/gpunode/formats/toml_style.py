"""How a TOML file is written: its quotes, indentation, line breaks and blank lines, so that additions look like the rest."""

from __future__ import annotations

import re

from gpunode.formats.toml_data import Path, Value
from gpunode.formats.toml_outline import Header, Outline, Place, starts_with


def newline(text: str) -> str:
    """The line break most lines of the text end with."""
    crlf = text.count("\r\n")
    return "\r\n" if crlf * 2 > text.count("\n") else "\n"


def quote(outline: Outline) -> str:
    """The quotation mark most strings of the file are written with."""
    values = [outline.text[entry.value_start] for entry in outline.entries]
    return "'" if values.count("'") > values.count('"') else '"'


def written_value(value: Value, mark: str) -> str:
    """The value as TOML, strings in the given quotation mark where they can be."""
    import tomlkit  # heavy: loaded only when a file is really changed

    if isinstance(value, list):
        return "[" + ", ".join(written_value(item, mark) for item in value) + "]"
    if isinstance(value, str) and mark == "'" and "'" not in value and value.isprintable():
        return f"'{value}'"
    return str(tomlkit.item(value).as_string())


def written_key(part: str, mark: str) -> str:
    """One part of a key, in quotes only where it needs them."""
    return part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else written_value(part, mark)


def written_path(outline: Outline, path: Path) -> str:
    """The path of a header, its beginning spelled as in the header that shares most of it."""
    shared = 0
    spelling: Path = ()
    for header in outline.headers:
        common = _common(header.path, path)
        if common >= shared and common <= len(header.spelling):
            shared, spelling = common, header.spelling[:common]
    rest = (written_key(part, quote(outline)) for part in path[shared:])
    return ".".join((*spelling, *rest))


def model_header(outline: Outline, path: Path) -> Header | None:
    """The header whose style a new table takes: a sibling, else the nearest table above, else the nearest relative."""
    best: Header | None = None
    best_rank = (0, False, False)
    for header in outline.headers:
        common = _common(header.path, path)
        sibling = common == len(path) - 1 and len(header.path) == len(path)
        rank = (common, sibling, common == len(header.path))
        if common and rank >= best_rank:
            best, best_rank = header, rank
    return best


def header_indent(outline: Outline, path: Path) -> str:
    """The indentation of a new header for the table path."""
    model = model_header(outline, path)
    if model is None:
        return ""
    levels = len(path) - len(model.path)
    unit = _unit(outline)
    return model.indent + unit * levels if levels >= 0 else model.indent[: len(model.indent) + len(unit) * levels]


def _unit(outline: Outline) -> str:
    """What one level of nesting adds to a header's indentation; empty in a flat file."""
    for parent in outline.headers:
        for child in outline.headers:
            nested = starts_with(child.path, parent.path) and len(child.path) == len(parent.path) + 1
            if nested and child.indent.startswith(parent.indent):
                return child.indent[len(parent.indent) :]
    return ""


def entry_indent(outline: Outline, section: int) -> str:
    """The indentation of a new key under a header: as the last one there, else as keys stand under other headers."""
    own = outline.section_entries(section)
    if own:
        return own[-1].indent
    header = outline.headers[section]
    for entry in outline.entries:
        other = outline.headers[entry.section] if entry.section >= 0 else None
        if other and entry.indent.startswith(other.indent):
            return header.indent + entry.indent[len(other.indent) :]
    return header.indent


def blank_before_headers(outline: Outline) -> bool:
    """Whether a table that follows keys is set off by a blank line; nested tables decide, they are what is added."""
    votes: dict[bool, list[bool]] = {True: [], False: []}
    for index, header in enumerate(outline.headers):
        if outline.section_entries(index - 1):
            votes[len(header.path) > 1].append(not (outline.line_before(header.start) or "").strip())
    deciding = votes[True] or votes[False]
    return deciding.count(True) * 2 >= len(deciding)


def _common(one: Place, other: Place) -> int:
    """How many leading parts two paths share."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
