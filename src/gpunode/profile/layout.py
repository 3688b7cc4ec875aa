"""The model's keys as a tree to walk: for error messages, listings and documentation."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gpunode.profile.model import HostProfile, Section

Path = tuple[str, ...]


def table_of(field: FieldInfo) -> type[Section] | None:
    """The model of a field that is a table; None for a leaf."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def tables(model: type[BaseModel] = HostProfile, path: Path = ()) -> Iterator[tuple[Path, type[BaseModel]]]:
    """Every table with its path, the whole profile (path ``()``) first."""
    yield path, model
    for name, field in model.model_fields.items():
        inner = table_of(field)
        if inner is not None:
            yield from tables(inner, (*path, name))


def leaves(model: type[BaseModel] = HostProfile) -> Iterator[tuple[Path, FieldInfo]]:
    """Every key that holds a value, with its path, table by table."""
    for path, table in tables(model):
        for name, field in table.model_fields.items():
            if table_of(field) is None:
                yield (*path, name), field


def table_at(path: Path) -> type[BaseModel] | None:
    """The model of the table at ``path``, or None where the profile has no such table."""
    return dict(tables()).get(path)


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """The allowed values of a key that is a choice among words; empty for any other key."""
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def value_at(profile: HostProfile, path: Path) -> Any:
    """The value of a leaf."""
    value: Any = profile
    for name in path:
        value = getattr(value, name)
    return value
