"""`gpunode history`: the runs of this host, or what one of them did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gpunode.cli import options
from gpunode.cli.session import Session
from gpunode.errors import GpunodeError, UsageError

if TYPE_CHECKING:
    from gpunode.host.journal import RunRecord

NAME = "history"


def main(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="A run's number, to see what it did.")] = None,
    output: options.Output = options.OutputFormat.text,
    verbose: options.Verbose = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Show the runs of this host, newest last, or what one of them did and what of it still stands."""
    session = Session(NAME, output, verbose, color)
    try:
        runs = _runs(run)
    except GpunodeError as error:
        session.fail(error)
    if session.json:
        _print_json(runs)
    elif run is None:
        session.terminal().history(runs)
    else:
        session.terminal().history_run(runs[0])


def _runs(wanted: str | None) -> list[RunRecord]:
    from gpunode.engine.history import runs
    from gpunode.host.local import LocalMachine

    known = runs(LocalMachine())
    if wanted is None:
        return known
    found = [record for record in known if record.run == wanted.zfill(4)]
    if not found:
        raise UsageError(
            f"there is no run {wanted}", hint=f"runs: {', '.join(record.run for record in known) or 'none'}"
        )
    return found


def _print_json(runs: list[RunRecord]) -> None:
    import json
    from dataclasses import asdict

    from gpunode.engine.results import SCHEMA

    print(json.dumps({"schema": SCHEMA, "command": NAME, "runs": [asdict(record) for record in runs]}, indent=2))
