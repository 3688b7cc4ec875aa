"""Verify: the layers tried from the bottom up; above a failure nothing is tried, for it would only fail of the same cause."""

from __future__ import annotations

import time

from gpunode.engine.results import ProbeResult, Report, StepResult
from gpunode.engine.situation import Situation
from gpunode.errors import HostError
from gpunode.host import state
from gpunode.host.trial import Trial
from gpunode.probes.base import LEVELS, Findings, Level, Outcome, attempt
from gpunode.probes.cluster import namespace_of
from gpunode.probes.layers import PROBES, why_no_cluster
from gpunode.steps.base import Context
from gpunode.steps.decisions_cluster import access_of


def verify(situation: Situation, level: Level | None = None) -> Report:
    """Run the smoke tests up to a level (the profile's by default). Raises LockHeldError while another run is at work."""
    began = time.monotonic()
    state.prepare(situation.machine)
    with situation.machine.lock(state.LOCK, situation.note):
        clear_leftovers(situation)
        results = run_probes(situation, level)
    failed = any(result.state == "failed" for result in results)
    step = StepResult("verify", "Verification", "failed" if failed else "in-sync", probes=results)
    report = Report("verify", "not-verified" if failed else "verified", steps=[step])
    report.seconds = step.seconds = time.monotonic() - began
    return report


def run_probes(situation: Situation, level: Level | None = None) -> list[ProbeResult]:
    """Each layer's result, told to the listener as it comes."""
    trial = Trial(situation.machine, situation.network)
    context = situation.context(trial)
    outcomes: list[Outcome] = []
    found = Findings()
    for probe in PROBES:
        why = _why_not(context, probe.level, level or context.profile.verify.level, outcomes)
        passed = tuple(each.probe.name for each in outcomes if each.state == "passed")
        if not why:
            situation.listener.probe_began(probe.name, probe.tried)
        outcome = Outcome(probe, "skipped", why, 0.0) if why else attempt(probe, trial, context, found, passed)
        outcomes.append(outcome)
        situation.listener.probe_ended(probe.name, outcome.state, outcome.detail, outcome.seconds)
    return [
        ProbeResult(
            each.probe.name,
            each.probe.level,
            each.probe.tried,
            each.probe.proves,
            each.state,
            each.detail,
            each.seconds,
        )
        for each in outcomes
    ]


def clear_leftovers(situation: Situation) -> list[str]:
    """Take away what a verification that was killed has left running; returns what could not be, in words."""
    trial = Trial(situation.machine, situation.network)
    context = situation.context(trial)
    try:
        trial.clear_containers(context.facts.flavour.ctr)
        if not why_no_cluster(context):
            trial.clear_namespace(access_of(context), namespace_of(context))
    except HostError as error:
        return [
            f"name space {namespace_of(context)} of a verification that was interrupted, if it is there: {error.message}"
        ]
    return []


def _why_not(context: Context, probe: Level, wanted: Level, outcomes: list[Outcome]) -> str:
    if LEVELS.index(probe) > LEVELS.index(wanted):
        return f"level {wanted} was asked for"
    failed = next((each.probe.name for each in outcomes if each.state == "failed"), "")
    if failed:
        return f"not tried: {failed} failed"
    return why_no_cluster(context) if probe == "kubernetes" else ""
