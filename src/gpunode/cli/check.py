"""`gpunode check`: how the host differs from the profile, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gpunode.cli import options
from gpunode.cli.session import Session, situation
from gpunode.errors import HostError, LockHeldError, UsageError

if TYPE_CHECKING:
    from gpunode.engine.results import Report
    from gpunode.engine.situation import Situation

NAME = "check"
Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="RUN", help="Tell also who changed what since this run; `apply`: since the last apply."
    ),
]
Webhook = Annotated[
    str | None,
    typer.Option(
        "--webhook-file",
        metavar="FILE",
        help="Post what has changed since the last check to the https address in FILE (mode 0600).",
    ),
]


def main(
    profile: options.Profile = options.DEFAULT_PROFILE,
    step: options.Steps = None,
    skip: options.Skip = None,
    since: Since = None,
    webhook_file: Webhook = None,
    output: options.CheckOutput = options.CheckFormat.text,
    output_file: options.OutputFile = None,
    verbose: options.Verbose = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Compare the host with the profile and name the failures behind what differs. Changes nothing; exits 3 on drift."""
    session = Session(NAME, output, verbose, color, _file(output, output_file))
    session.run(
        lambda: _check(session, situation(profile, step, skip), since, webhook_file),
        lambda terminal, report: terminal.check(report),
    )


def _check(session: Session, here: Situation, since: str | None, webhook_file: str | None) -> Report:
    from gpunode.engine.check import check

    report = check(here)
    if since is not None:
        from gpunode.engine.since import changes

        report.since, report.changes = changes(here.machine, since)
    if webhook_file is not None:
        _tell(session, here, report, webhook_file)
    return report


def _tell(session: Session, here: Situation, report: Report, webhook_file: str) -> None:
    """What cannot be told now is told by the next check: the report and its metrics do not wait for it."""
    from gpunode.engine.notify import tell_changes

    try:
        tell_changes(here, report, webhook_file)
    except (HostError, LockHeldError) as error:
        session.terminal().warning(f"the webhook was not called: {error.message}")


def _file(output: options.CheckFormat, path: str | None) -> str | None:
    """The file to write. Raises UsageError, and exits by it, where there is no document to put there."""
    if path is not None and output is options.CheckFormat.text:
        Session(NAME).fail(UsageError("--output-file is for a document: name one by --output"))
    return path
