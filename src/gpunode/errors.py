"""The one hierarchy of errors. A message says what was wrong, where, and what to do; the exit code goes with the kind."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process's exit status means, for every command alike."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DRIFT = 3
    REBOOT_REQUIRED = 4
    VERIFICATION_FAILED = 5
    LOCKED = 6


class GpunodeError(Exception):
    """Anything gpunode says to a person instead of showing a traceback.

    `hint` is what to do next, in one sentence; `details` are lines of evidence shown beneath (a daemon's log, a difference).
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


class UsageError(GpunodeError):
    """The command line, the profile or another input cannot be used as it is."""

    exit_code = ExitCode.USAGE


class RefusedError(GpunodeError):
    """The host and the profile do not fit each other; nothing was changed. Lists every reason, not the first."""

    def __init__(self, reasons: tuple[str, ...], *, hint: str = "") -> None:
        first = reasons[0] if len(reasons) == 1 else f"{len(reasons)} reasons not to begin; nothing was changed"
        super().__init__(first, hint=hint, details=reasons if len(reasons) > 1 else ())
        self.reasons = reasons


class HostError(GpunodeError):
    """The machine did not do what it was asked: a file, a command, a service, the network."""


class CommandError(HostError):
    """A command of the host failed. Carries its own last words."""


class ConflictError(GpunodeError):
    """Somebody edited what gpunode wrote, in a way that cannot be told apart from gpunode's own change."""


class UnknownPackageError(CommandError):
    """The repositories' indices, as last fetched, do not have a package or a version of it."""


class RebootRequiredError(HostError):
    """All that can be done before a reboot is done; the rest comes after it."""

    exit_code = ExitCode.REBOOT_REQUIRED


class LockHeldError(GpunodeError):
    """Another run of gpunode is at work on this host."""

    exit_code = ExitCode.LOCKED
