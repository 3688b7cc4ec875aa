"""The model's verdicts turned into sentences: what is wrong, what is allowed, what was probably meant."""

from datetime import date, datetime, time
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gpunode.profile import layout
from gpunode.profile.errors import Problem
from gpunode.profile.model import RULE_ERROR, HostProfile
from gpunode.profile.positions import Positions
from gpunode.profile.text import dotted, one_of, quoted

Path = tuple[str | int, ...]

NAME_ITSELF = "[key]"
"""What pydantic puts behind the location of a name that is wrong, in a table whose names are the operator's own."""
_WANTED = {
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "tuple_type": "a list of strings",
    "model_type": "a table",
    "dict_type": "a table",
}
_NOUNS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "the truth value"),
    (int, "the integer"),
    (float, "the float"),
    (str, "the string"),
    ((datetime, date, time), "the date"),
)


def problems(data: dict[str, Any], first: ValidationError, positions: Positions) -> list[Problem]:
    """Every mistake in ``data``: the ones of ``first`` and the rules that the sound keys break among themselves."""
    errors = first.errors(include_url=False)
    broken = {_key_path(error["loc"]) for error in errors if error["type"] != RULE_ERROR}
    if broken:
        errors += _broken_rules(_without(data, broken), broken)
    return [_problem(error, positions) for error in errors]


def _broken_rules(sound: dict[str, Any], broken: set[tuple[str, ...]]) -> list[ErrorDetails]:
    """Rules are asked only once the types are right. A rule on a key that is wrong already would guess: it is left out."""
    try:
        HostProfile.model_validate(sound)
    except ValidationError as error:
        return [each for each in error.errors(include_url=False) if not _touches(each, broken)]
    return []


def _touches(error: ErrorDetails, broken: set[tuple[str, ...]]) -> bool:
    paths = error.get("ctx", {}).get("paths", [])
    return any(path[:length] in broken for path in paths for length in range(1, len(path) + 1))


def _key_path(location: Path) -> tuple[str, ...]:
    """The key a location belongs to: a list item belongs to its list."""
    names = []
    for part in location:
        if isinstance(part, int) or part == NAME_ITSELF:
            break
        names.append(part)
    return tuple(names)


def _without(table: dict[str, Any], paths: set[tuple[str, ...]]) -> dict[str, Any]:
    kept = {}
    for name, value in table.items():
        inner = {path[1:] for path in paths if path[0] == name}
        if () in inner:
            continue
        kept[name] = _without(value, inner) if inner and isinstance(value, dict) else value
    return kept


def _problem(error: ErrorDetails, positions: Positions) -> Problem:
    location = error["loc"]
    if location[-1] == NAME_ITSELF:
        location = location[:-1]
    message, hint = _sentence(error)
    place = positions.exact(location)
    if place is None and error["type"] == RULE_ERROR:
        # The key was left to its default: the line to look at is the one of the key it does not go with.
        others = [positions.exact(path) for path in error["ctx"]["paths"]]
        place = next((other for other in others if other is not None), None)
    place = place or positions.nearest(location)
    return Problem(place.line, place.column, dotted(location), message, hint)


def _sentence(error: ErrorDetails) -> tuple[str, str | None]:
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        return "unknown key", _meant_key(_key_path(error["loc"]))
    if kind == "literal_error":
        return _choice_sentence(_key_path(error["loc"]), value)
    if kind in _WANTED:
        return f"wants {_WANTED[kind]}, not {_described(value)}", _rewritten(kind, value, error["loc"])
    return error["msg"], None


def _meant_key(path: tuple[str, ...]) -> str | None:
    *table, name = path
    model = layout.table_at(tuple(table)) or layout.named_table_at(tuple(table))
    near = get_close_matches(name.lower()[:64], model.model_fields, n=1) if model else []
    if near:
        return f'did you mean "{near[0]}"?'
    homes = [dotted(home) for home, other in layout.tables() if home and name in other.model_fields]
    return f"it belongs under {' or '.join(f'[{home}]' for home in homes)}" if homes else None


def _choice_sentence(path: tuple[str, ...], value: object) -> tuple[str, str | None]:
    field = layout.field_at(path)
    allowed = layout.choices_of(field) if field else ()
    near = get_close_matches(value.lower()[:64], allowed, n=1) if isinstance(value, str) else []
    subject = quoted(value) if isinstance(value, str) else _described(value)
    return f"{subject} is not allowed: give {one_of(allowed)}", f'did you mean "{near[0]}"?' if near else None


def _described(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    noun = next(noun for types, noun in _NOUNS if isinstance(value, types))
    return f"{noun} {quoted(value)}"


def _rewritten(kind: str, value: object, location: Path) -> str | None:
    """The same value as it should have been written, where that is plain."""
    if kind == "string_type" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return f'write "{quoted(value)}"'
    if kind == "int_type" and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return f"write {int(value)}"
    if kind == "bool_type" and str(value).lower() in {"true", "yes", "on", "1"}:
        return "write true"
    if kind == "bool_type" and str(value).lower() in {"false", "no", "off", "0"}:
        return "write false"
    if kind == "tuple_type" and isinstance(value, str):
        return f"write [{quoted(value)}]"
    if kind == "model_type":
        return f"write [{dotted(location)}] and its keys below"
    return None
