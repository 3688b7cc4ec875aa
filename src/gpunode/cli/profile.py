"""`gpunode profile`: judge a profile, show it resolved, print its schema. Needs no root and touches no host."""

from __future__ import annotations

import json

import typer

from gpunode.cli import options
from gpunode.cli.session import Session, load_profile
from gpunode.errors import GpunodeError

app = typer.Typer(
    help="Judge a profile, show it resolved, print its JSON Schema.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def validate(
    profile: options.Profile = options.DEFAULT_PROFILE,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Name every mistake in a profile, with line, key and what is allowed."""
    session = Session("profile validate", color=color)
    try:
        load_profile(profile)
    except GpunodeError as error:
        session.fail(error)
    print(f"{profile}: no mistakes")


@app.command()
def show(
    profile: options.Profile = options.DEFAULT_PROFILE,
    output: options.Output = options.OutputFormat.text,
    color: options.Color = options.ColorWhen.auto,
) -> None:
    """Show every key of the resolved profile, its value and where it comes from: file, default, or this host."""
    session = Session("profile show", output, color=color)
    try:
        loaded = load_profile(profile)
    except GpunodeError as error:
        session.fail(error)
    from gpunode.engine.resolve import resolved
    from gpunode.host.local import LocalMachine
    from gpunode.profile import show as listed

    rows = resolved(listed(loaded), loaded.profile, LocalMachine())
    if session.json:
        values = [{"key": key, "value": value, "from": origin} for key, value, origin in rows]
        print(json.dumps({"schema": "gpunode/1", "command": "profile show", "values": values}, indent=2))
    else:
        session.terminal().profile_show(rows)


@app.command()
def schema() -> None:
    """Print the profile's JSON Schema, for editors."""
    from gpunode.profile import schema as document

    print(json.dumps(document(), indent=2))
