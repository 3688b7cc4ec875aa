"""From options to the engine and from its result to the exit status: what every command that looks at the host shares."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import typer

from gpunode import __version__
from gpunode.cli.options import ColorWhen, OutputFormat
from gpunode.errors import ExitCode, GpunodeError, RefusedError, UsageError

if TYPE_CHECKING:
    from gpunode.engine.events import Listener
    from gpunode.engine.results import Report
    from gpunode.engine.situation import Situation
    from gpunode.profile.loader import LoadedProfile
    from gpunode.report.terminal import Terminal

INTERRUPTED = 130


@dataclass(frozen=True)
class Session:
    """One call of a command: its name and the options that say how to speak."""

    command: str
    output: OutputFormat = OutputFormat.text
    verbose: bool = False
    color: ColorWhen = ColorWhen.auto

    @property
    def json(self) -> bool:
        """True when stdout is to hold one JSON document."""
        return self.output is OutputFormat.json

    def terminal(self) -> Terminal:
        """Where people read."""
        from gpunode.report.terminal import Terminal

        return Terminal(color=self.color.value, verbose=self.verbose)

    def live(self, *, table_follows: bool = False) -> AbstractContextManager[Listener]:
        """Progress while it happens; silent for machines. `table_follows`: the smoke tests' results are told at the end."""
        from gpunode.engine.events import Silent
        from gpunode.report.live import Live

        return nullcontext(Silent()) if self.json else Live(self.terminal(), table_follows=table_follows)

    def ask(self, question: str) -> bool:
        """A yes or no from the person at the terminal. Raises UsageError where nobody is, KeyboardInterrupt on Ctrl-C."""
        if self.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError(
                f"{self.command} asks before it changes the host, and nobody is here to answer",
                hint="--yes goes ahead without asking",
            )
        try:
            return typer.confirm(question)
        except typer.Abort:
            raise KeyboardInterrupt from None

    def run(self, work: Callable[[], Report], show: Callable[[Terminal, Report], None]) -> NoReturn:
        """Do the work, show its report, exit by its result. Any error becomes one line, or the JSON document."""
        began = time.monotonic()
        try:
            report = work()
            if self.json:
                self._print_json(report)
            else:
                show(self.terminal(), report)
            code: int = report.exit_code
        except GpunodeError as error:
            code = self._tell(error, time.monotonic() - began)
        except KeyboardInterrupt:
            code = self._tell_interrupted()
        except BrokenPipeError:
            # Whoever read has gone (`| head`): nothing more is to be said to it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = ExitCode.FAILED
        except Exception as error:
            if self.verbose:
                raise
            wrong = f"internal error: {type(error).__name__}: {error}"
            code = self._tell(
                GpunodeError(wrong, hint="run it again with --verbose, and report it"), time.monotonic() - began
            )
        raise typer.Exit(code)

    def fail(self, error: GpunodeError) -> NoReturn:
        """Say what was wrong and exit by it."""
        raise typer.Exit(self._tell(error, 0.0))

    def _tell(self, error: GpunodeError, seconds: float) -> int:
        if self.json:
            self._print_json(_report_of(self.command, error, seconds))
        elif isinstance(error, RefusedError):
            self.terminal().refusal(error.reasons)
        else:
            self.terminal().error(error)
        return error.exit_code

    def _tell_interrupted(self) -> int:
        words = "interrupted; what was done by then, if anything, is in the journal"
        self._tell(GpunodeError(words, hint="`gpunode apply` finishes the job, `gpunode rollback` undoes it"), 0.0)
        return INTERRUPTED

    def _print_json(self, report: Report) -> None:
        from gpunode.report.json_report import dump

        print(dump(report))


def load_profile(path: str) -> LoadedProfile:
    """Read a profile file. Raises UsageError, ProfileError with every mistake in it."""
    from gpunode.profile import load

    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise UsageError(
            f"there is no profile {path}", hint="`gpunode init` writes one for this host; --profile names another"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot read the profile {path}: {error.strerror}") from None
    return load(content, path)


def situation(profile: str | None, steps: list[str] | None = None, skip: list[str] | None = None) -> Situation:
    """The host this runs on, with a profile (None: the defaults) and the chosen steps."""
    from gpunode.engine.situation import Situation
    from gpunode.host.local import LocalMachine
    from gpunode.profile.model import HostProfile
    from gpunode.steps import select

    wanted = load_profile(profile).profile if profile is not None else HostProfile()
    chosen = select(tuple(steps or ()), tuple(skip or ()))
    command = " ".join(["gpunode", *sys.argv[1:]])
    return Situation(LocalMachine(), wanted, chosen, __version__, note=f"pid {os.getpid()} ({command})")


def _report_of(command: str, error: GpunodeError, seconds: float) -> Report:
    from gpunode.engine.results import Report

    report = Report(command, "failed", error=error.message, hint=error.hint, details=error.details, seconds=seconds)
    if isinstance(error, RefusedError):
        report.result, report.details = "refused", error.reasons
    return report
