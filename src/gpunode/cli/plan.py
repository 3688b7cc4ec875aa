"""`gpunode plan`: what apply would change."""

from __future__ import annotations

from gpunode.cli import options
from gpunode.cli.session import Session, situation

NAME = "plan"


def main(
    profile: options.Profile = options.DEFAULT_PROFILE,
    step: options.Steps = None,
    skip: options.Skip = None,
    output: options.Output = options.OutputFormat.text,
    verbose: options.Verbose = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Show what apply would change, as a diff. Changes nothing; exits 3 when changes are pending."""
    from gpunode.engine.check import plan

    session = Session(NAME, output, verbose, color)
    session.run(lambda: plan(situation(profile, step, skip)), lambda terminal, report: terminal.plan(report))
