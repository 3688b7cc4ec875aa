"""`gpunode steps`: the steps and what each stands on."""

from __future__ import annotations

from gpunode.cli import options
from gpunode.cli.session import Session

NAME = "steps"


def main(
    output: options.Output = options.OutputFormat.text,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """List the steps in order, with what each stands on."""
    from gpunode.steps import ORDER

    session = Session(NAME, output, False, color)
    if session.json:
        import json

        from gpunode.engine.results import SCHEMA

        rows = [{"name": step.name, "title": step.title, "after": step.after} for step in ORDER]
        print(json.dumps({"schema": SCHEMA, "command": NAME, "steps": rows}, indent=2))
    else:
        session.terminal().steps(ORDER)
