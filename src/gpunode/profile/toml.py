"""Bytes to TOML data, with the place of what cannot be read. A TOML syntax error hides what comes after it."""

import re
import sys
from typing import Any

from gpunode.profile.errors import Problem, ProfileError
from gpunode.profile.text import shortened

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST = 64 * 1024
LONGEST_LINE = 4096

_PLACE = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)
_SAID_PLAINLY = {
    "Cannot overwrite a value": "this key is given twice: keep one of the two",
    "Expected '=' after a key in a key/value pair": "a key must be followed by = and its value",
    "Expected newline or end of document after a statement": "a second statement on this line: begin a new line",
    "Illegal character '\\n'": "the string is not closed: end it with a quote",
    "Invalid statement": "neither a key nor a [table]",
    "Invalid value": "not a TOML value: a string needs quotes; true, false and numbers have none",
}
_ABOUT_A_VALUE = ("Invalid value", "Unclosed", "Unterminated", "Expected \"'", "Expected '\"")
_CUT_OFF = "the text ends in the middle of a value: close its string, list or table"
_TABLE_TWICE = re.compile(r"Cannot declare \((?P<path>.*?),?\) twice")


def parse(text: str) -> dict[str, Any]:
    """TOML data of ``text``. Raises ``tomllib.TOMLDecodeError``."""
    return tomllib.loads(text)


def decode(content: bytes, name: str) -> str:
    """The text of a profile, its line ends made ``\\n``.

    Raises ``ProfileError`` where it is too large to be a profile, has a byte order mark, or is not UTF-8.
    """
    if len(content) > LARGEST:
        size = f"{len(content) / 1024:.0f} KiB"
        raise _refused(name, f"this is no profile: it has {size}, and a profile has at most {LARGEST // 1024} KiB")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _refused(name, "the text is UTF-16: save it as UTF-8", line=1, column=1)
    if content.startswith(b"\xef\xbb\xbf"):
        raise _refused(name, "the text begins with a byte order mark: save it as UTF-8 without one", line=1, column=1)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8")) + 1
        message = f"byte 0x{content[error.start]:02x} is not UTF-8: save the text as UTF-8"
        raise _refused(name, message, line=line, column=column) from None
    return text.replace("\r\n", "\n")


def read_toml(text: str, name: str) -> dict[str, Any]:
    """The data of a profile's text. Raises ``ProfileError`` with line and column where it is not TOML."""
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > LONGEST_LINE:
            message = f"the line has {len(line)} characters: a profile's lines have at most {LONGEST_LINE}"
            raise _refused(name, message, line=number, column=LONGEST_LINE + 1)
    try:
        return parse(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(name, [_syntax_problem(str(error), text)]) from None


def _syntax_problem(said: str, text: str) -> Problem:
    lines = text.rstrip("\n").split("\n")
    match = _PLACE.fullmatch(said)
    if match is None:
        return Problem(0, 0, "", shortened(said))
    if match["line"] is None:
        message = _CUT_OFF if match["what"].startswith(_ABOUT_A_VALUE) else _plainly(match["what"])
        return Problem(len(lines), len(lines[-1]) + 1, "", message)
    return Problem(int(match["line"]), int(match["column"]), "", _plainly(match["what"]))


def _plainly(what: str) -> str:
    """The parser's words, or ours where they send an operator the wrong way."""
    if twice := _TABLE_TWICE.fullmatch(what):
        table = ".".join(part.strip("' ") for part in twice["path"].split(","))
        return f"the table [{shortened(table)}] is given twice: keep its keys under one heading"
    return _SAID_PLAINLY.get(what, shortened(what))


def _refused(name: str, message: str, *, line: int = 0, column: int = 0) -> ProfileError:
    return ProfileError(name, [Problem(line, column, "", message)])
