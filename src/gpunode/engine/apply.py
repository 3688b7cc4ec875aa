"""Apply: make the host what the profile says, step by step, every change journaled; then try it out."""

from __future__ import annotations

import time
from collections.abc import Callable

from gpunode.engine.check import missing_dependencies, summarise, survey_all
from gpunode.engine.recovery import interruption, recover
from gpunode.engine.results import Report, StepResult
from gpunode.engine.situation import Situation, refusals
from gpunode.engine.survey import Pending, survey
from gpunode.engine.verify import clear_leftovers, run_probes
from gpunode.errors import GpunodeError, HostError, RebootRequiredError, RefusedError, UsageError
from gpunode.host import state
from gpunode.host.journal import Journal
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.steps.base import Step

Confirm = Callable[[Report], bool]


def apply(situation: Situation, confirm: Confirm) -> Report:
    """Bring the host in sync. `confirm` is shown the plan and decides. Raises RefusedError, LockHeldError, HostError.

    A step that fails ends the run: its error is in the report, and what was done stays, journaled.
    """
    require_root(situation)
    state.prepare(situation.machine)
    with situation.machine.lock(state.LOCK, situation.note):
        return _apply(situation, confirm)


def require_root(situation: Situation) -> None:
    """Raise UsageError when the process may not change the host."""
    if situation.machine.effective_uid() != 0:
        raise UsageError("this changes the host and needs root", hint="run it with sudo")


def _apply(situation: Situation, confirm: Confirm) -> Report:
    began = time.monotonic()
    journal = Journal(situation.machine)
    plan = _planned(situation, journal)
    if plan.result == "in-sync" and not plan.interrupted:
        return _nothing_to_do(situation, journal, plan, began)
    if not confirm(plan):
        plan.warnings.append("nothing was changed")
        return plan
    listener = situation.listener
    writer = Writer(situation.machine, journal, situation.network, on_line=listener.line, on_bytes=listener.received)
    run = journal.begin("apply", version=situation.version, note=situation.note)
    report = Report("apply", run=run.run)
    _carry_out(situation, writer, report)
    journal.end(report.result)
    report.seconds = time.monotonic() - began
    return report


def _nothing_to_do(situation: Situation, journal: Journal, plan: Report, began: float) -> Report:
    """In sync: but where the last apply ended in a failed verification, the host is tried again before it is called well."""
    last = next((run for run in reversed(journal.runs) if run.command == "apply" and run.result), None)
    if last and last.result == "not-verified" and any(step.name == "verify" for step in situation.steps):
        _verify(situation, plan)
        if plan.result == "not-verified":
            plan.warnings.append(f"the host is as the profile says and does not work, as run {last.run} found")
    plan.seconds = time.monotonic() - began
    return plan


def _planned(situation: Situation, journal: Journal) -> Report:
    host = Reader(situation.machine, situation.network)
    context = situation.context(host)
    reasons = [*refusals(situation, context), *missing_dependencies(situation, context, host)]
    if reasons:
        raise RefusedError(tuple(reasons))
    plan = Report("apply", interrupted=interruption(journal))
    surveys = survey_all(situation, context, host)
    summarise(plan, surveys, differing="pending")
    error = next((each.error for each in surveys if each.error), None)
    # What an interrupted run left half-done may be why it cannot be observed: recovery comes first then.
    if error and not plan.interrupted:
        raise error
    for pending in (pending for each in surveys for pending in each.pending):
        pending.resource.foresee(host, pending.state)
    return plan


def _carry_out(situation: Situation, writer: Writer, report: Report) -> None:
    changed = False
    try:
        if writer.journal.interrupted():
            report.left += clear_leftovers(situation)
        with writer.on_behalf_of("recovery", ""):
            for record in recover(writer):
                writer.journal.supersede(record)
        for step in situation.steps:
            result = StepResult(step.name, step.title) if step.name == "verify" else _converge(situation, step, writer)
            report.steps.append(result)
            changed = changed or result.state == "changed"
        report.result = "changed" if changed else "in-sync"
    except _StepFailedError as failure:
        report.steps.append(failure.result)
        report.steps += [StepResult(step.name, step.title, "not-run") for step in situation.steps[len(report.steps) :]]
        _explain(report, failure.error)
    except GpunodeError as error:
        _explain(report, error)
    if report.result == "changed" and any(step.name == "verify" for step in situation.steps):
        _verify(situation, report)


class _StepFailedError(Exception):
    """A step ended in an error; carries what it had done by then."""

    def __init__(self, result: StepResult, error: GpunodeError) -> None:
        super().__init__(error.message)
        self.result = result
        self.error = error


def _converge(situation: Situation, step: Step, writer: Writer) -> StepResult:
    """Bring one step in sync. Each resource is looked at when its turn comes: those before it may have changed it."""
    began = time.monotonic()
    found = survey(step, situation.context(writer), writer)
    result = found.result
    situation.listener.step_began(step.name, step.title, result.resources)
    try:
        if found.error:
            raise found.error
        changed = {pending.resource.id for pending in found.pending if _converge_one(situation, step, pending, writer)}
        found.keep(changed)  # the others came about by those before them
    except HostError as error:
        result.state, result.why, result.seconds = "failed", error.message, time.monotonic() - began
        situation.listener.step_ended(step.name, result.state, result.seconds)
        raise _StepFailedError(result, error) from None
    if found.pending:
        result.state, result.why = "changed", ""
    result.seconds = time.monotonic() - began
    situation.listener.step_ended(step.name, result.state, result.seconds)
    return result


def _converge_one(situation: Situation, step: Step, pending: Pending, writer: Writer) -> bool:
    """Bring one resource in sync; False when it is by now."""
    resource, began = pending.resource, time.monotonic()
    observed = resource.observe(writer)
    differences = resource.differences(observed)
    if not differences:
        return False
    first = differences[0]
    more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
    situation.listener.resource_began(step.name, resource.id, f"{first.field}: {first.found} → {first.wanted}{more}")
    try:
        with writer.on_behalf_of(step.name, resource.id):
            resource.converge(writer, observed)
        _require_in_sync(pending, writer)
    except HostError as error:
        situation.listener.resource_ended(step.name, resource.id, time.monotonic() - began, error.message)
        raise
    situation.listener.resource_ended(step.name, resource.id, time.monotonic() - began, "")
    return True


def _require_in_sync(pending: Pending, writer: Writer) -> None:
    left = pending.resource.differences(pending.resource.observe(writer))
    if left:
        first = left[0]
        raise HostError(
            f"{pending.resource.id} was changed and still differs: {first.field} is {first.found}, wanted {first.wanted}",
            hint="something else on this host sets it back",
        )


def _explain(report: Report, error: GpunodeError) -> None:
    report.result = "reboot-required" if isinstance(error, RebootRequiredError) else "failed"
    report.error, report.hint, report.details = error.message, error.hint, error.details


def _verify(situation: Situation, report: Report) -> None:
    step = next(step for step in report.steps if step.name == "verify")
    situation.listener.step_began(step.name, step.title, 0)
    began = time.monotonic()
    failed = False
    try:
        step.probes = run_probes(situation)
        failed = any(probe.state == "failed" for probe in step.probes)
    except (GpunodeError, ValueError) as error:
        failed, report.error = True, f"the verification itself failed: {error}"
    step.state, step.seconds = ("failed" if failed else "in-sync"), time.monotonic() - began
    situation.listener.step_ended(step.name, step.state, step.seconds)
    if failed:
        report.result = "not-verified"
