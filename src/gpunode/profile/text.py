"""How keys and values of a profile are written in messages, listings and new profiles."""

import json
import re

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_QUOTE = 60
_LONGEST_LIST = 2 * _LONGEST_QUOTE


def printable(text: str) -> str:
    """``text`` with everything a terminal would act on (control characters, direction marks) written as an escape."""
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return (
        json.dumps(char)[1:-1]
        if char < "\x20"
        else f"\\u{ord(char):04X}"
        if char < "\U00010000"
        else f"\\U{ord(char):08X}"
    )


def toml_string(value: str) -> str:
    """``value`` as a TOML basic string, quotes included."""
    return '"' + printable(value.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def toml_value(value: object) -> str:
    """A leaf of the profile (string, truth value, whole number, list or table of such) as TOML; ``unset`` for None."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return toml_string(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(name)} = {toml_value(item)}" for name, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return str(value)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else toml_string(name)


def shortened(text: str, most: int = _LONGEST_LIST) -> str:
    """``text``, cut where it would fill the screen."""
    return text if len(text) <= most else f"{text[:most]}…"


def quoted(value: object) -> str:
    """A value for a message: as TOML, cut where it would fill the screen."""
    if isinstance(value, str) and len(value) > _LONGEST_QUOTE:
        return f"{toml_string(value[:_LONGEST_QUOTE])}…"
    if isinstance(value, int) and value.bit_length() > 256:
        # Python refuses to write numbers of several thousand digits in decimal; TOML can carry them in hexadecimal.
        return shortened(hex(value), _LONGEST_QUOTE)
    return shortened(toml_value(value))


def dotted(path: tuple[str | int, ...]) -> str:
    """A path as a key a person would write: ``repositories.cuda.fingerprints[1]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else quoted(part))
    return text


def one_of(values: tuple[str, ...]) -> str:
    """``"a", "b" or "c"``: the allowed values of a choice."""
    names = [toml_string(value) for value in values]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
