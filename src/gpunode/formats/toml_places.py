"""Where a new key, a new table or a removed line goes in a TOML text, and the text with that done."""

from __future__ import annotations

from gpunode.formats import toml_style as style
from gpunode.formats.toml_data import Path
from gpunode.formats.toml_outline import Entry, Header, Outline, line_end, starts_with


def dotted_home(outline: Outline, path: Path) -> tuple[Entry, int] | None:
    """The last key of a table that dotted keys make, with how much of its key the path shares.

    TOML allows no header for such a table, so a new key in it must be a dotted key beside the others. A header of a
    table between that one and the path takes precedence.
    """
    best: tuple[Entry, int] | None = None
    best_depth = max((len(each.path) for each in outline.headers if starts_with(path[:-1], each.path)), default=0)
    for entry in outline.entries:
        table = len(entry.path) - len(entry.spelling)
        shared = 0
        while shared < len(entry.spelling) - 1 and starts_with(path[:-1], entry.path[: table + shared + 1]):
            shared += 1
        if shared and table + shared >= best_depth:
            best, best_depth = (entry, shared), table + shared
    return best


def insert_beside(outline: Outline, home: tuple[Entry, int], path: Path, written: str) -> str:
    """The text with a dotted key put behind the one that dotted_home() found."""
    entry, shared = home
    rest = path[len(entry.path) - len(entry.spelling) + shared :]
    mark = style.quote(outline)
    key = ".".join((*entry.spelling[:shared], *(style.written_key(part, mark) for part in rest)))
    return insert_lines(outline.text, entry.end, [f"{entry.indent}{key} = {written}"])


def insert_at_root(outline: Outline, line: str) -> str:
    """The text with a key that belongs to no table, behind the others or above the first table."""
    text = outline.text
    entries = outline.section_entries(-1)
    if entries:
        return insert_lines(text, entries[-1].end, [entries[-1].indent + line])
    at = _opening_comment_end(text)
    sets_off = at < len(text) and text[at] not in "\r\n"
    return insert_lines(text, at, [line, ""] if sets_off else [line])


def _opening_comment_end(text: str) -> int:
    """Behind the comment that opens the file and its blank lines; the top where it belongs to what follows it."""
    at = 0
    while text.startswith("#", at):
        at = line_end(text, at)
    comment = at
    while text[at : line_end(text, at)].strip(" \t") in {"\n", "\r\n"}:
        at = line_end(text, at)
    return at if at > comment or at == len(text) else 0


def insert_section(outline: Outline, table: Path, line: str) -> str:
    """The text with a new table holding one key: above its own subtables, else behind its nearest relatives."""
    text = outline.text
    indent = style.header_indent(outline, table)
    header = f"{indent}[{style.written_path(outline, table)}]"
    model = style.model_header(outline, table)
    relative = ""
    if model:
        relative = style.entry_indent(outline, outline.headers.index(model)).removeprefix(model.indent)
    lines = [header, indent + relative + line]
    blank = [""] if style.blank_before_headers(outline) else []
    child = next((each for each in outline.headers if starts_with(each.path, table)), None)
    if child:
        return insert_lines(text, _attached_comment_start(outline, child), lines + blank)
    at = _section_end(outline, table)
    return insert_lines(text, at, (blank if text[:at] else []) + lines)


def _attached_comment_start(outline: Outline, header: Header) -> int:
    """Where the comment that stands right above a header begins."""
    at = header.start
    while (line := outline.line_before(at)) is not None and line.lstrip().startswith("#"):
        at = outline.text.rfind("\n", 0, at - 1) + 1
    return at


def _section_end(outline: Outline, table: Path) -> int:
    """Behind the last table that shares most of the path, and behind comments that close it."""
    relatives: list[int] = []
    for length in range(len(table) - 1, 0, -1):
        relatives = [i for i, each in enumerate(outline.headers) if starts_with(each.path, table[:length])]
        if relatives:
            break
    section = relatives[-1] if relatives else len(outline.headers) - 1
    ends = [entry.end for entry in outline.section_entries(section)]
    ends += [outline.headers[section].end] if section >= 0 else [_opening_comment_end(outline.text)]
    return _behind_comments(outline.text, max(ends))


def _behind_comments(text: str, at: int) -> int:
    """Behind the comment lines at this offset, unless they stand right above something else."""
    end = at
    while text[end : line_end(text, end)].lstrip().startswith("#"):
        end = line_end(text, end)
    return end if not text[end : line_end(text, end)].strip() else at


def insert_lines(text: str, at: int, lines: list[str]) -> str:
    """The text with whole lines put in; a file without a final line break stays one."""
    end = style.newline(text)
    head, tail = text[:at], text[at:]
    if head and not head.endswith("\n"):
        return head + "".join(end + line for line in lines) + tail
    return head + "".join(line + end for line in lines) + tail


def cut(text: str, start: int, end: int, *, with_blank: bool) -> str:
    """The text without these lines, and without a blank line that would then open the file.

    with_blank: and without the blank line above, where another follows or the file ends.
    """
    head, tail = text[:start], text[end:]
    if not head and not tail[: line_end(tail, 0)].strip():
        return tail[line_end(tail, 0) :]
    if with_blank and not tail[: line_end(tail, 0)].strip():
        without = head.removesuffix("\n").removesuffix("\r")
        head = without if without.endswith("\n") else head
    if end == len(text) and not text.endswith("\n"):
        head = head.removesuffix("\n").removesuffix("\r")
    return head + tail
