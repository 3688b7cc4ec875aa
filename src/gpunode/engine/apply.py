"""Apply: make the host what the profile says, step by step, every change journaled; then try it out. Also after a reboot in between."""

from __future__ import annotations

import time
from collections.abc import Callable

from gpunode.engine import reboot
from gpunode.engine.check import missing_dependencies, summarise, survey_all
from gpunode.engine.recovery import interruption, recover
from gpunode.engine.results import DifferenceResult, Report, StepResult
from gpunode.engine.situation import Situation, refusals
from gpunode.engine.survey import Pending, Survey, look, opened, survey
from gpunode.engine.verify import clear_leftovers, run_probes
from gpunode.errors import GpunodeError, HostError, RebootRequiredError, RefusedError, UsageError
from gpunode.findings.log import recognise_text
from gpunode.host import state
from gpunode.host.journal import Journal, RunRecord
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.steps.base import Step

Confirm = Callable[[Report], bool]
Consent = Callable[[str], bool]

STOPPED = "stopped before a reboot"
SETTLING = 24
SETTLING_SECONDS = 5.0
"""After a boot the cluster's API, a daemon's socket come in their own time: so often, so many seconds apart, they are looked for."""


def _nobody(_why: str) -> bool:
    """The default where the profile has a reboot asked for: nobody is there to ask."""
    return False


def apply(situation: Situation, confirm: Confirm, ask_reboot: Consent = _nobody) -> Report:
    """Bring the host in sync. `confirm` is shown the plan and decides. Raises RefusedError, LockHeldError, HostError.

    A step that fails ends the run: its error is in the report, and what was done stays, journaled. Where a reboot is needed and the
    profile allows it (`ask_reboot` is given the reason), the run stays open: `reboot.begin` reboots, and `resume` goes on.
    """
    require_root(situation)
    state.prepare(situation.machine)
    with situation.machine.lock(state.LOCK, situation.note):
        return _apply(situation, confirm, ask_reboot)


def resume(situation: Situation, run: str, ask_reboot: Consent = _nobody) -> Report:
    """Go on with a run after its reboot, without another question. Raises UsageError, RebootRequiredError, LockHeldError."""
    require_root(situation)
    with situation.machine.lock(state.LOCK, situation.note):
        began = time.monotonic()
        writer = _writer(situation, Journal(situation.machine))
        entry = reboot.reboot_of(writer.journal, run)
        reboot.require_booted(writer, entry)
        writer.journal.current = writer.journal.run(run)
        cut = entry.state == "done"  # it has gone on before, and was cut short
        if not cut:
            writer.rebooted(entry)
        _settle(situation, writer)
        return _run(situation, writer, ask_reboot, began, cut=cut)


def _settle(situation: Situation, host: Reader) -> None:
    """Wait until every step can be observed; one that still cannot then says why in its turn."""
    for _ in range(SETTLING):
        context = situation.context(host)
        if not any(survey(step, context, host).error for step in situation.steps):
            return
        host.wait(SETTLING_SECONDS)


def require_root(situation: Situation) -> None:
    """Raise UsageError when the process may not change the host."""
    if situation.machine.effective_uid() != 0:
        raise UsageError("this changes the host and needs root", hint="run it with sudo")


def _apply(situation: Situation, confirm: Confirm, ask_reboot: Consent) -> Report:
    began = time.monotonic()
    journal = Journal(situation.machine)
    plan = _planned(situation, journal)
    if plan.result == "in-sync" and not plan.interrupted:
        return _nothing_to_do(situation, journal, plan, began)
    if not confirm(plan):
        plan.warnings.append("nothing was changed")
        return plan
    _require_unchanged(situation, plan)
    writer = _writer(situation, journal)
    journal.begin("apply", version=situation.version, note=situation.note)
    return _run(situation, writer, ask_reboot, began)


def _writer(situation: Situation, journal: Journal) -> Writer:
    listener = situation.listener
    return Writer(situation.machine, journal, situation.network, on_line=listener.line, on_bytes=listener.received)


def _run(situation: Situation, writer: Writer, ask_reboot: Consent, began: float, *, cut: bool = False) -> Report:
    """Carry out the run being written, and end it unless it goes on after a reboot."""
    record = writer.journal.current
    if record is None:
        raise AssertionError("no run has been begun")
    report = Report("apply", run=record.run)
    _carry_out(situation, writer, report, cut=cut)
    if report.result != "reboot-required" or not _goes_on(situation, writer, record, report, ask_reboot):
        reboot.dismiss(writer, record)
        writer.journal.end(report.result)
    report.seconds = time.monotonic() - began
    return report


