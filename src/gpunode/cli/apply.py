"""`gpunode apply`: make the host what the profile says."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from gpunode import __version__
from gpunode.cli import options
from gpunode.cli.session import Session, situation
from gpunode.errors import GpunodeError

if TYPE_CHECKING:
    from gpunode.engine.results import Report
    from gpunode.engine.situation import Situation
    from gpunode.report.terminal import Terminal

NAME = "apply"


def main(
    profile: options.Profile = options.DEFAULT_PROFILE,
    step: options.Steps = None,
    skip: options.Skip = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before changing the host.")] = False,
    go_on: Annotated[
        str | None,
        typer.Option("--continue", metavar="RUN", help="Go on with a run after its reboot, as its unit does at boot."),
    ] = None,
    output: options.Output = options.OutputFormat.text,
    verbose: options.Verbose = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Show the plan, ask once, make the host what the profile says, and try it out."""
    session = Session(NAME, output, verbose, color)
    done: list[tuple[Situation, Report]] = []

    def work() -> Report:
        here = _remembered(go_on) if go_on else situation(profile, step, skip)
        report = _continue(session, here, go_on) if go_on else _apply(session, here, yes)
        done.append((here, report))
        return report

    try:
        session.run(work, _show)
    finally:  # the report has been told by now: the reboot would cut it off
        for here, report in done:
            _reboot(session, here, report)


def _reboot(session: Session, here: Situation, report: Report) -> None:
    """Reboot, where the run waits for it: the last thing done, with everything told and nobody else's signals to heed."""
    from gpunode.engine.reboot import begin

    if report.result != "reboot-required" or not report.run:
        return
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the host going down is no interruption any more
    try:
        begin(here, report.run)
    except GpunodeError as error:
        session.fail(error)


def _show(terminal: Terminal, report: Report) -> None:
    """The summary; after a no, that nothing was changed."""
    if report.result == "pending":
        terminal.declined()
    else:
        terminal.summary(report)


def _apply(session: Session, here: Situation, yes: bool) -> Report:
    from gpunode.engine.apply import apply

    with ExitStack() as stack:

        def confirm(plan: Report) -> bool:
            agreed = _confirm(session, plan, yes)
            if agreed:  # only now: a live display would hide the question
                here.listener = stack.enter_context(session.live())
            return agreed

        def ask_reboot(why: str) -> bool:
            stack.close()
            return _is_at_terminal(session) and session.ask(
                f"A reboot is needed: {why}. Reboot now, and go on after it?"
            )

        return apply(here, confirm, ask_reboot)


def _remembered(run: str) -> Situation:
    """The situation that a run goes on in: its own profile and steps, whatever the profile's file says by now."""
    from gpunode.engine.reboot import remembered
    from gpunode.engine.situation import Situation
    from gpunode.host.local import LocalMachine
    from gpunode.steps import select

    machine = LocalMachine()
    profile, steps = remembered(machine, run)
    return Situation(
        machine, profile, select(steps), __version__, note=f"pid {os.getpid()} (gpunode apply --continue {run})"
    )


def _continue(session: Session, here: Situation, run: str) -> Report:
    from gpunode.engine.apply import resume

    with session.live() as listener:
        here.listener = listener
        return resume(here, run)


def _is_at_terminal(session: Session) -> bool:
    return not session.json and sys.stdin.isatty() and sys.stdout.isatty()


def _confirm(session: Session, plan: Report, yes: bool) -> bool:
    """Show the plan and ask. Raises UsageError where nobody can answer."""
    if not session.json:
        session.terminal().plan(plan)
    return yes or session.ask("Apply these changes?")
