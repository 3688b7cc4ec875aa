"""`gpunode check`: how the host differs from the profile, and why."""

from __future__ import annotations

from gpunode.cli import options
from gpunode.cli.session import Session, situation

NAME = "check"


def main(
    profile: options.Profile = options.DEFAULT_PROFILE,
    step: options.Steps = None,
    skip: options.Skip = None,
    output: options.Output = options.OutputFormat.text,
    verbose: options.Verbose = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Compare the host with the profile and name the failures behind what differs. Changes nothing; exits 3 on drift."""
    from gpunode.engine.check import check

    session = Session(NAME, output, verbose, color)
    session.run(lambda: check(situation(profile, step, skip)), lambda terminal, report: terminal.check(report))
