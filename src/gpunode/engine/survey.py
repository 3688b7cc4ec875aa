"""Looking: which resources the steps call for, and how the host differs from them. Reads only; plan and check are made of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from gpunode.engine import reboot
from gpunode.engine.results import DifferenceResult, StepResult, StepState
from gpunode.errors import HostError
from gpunode.formats.redaction import redact
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
    """A step as found so far. `error` is set when one of its resources could not be observed: nothing is known of that one."""

    step: Step
    context: Context
    result: StepResult
    resources: list[Resource]
    pending: list[Pending] = field(default_factory=list)
    error: HostError | None = None

    def leave_out(self, resources: set[str]) -> None:
        """Leave what others have told of out of what differs."""
        self.keep({pending.resource.id for pending in self.pending} - resources)

    def keep(self, resources: set[str]) -> None:
        """Reduce what differs to these resources."""
        self.pending = [pending for pending in self.pending if pending.resource.id in resources]
        self.result.differences = [each for each in self.result.differences if each.resource in resources]


def opened(step: Step, context: Context) -> Survey:
    """A step with its resources, none of them looked at yet."""
    skipped = step.skipped(context)
    resources = [] if skipped else step.resources(context)
    result = StepResult(step.name, step.title, why=skipped, resources=len(resources), notes=step.notes(context))
    if skipped:
        result.state = "skipped"
    return Survey(step, context, result, resources)


def survey(step: Step, context: Context, host: Reader) -> Survey:
    """Observe every resource of one step."""
    began = time.monotonic()
    found = opened(step, context)
    for resource in found.resources:
        try:
            look(resource, host, found)
        except HostError as error:
            found.error = found.error or error
    if found.result.state != "skipped":
        found.result.state = _state(found)
        found.result.why = found.error.message if found.error else _summary(found)
    found.result.seconds = time.monotonic() - began
    return found


def differences_of(resource: Resource, differences: list[Difference]) -> list[DifferenceResult]:
    """A resource's differences as results."""
    return [
        DifferenceResult(resource.id, each.field, each.found, each.wanted, each.why, redact(each.diff).text)
        for each in differences
    ]


def look(resource: Resource, host: Reader, found: Survey) -> Pending | None:
    """Observe one resource of a step, and note in the survey how it differs; None when it is in sync. Raises HostError."""
    state = resource.observe(host)
    differences = resource.differences(state)
    found.result.notes += [each for each in resource.remarks(state) if each not in found.result.notes]
    if not differences:
        return None
    pending = Pending(resource, state, differences)
    found.pending.append(pending)
    found.result.differences += differences_of(resource, differences)
    _note_consequences(pending, host, found)
    return pending


def _note_consequences(pending: Pending, host: Reader, found: Survey) -> None:
    result, told = found.result, pending.resource.consequences(pending.state)
    needed = pending.resource.boot_need(host, pending.state)
    lasting = (reboot.told(needed, found.context.profile.reboot),) if needed else told.irreversible
    result.restarts += [unit for unit in told.restarts if unit not in result.restarts]
    result.notes += [each for each in told.notes if each not in result.notes]
    result.irreversible += [each for each in lasting if each not in result.irreversible]


def _state(found: Survey) -> StepState:
    if found.error:
        return "unknown"
    return "drift" if found.pending else "in-sync"


def _summary(found: Survey) -> str:
    if not found.pending:
        return ""
    return f"{len(found.pending)} of {found.result.resources} resources differ"
