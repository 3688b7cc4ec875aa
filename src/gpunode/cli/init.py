"""`gpunode init`: write a profile for this host."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from gpunode.cli import options
from gpunode.cli.session import Session
from gpunode.errors import GpunodeError

NAME = "init"


def main(
    profile: options.Profile = options.DEFAULT_PROFILE,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a profile that is there; it is kept beside it as FILE.oldN.")
    ] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Print the profile instead of writing it.")] = False,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Look at this host and write a profile for it, with a comment on each choice."""
    from gpunode.engine.init import new_profile, write
    from gpunode.host.local import LocalMachine

    session, machine = Session(NAME, color=color), LocalMachine()
    profile = os.path.abspath(profile)
    try:
        text, found = new_profile(machine)
        if stdout:
            print(text, end="")
            return
        write(machine, profile, text, force=force)
    except GpunodeError as error:
        session.fail(error)
    session.terminal().wrote_profile(profile, found)
