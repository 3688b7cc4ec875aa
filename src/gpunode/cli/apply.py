"""`gpunode apply`: make the host what the profile says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gpunode.cli import options
from gpunode.cli.session import Session, situation
from gpunode.errors import UsageError

if TYPE_CHECKING:
    from gpunode.engine.results import Report

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
    session.run(lambda: _apply(session, profile, step, skip, yes), lambda terminal, report: terminal.summary(report))


def _apply(session: Session, profile: str, step: list[str] | None, skip: list[str] | None, yes: bool) -> Report:
    from gpunode.engine.apply import apply

    here = situation(profile, step, skip)
    with session.live() as listener:
        here.listener = listener
        return apply(here, lambda plan: _confirm(session, plan, yes))


def _confirm(session: Session, plan: Report, yes: bool) -> bool:
    """Show the plan and ask. Raises UsageError where nobody can answer."""
    if not session.json:
        session.terminal().plan(plan)
    if yes:
        return True
    if session.json or not sys.stdin.isatty():
        raise UsageError(
            "apply asks before it changes the host, and nobody is here to answer",
            hint="--yes goes ahead without asking",
        )
    return typer.confirm("Apply these changes?")
