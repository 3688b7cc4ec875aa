"""From options to the engine and from its result to the exit status: what every command that looks at the host shares."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import typer

from gpunode import __version__
from gpunode.cli.options import CheckFormat, ColorWhen, OutputFormat, VerifyFormat
from gpunode.errors import ExitCode, GpunodeError, RefusedError, UsageError

if TYPE_CHECKING:
    from gpunode.engine.events import Listener
    from gpunode.engine.results import Report
    from gpunode.engine.situation import Situation
    from gpunode.host.machine import Machine
    from gpunode.profile.loader import LoadedProfile
    from gpunode.report.terminal import Terminal

INTERRUPTED = 130


@dataclass(frozen=True)
class Session:
    """One call of a command: its name and the options that say how to speak."""

    command: str
    output: OutputFormat | CheckFormat | VerifyFormat = OutputFormat.text
    verbose: bool = False
    color: ColorWhen = ColorWhen.auto
    file: str | None = None

    @property
    def json(self) -> bool:
        """True when a program reads the result, as one document."""
        return str(self.output.value) != "text"

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

        def shown() -> int:
            report = work()
            if self.json:
                self._print_document(report)
            else:
                show(self.terminal(), report)
            return self._exit_code(report)

        self.exit_by(shown)

    def exit_by(self, work: Callable[[], int]) -> NoReturn:
        """Do the work, exit by the status that it gives. Any error becomes one line, or the JSON document."""
        began = time.monotonic()
        try:
            code = work()
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
            report = _report_of(self.command, error, seconds)
            self._print_document(report)
            return self._exit_code(report) if self.output.value == "npd" else error.exit_code
        if isinstance(error, RefusedError):
            self.terminal().refusal(error.reasons)
        else:
            self.terminal().error(error)
        return error.exit_code

    def _tell_interrupted(self) -> int:
        words = "interrupted; what was done by then, if anything, is in the journal"
        self._tell(GpunodeError(words, hint="`gpunode apply` finishes the job, `gpunode rollback` undoes it"), 0.0)
        return INTERRUPTED

    def _print_document(self, report: Report) -> None:
        from gpunode.report.documents import document

        if self.file is None:
            print(document(report, self.output.value, now=time.time()))
            return
        text = document(report, self.output.value, now=time.time(), earlier=_earlier(self.file))
        _replace(self.file, f"{text}\n")

    def _exit_code(self, report: Report) -> int:
        from gpunode.report.documents import exit_code

        return exit_code(report, self.output.value)


def _earlier(path: str) -> str:
    """The document that is about to be replaced; empty when there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def write_private(path: str, content: bytes) -> None:
    """Write a file that its owner alone may read, in one step. Raises UsageError."""
    _put(path, content, 0o600)


def _replace(path: str, text: str) -> None:
    """Write a file in one step: whoever collects it never reads half of it. Raises UsageError."""
    _put(path, text.encode(), 0o644)  # the collector is not root


def _put(path: str, content: bytes, mode: int) -> None:
    temporary = f"{os.path.dirname(path) or '.'}/.{os.path.basename(path)}.{os.getpid()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, mode)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


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


def situation(
    profile: str | None,
    steps: list[str] | None = None,
    skip: list[str] | None = None,
    *,
    machine: Machine | None = None,
) -> Situation:
    """The host this runs on, or another machine, with a profile (None: the defaults) and the chosen steps."""
    from gpunode.engine.situation import Situation
    from gpunode.host.local import LocalMachine
    from gpunode.profile.model import HostProfile
    from gpunode.steps import select

    wanted = load_profile(profile).profile if profile is not None else HostProfile()
    chosen = select(tuple(steps or ()), tuple(skip or ()))
    command = " ".join(["gpunode", *sys.argv[1:]])
    return Situation(machine or LocalMachine(), wanted, chosen, __version__, note=f"pid {os.getpid()} ({command})")


def _report_of(command: str, error: GpunodeError, seconds: float) -> Report:
    from gpunode.engine.results import Report

    report = Report(command, "failed", error=error.message, hint=error.hint, details=error.details, seconds=seconds)
    if isinstance(error, RefusedError):
        report.result, report.details = "refused", error.reasons
    return report
