"""`gpunode rollback`: take back what gpunode did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gpunode.cli import options
from gpunode.cli.session import Session, situation
from gpunode.errors import UsageError

if TYPE_CHECKING:
    from gpunode.engine.results import Report
    from gpunode.engine.situation import Situation

NAME = "rollback"


def main(
    profile: options.Profile = options.DEFAULT_PROFILE,
    to: Annotated[str | None, typer.Option("--to", metavar="RUN", help="Keep this run and those before it.")] = None,
    step: Annotated[
        list[str] | None, typer.Option("--step", metavar="STEP", help="Only this step's part; may be given again.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Restore also what somebody has edited since; the edit is kept in the store."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: options.Output = options.OutputFormat.text,
    verbose: options.Verbose = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Take back what gpunode did, newest first: all of it, or back to a run, or some steps. Edits by others are kept."""
    session = Session(NAME, output, verbose, color)
    session.run(
        lambda: _rollback(session, profile, to, step, force, yes), lambda terminal, report: terminal.rollback(report)
    )


def _rollback(session: Session, profile: str, to: str | None, step: list[str] | None, force: bool, yes: bool) -> Report:
    from gpunode.engine.results import Report
    from gpunode.engine.rollback import preview, rollback

    here = _situation(session, profile)
    if not session.json:
        session.terminal().rollback_plan(preview(here, to=to, only=tuple(step or ())))
    if not yes and not session.ask("Take this back?"):
        return Report("rollback", "in-sync")
    with session.live() as listener:
        here.listener = listener
        return rollback(here, to=to, only=tuple(step or ()), force=force)


def _situation(session: Session, profile: str) -> Situation:
    """The profile is needed for little here: without a usable one the journal still knows all there is to undo."""
    try:
        return situation(profile)
    except UsageError as error:
        session.terminal().warning(f"{error.message}; going on without it: the journal knows what to undo")
        return situation(None)
