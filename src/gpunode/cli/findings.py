"""`gpunode findings`: the failures that gpunode recognises, listed or one of them explained."""

from __future__ import annotations

from typing import Annotated

import typer

from gpunode.cli import options
from gpunode.cli.session import Session
from gpunode.errors import GpunodeError

NAME = "findings"
Id = Annotated[str | None, typer.Argument(metavar="[ID]", help="The finding to explain. Without one all are listed.")]


def main(
    name: Id = None,
    output: options.Output = options.OutputFormat.text,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """List the failures that gpunode recognises, causes first, or explain one. Does not look at the host."""
    from gpunode.engine.failures import document, failure, failures

    session = Session(NAME, output, False, color)
    try:
        entries = (failure(name),) if name else failures()
    except GpunodeError as error:
        session.fail(error)
    if session.json:
        import json

        print(json.dumps(document(entries), indent=2))
        return
    from gpunode.report import catalogue

    page = session.terminal().out
    if name:
        catalogue.explained(page, entries[0])
    else:
        catalogue.listed(page, entries)