def _goes_on(situation: Situation, writer: Writer, record: RunRecord, report: Report, ask_reboot: Consent) -> bool:
    """Have the run go on after a reboot, where it may; else say what is left."""
    policy, done = situation.profile.reboot, reboot.count(record)
    if policy != "never" and done >= reboot.AT_MOST:
        report.error = f"run {record.run} has rebooted the host {done} times, and still: {report.error}"
        report.hint = "find out what brings it back at each boot (`gpunode check`), then run `gpunode apply`"
    elif policy == "auto" or (policy == "ask" and ask_reboot(report.error)):
        reboot.schedule(writer, situation, report.error)
        report.hint = (
            f"the host reboots now, and run {record.run} goes on by itself: see `journalctl --unit {reboot.UNIT}`"
        )
        return True
    report.hint = report.hint or "reboot, then run `gpunode apply` again: it goes on from here"
    stopped = next((number for number, step in enumerate(report.steps) if step.why.startswith(STOPPED)), 0)
    rest = [step.name for step in report.steps[stopped:]]
    report.left.append(f"a reboot, and after it the rest: {', '.join(rest)}")
    return False


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


def _require_unchanged(situation: Situation, plan: Report) -> None:
    """Raise HostError when the host is no longer as the plan that was agreed to has it: somebody worked on it meanwhile."""
    if plan.interrupted:
        return  # recovery comes first, and the plan is made anew step by step after it
    host = Reader(situation.machine, situation.network)
    surveys = survey_all(situation, situation.context(host), host)
    # What people edit: what runs, pods that start and daemons that register, is never quite still.
    agreed = {_told(each) for step in plan.steps for each in step.differences if _is_text(each)}
    found = [each for survey in surveys for each in survey.result.differences if _is_text(each)]
    new = [difference for difference in found if _told(difference) not in agreed]
    gone = agreed - {_told(difference) for difference in found}
    if not new and not gone:
        return
    name = new[0].resource if new else sorted(gone)[0][0]
    details = [f"{each.resource}: {each.field}: {each.found} → {each.wanted}" for each in new]
    details += [line for each in new for line in each.diff.splitlines()]
    raise HostError(
        f"{name} has changed since the plan was made; nothing was changed",
        hint="run the same command again and look at the new plan",
        details=tuple(details) or ("it is as wanted by now",),
    )


def _is_text(difference: DifferenceResult) -> bool:
    return difference.resource.startswith(("toml:", "json:", "file:", "absent:", "link:"))


def _told(difference: DifferenceResult) -> tuple[str, ...]:
    return (difference.resource, difference.field, difference.found, difference.wanted, difference.diff)


def _carry_out(situation: Situation, writer: Writer, report: Report, *, cut: bool) -> None:
    changed = False
    try:
        if cut or writer.journal.interrupted():
            report.left += clear_leftovers(situation)
        with writer.on_behalf_of("recovery", ""):
            for record in recover(writer, cut=cut):
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
    """Bring one step in sync. Each resource is looked at when its turn comes, for those before it may have changed it."""
    began = time.monotonic()
    found = opened(step, situation.context(writer))
    result = found.result
    situation.listener.step_began(step.name, step.title, result.resources)
    try:
        for resource in found.resources:
            pending = look(resource, writer, found)
            if pending:
                _converge_one(situation, step, pending, writer)
        result.state = "changed" if found.pending else result.state
    except HostError as error:
        _note_failure(found, error)
        raise _StepFailedError(result, error) from None
    finally:
        result.seconds = time.monotonic() - began
        situation.listener.step_ended(step.name, result.state, result.seconds)
    return result


def _note_failure(found: Survey, error: HostError) -> None:
    """A step that stops before a reboot has not failed: what it did by then counts."""
    found.result.state, found.result.why = "failed", error.message
    if isinstance(error, RebootRequiredError):
        found.keep({pending.resource.id for pending in found.pending[:-1]})
        found.result.state = "changed" if found.pending else "not-run"
        found.result.why = f"{STOPPED}: {error.message}"


def _converge_one(situation: Situation, step: Step, pending: Pending, writer: Writer) -> None:
    """Bring one resource in sync. Raises RebootRequiredError where it takes a reboot."""
    resource, began = pending.resource, time.monotonic()
    first = pending.differences[0]
    more = f" and {len(pending.differences) - 1} more" if len(pending.differences) > 1 else ""
    situation.listener.resource_began(step.name, resource.id, f"{first.field}: {first.found} → {first.wanted}{more}")
    try:
        with writer.on_behalf_of(step.name, resource.id):
            needed = resource.boot_need(writer, pending.state)
            if needed:
                raise reboot.error_of(needed)
            resource.converge(writer, pending.state)
        _require_in_sync(pending, writer)
    except HostError as error:
        situation.listener.resource_ended(step.name, resource.id, time.monotonic() - began, error.message)
        raise
    situation.listener.resource_ended(step.name, resource.id, time.monotonic() - began, "")


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
    report.error, report.hint = error.message, error.hint
    report.details = (*error.details, *_recognised(error.details))


def _recognised(details: tuple[str, ...]) -> tuple[str, ...]:
    """The failures whose words stand in an error's details, causes first, each with what mends it."""
    found = recognise_text("\n".join(details))
    return tuple(f"{each.id}: {each.title}; {'; '.join(each.mend)}" for each in found)


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
