"""Looking: which resources the steps call for, and how the host differs from them. Reads only; plan and check are made of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from gpunode.engine.results import DifferenceResult, StepResult
from gpunode.errors import HostError
from gpunode.host.reader import Reader
from gpunode.resources.base import Difference, Resource
from gpunode.steps.base import Context, Step


@dataclass(frozen=True)
class Pending:
    """A resource that differs: what was seen of it, and in which respects."""

    resource: Resource
    state: Any
    differences: list[Difference]


@dataclass
class Survey:
    """A step as found. `error` is set when one of its resources could not be observed: nothing is known of that one."""

    step: Step
    result: StepResult
    pending: list[Pending] = field(default_factory=list)
    error: HostError | None = None

    def leave_out(self, resources: set[str]) -> None:
        """Leave what others have told of out of what differs."""
        self.keep({pending.resource.id for pending in self.pending} - resources)

    def keep(self, resources: set[str]) -> None:
        """Reduce what differs to these resources."""
        self.pending = [pending for pending in self.pending if pending.resource.id in resources]
        self.result.differences = [each for each in self.result.differences if each.resource in resources]


def survey(step: Step, context: Context, host: Reader) -> Survey:
    """Observe every resource of one step."""
    began = time.monotonic()
    found = Survey(step, StepResult(step.name, step.title, notes=step.notes(context)))
    skipped = step.skipped(context)
    resources = [] if skipped else step.resources(context)
    found.result.resources = len(resources)
    for resource in resources:
        _look(resource, host, found)
    found.result.state = _state(found, skipped)
    found.result.why = skipped or (found.error.message if found.error else _summary(found))
    found.result.seconds = time.monotonic() - began
    return found


def differences_of(resource: Resource, differences: list[Difference]) -> list[DifferenceResult]:
    """A resource's differences as results."""
    return [
        DifferenceResult(resource.id, each.field, each.found, each.wanted, each.why, each.diff) for each in differences
    ]


def _look(resource: Resource, host: Reader, found: Survey) -> None:
    try:
        state = resource.observe(host)
    except HostError as error:
        found.error = found.error or error
        return
    differences = resource.differences(state)
    if not differences:
        return
    found.pending.append(Pending(resource, state, differences))
    found.result.differences += differences_of(resource, differences)
    consequences = resource.consequences(state)
    found.result.restarts += [unit for unit in consequences.restarts if unit not in found.result.restarts]
    found.result.irreversible += [each for each in consequences.irreversible if each not in found.result.irreversible]


def _state(found: Survey, skipped: str) -> Any:
    if skipped:
        return "skipped"
    if found.error:
        return "unknown"
    return "drift" if found.pending else "in-sync"


def _summary(found: Survey) -> str:
    if not found.pending:
        return ""
    return f"{len(found.pending)} of {found.result.resources} resources differ"
