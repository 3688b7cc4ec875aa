"""`gpunode apply`: make the host what the profile says."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from gpunode.cli import options
from gpunode.cli.session import Session, situation

if TYPE_CHECKING:
    from gpunode.engine.results import Report
    from gpunode.report.terminal import Terminal

NAME = "apply"


def main(
    profile: options.Profile = options.DEFAULT_PROFILE,
    step: options.Steps = None,
    skip: options.Skip = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before changing the host.")] = False,
    output: options.Output = options.OutputFormat.text,
    verbose: options.Verbose = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Show the plan, ask once, make the host what the profile says, and try it out."""
    session = Session(NAME, output, verbose, color)
    session.run(lambda: _apply(session, profile, step, skip, yes), _show)


def _show(terminal: Terminal, report: Report) -> None:
    """The summary; after a no, that nothing was changed."""
    if report.result == "pending":
        terminal.declined()
    else:
        terminal.summary(report)


def _apply(session: Session, profile: str, step: list[str] | None, skip: list[str] | None, yes: bool) -> Report:
    from gpunode.engine.apply import apply

    here = situation(profile, step, skip)
    with ExitStack() as stack:

        def confirm(plan: Report) -> bool:
            agreed = _confirm(session, plan, yes)
            if agreed:  # only now: a live display would hide the question
                here.listener = stack.enter_context(session.live())
            return agreed

        return apply(here, confirm)


def _confirm(session: Session, plan: Report, yes: bool) -> bool:
    """Show the plan and ask. Raises UsageError where nobody can answer."""
    if not session.json:
        session.terminal().plan(plan)
    return yes or session.ask("Apply these changes?")
