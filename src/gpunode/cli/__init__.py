"""The command line: one file a command. Each parses, calls the engine, hands the result to report/, and exits by it."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from gpunode import __version__
from gpunode.cli import apply, check, history, init, plan, profile, render, rollback, steps, verify

app = typer.Typer(
    name="gpunode",
    help="Take a Linux machine with NVIDIA GPUs to a working Kubernetes GPU node, keep it there, and take it back.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"gpunode {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take a Linux machine with NVIDIA GPUs to a working Kubernetes GPU node, keep it there, and take it back.

    Exit status: 0 in sync or done, 1 failed, 2 usage, 3 drift or changes pending, 4 reboot required to finish,
    5 verification failed, 6 another run holds the lock.
    """


for command in (init, plan, apply, check, verify, rollback, history, steps):
    app.command(command.NAME)(command.main)
app.add_typer(render.app, name="render")
app.add_typer(profile.app, name="profile")


def main() -> None:
    """The console script. A polite kill ends a run as Ctrl-C does: the terminal is restored, and one line says what to do."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        app()
    except OSError as error:
        _lose_output(error)
    finally:
        try:
            sys.stdout.flush()
        except OSError as error:
            _lose_output(error)


def _lose_output(error: OSError) -> None:
    """Whoever read has gone (`| head`), or the disk is full: say so where it can be said, and end without a traceback."""
    if not isinstance(error, BrokenPipeError):
        print(f"gpunode: cannot write the output: {error.strerror}", file=sys.stderr)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
