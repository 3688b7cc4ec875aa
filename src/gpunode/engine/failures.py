"""The failure catalogue as plain data, for those who list and explain it."""

from __future__ import annotations

import difflib
import re
from dataclasses import asdict, dataclass
from typing import Any

from gpunode.engine.results import SCHEMA
from gpunode.errors import UsageError
from gpunode.findings import Known, known


@dataclass(frozen=True)
class Failure:
    """A failure that can be recognised. What is filled in from a host stands in capitals. `explained_by` are those that may cause it."""

    id: str
    severity: str
    step: str
    title: str
    sees: str
    proof: str
    cause: str
    mend: tuple[str, ...]
    explains: tuple[str, ...]
    explained_by: tuple[str, ...]
    references: tuple[str, ...]


def failures() -> tuple[Failure, ...]:
    """Every failure that can be recognised, causes first."""
    return tuple(_failure(each) for each in known())


def failure(name: str) -> Failure:
    """One failure by its id. Raises UsageError, with the nearest ids, for one that is not known."""
    found = {each.id: each for each in failures()}
    if name not in found:
        near = difflib.get_close_matches(name, found, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`gpunode findings` lists them"
        raise UsageError(f"there is no finding {name}", hint=hint)
    return found[name]


def document(entries: tuple[Failure, ...]) -> dict[str, Any]:
    """The JSON document: the schema's name first."""
    return {"schema": SCHEMA, "command": "findings", "findings": [asdict(each) for each in entries]}


def _failure(entry: Known) -> Failure:
    return Failure(
        id=entry.id,
        severity=entry.severity,
        step=entry.step,
        title=entry.title,
        sees=entry.sees,
        proof=entry.proof,
        cause=_capitals(entry.cause),
        mend=tuple(map(_capitals, entry.mend)),
        explains=tuple(map(_capitals, entry.explains)),
        explained_by=tuple(each.id for each in known() if entry.id in each.explains),
        references=entry.references,
    )


def _capitals(template: str) -> str:
    return re.sub(r"{(\w+)}", lambda found: found[1].upper(), template)
