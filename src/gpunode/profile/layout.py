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


def named_table_at(path: Path) -> type[Section] | None:
    """The model of a table that the operator has named, at ``path`` with that name; None where there are no such."""
    field = field_at(path[:-1])
    kinds = get_args(field.annotation) if field and get_origin(field.annotation) is dict else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """The allowed values of a key that is a choice among words, or a list of such; empty for any other key."""
    kinds = [field.annotation, *get_args(field.annotation)]
    return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())


def field_at(path: Path) -> FieldInfo | None:
    """The key at ``path``, also below a table whose names are the operator's own; None where the profile has none."""
    model: type[BaseModel] | None = HostProfile
    field, names = None, list(path)
    while names and model:
        field = model.model_fields.get(names.pop(0))
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
        if len(kinds) > 1 and get_origin(kinds[0]) is dict and names:
            names.pop(0)
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
    return None if names else field


def value_at(profile: HostProfile, path: Path) -> Any:
    """The value of a leaf, as TOML would hold it: of a table in it, what differs from the defaults."""
    value: Any = profile
    for name in path:
        value = getattr(value, name)
    if isinstance(value, dict):
        return {
            name: each.model_dump(exclude_defaults=True) if isinstance(each, Section) else each
            for name, each in value.items()
        }
    return value
