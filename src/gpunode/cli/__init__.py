"""The command line: one file a command. Each parses, calls the engine, hands the result to report/, and exits by it."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, NoReturn, cast

import typer

from gpunode import __version__
from gpunode.cli import (
    apply,
    bundle,
    check,
    doctor,
    findings,
    history,
    init,
    plan,
    profile,
    render,
    rollback,
    steps,
    timer,
    verify,
)
from gpunode.errors import ExitCode

app = typer.Typer(
    name="gpunode",
    help="Take a Linux machine with NVIDIA GPUs to a working Kubernetes GPU node, keep it there, and take it back.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

# click's UsageError, of which typer names only this child, and brings click itself or a copy of its own.
_CommandLineError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])


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


for command in (init, plan, apply, check, doctor, verify, rollback, history, findings, steps):
    app.command(command.NAME)(command.main)
app.add_typer(render.app, name="render")
app.add_typer(profile.app, name="profile")
app.add_typer(timer.app, name=timer.NAME)
app.add_typer(bundle.app, name="bundle")


def main() -> None:
    """The console script. A polite kill ends a run as Ctrl-C does: the terminal is restored, and one line says what to do."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # not by SIGINT, which a script's background jobs ignore
    try:
        sys.exit(app(prog_name="gpunode", standalone_mode=False))
    except _CommandLineError as error:
        _refuse(error)
    except OSError as error:
        _lose_output(error)
    except RecursionError:
        print("gpunode: an input is too deeply nested", file=sys.stderr)
        sys.exit(ExitCode.USAGE)
    finally:
        try:
            sys.stdout.flush()
        except OSError as error:
            _lose_output(error)


def _refuse(error: typer.BadParameter) -> NoReturn:
    """A command line that cannot be understood: one line that says so, and where to read on. Without one, the help."""
    if error.ctx is not None and error.message == error.ctx.get_help():
        error.show()
        sys.exit(ExitCode.USAGE)
    asked = error.ctx.command_path if error.ctx else "gpunode"
    words = error.format_message().replace("Value error, ", "").rstrip(".")
    print(f"gpunode: {words[:1].lower()}{words[1:]} (see `{asked} --help`)", file=sys.stderr)
    sys.exit(ExitCode.USAGE)


def _lose_output(error: OSError) -> None:
    """Whoever read has gone (`| head`), which is theirs to decide; or the disk is full, which is a failure. No traceback either way."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if not isinstance(error, BrokenPipeError):
        print(f"gpunode: cannot write the output: {error.strerror}", file=sys.stderr)
        sys.exit(ExitCode.FAILED)
