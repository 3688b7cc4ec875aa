"""`gpunode timer`: a check at regular times, by a systemd timer, told to node_exporter."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gpunode.cli import options
from gpunode.cli.session import Session, situation
from gpunode.errors import GpunodeError

if TYPE_CHECKING:
    from gpunode.engine.results import Report
    from gpunode.engine.timer import Plan

NAME = "timer"

app = typer.Typer(
    help="Check at regular times by a hardened systemd timer, and tell node_exporter.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def enable(
    profile: options.Profile = options.DEFAULT_PROFILE,
    every: Annotated[
        str, typer.Option("--every", metavar="SPAN", help="How often: a number and s, min, h or d.")
    ] = "15min",
    metrics: Annotated[
        str, typer.Option("--metrics", metavar="FILE", help="The file for node_exporter's textfile collector.")
    ] = "/var/lib/prometheus/node-exporter/gpunode.prom",
    webhook_file: Annotated[
        str,
        typer.Option("--webhook-file", metavar="FILE", help="Post changes to the https address in FILE (mode 0600)."),
    ] = "",
    output: options.Output = options.OutputFormat.text,
    verbose: options.Verbose = False,
    color: options.Color = options.ColorWhen.auto,
) -> NoReturn:
    """Install and start the timer. It is in the journal: `gpunode timer disable`, or a rollback, takes it back."""
    from gpunode.engine.timer import Plan

    session = Session(NAME, output, verbose, color)
    session.run(
        lambda: _enable(profile, Plan(_absolute(profile), every, metrics, _absolute(webhook_file))),
        lambda terminal, report: terminal.timer(report),
    )


@app.command()
def disable(
    output: options.Output = options.OutputFormat.text,
    verbose: options.Verbose = False,
    color: options.Color = options.ColorWhen.auto,
) -> NoReturn:
    """Stop the timer and take its units away."""
    from gpunode.engine.timer import disable as take_away

    session = Session(NAME, output, verbose, color)
    session.run(lambda: take_away(situation(None)), lambda terminal, report: terminal.timer(report))


@app.command()
def status(
    output: options.Output = options.OutputFormat.text,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Show whether the timer runs, and when it last checked."""
    from dataclasses import asdict

    from gpunode.engine.timer import status as look
    from gpunode.host.local import LocalMachine

    session = Session(NAME, output, False, color)
    try:
        found = look(LocalMachine())
    except GpunodeError as error:
        session.fail(error)
    if session.json:
        import json

        from gpunode.engine.results import SCHEMA

        print(json.dumps({"schema": SCHEMA, "command": NAME, **asdict(found)}, indent=2))
    else:
        session.terminal().timer_status(found)


def _absolute(path: str) -> str:
    """The same file for whoever stands elsewhere, as systemd does; empty where none is named."""
    return os.path.abspath(path) if path else ""


def _enable(profile: str, plan: Plan) -> Report:
    from gpunode.engine.timer import enable as install

    return install(situation(profile), plan)
