"""Running commands: never through a shell, always with a deadline, and never held up by one that the kernel does not let die."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from threading import Thread
from typing import IO

from gpunode.errors import HostError
from gpunode.host.machine import OnLine, Output

LAST_WORDS_SECONDS = 2.0


def run(argv: Sequence[str], *, stdin: str, timeout: float, env: Mapping[str, str]) -> Output:
    """Run a command to its end. Raises HostError after `timeout` seconds."""
    try:
        process = _start(argv, env, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    except (FileNotFoundError, PermissionError) as error:
        return Output(tuple(argv), 127, "", f"{argv[0]}: {error.strerror}")
    try:
        out, err = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        _abandon(process.pid)
        raise HostError(f"`{' '.join(argv)}` did not answer in {timeout:g} s") from None
    except BaseException:  # Ctrl-C: what was begun for the person must not go on without them
        _abandon(process.pid)
        raise
    return Output(tuple(argv), process.returncode, out, err)


def run_streaming(argv: Sequence[str], *, timeout: float, env: Mapping[str, str], on_line: OnLine) -> Output:
    """Run a long command, handing out each line as it comes. Raises HostError after `timeout` seconds."""
    try:
        process = _start(argv, env, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    except (FileNotFoundError, PermissionError) as error:
        return Output(tuple(argv), 127, "", f"{argv[0]}: {error.strerror}")
    lines: list[str] = []
    reading = Thread(target=_hand_out, args=(process.stdout, lines, on_line), daemon=True)
    reading.start()
    try:
        process.wait(timeout=timeout)
    except subprocess.TimeoutExpired:
        _abandon(process.pid)
        raise HostError(f"`{' '.join(argv)}` did not end in {timeout:g} s") from None
    except BaseException:
        _abandon(process.pid, signal.SIGTERM)  # a package manager that is asked to stop leaves less to repair
        raise
    # A daemon that the command started may hold its output open for ever: what is printed by now is all of it.
    reading.join(LAST_WORDS_SECONDS)
    return Output(tuple(argv), process.returncode, "".join(lines), "")


def _start(argv: Sequence[str], env: Mapping[str, str], *, stdin: int, stderr: int) -> subprocess.Popen[str]:
    """In a session of its own, and never where the caller stands: others may have put files there."""
    return subprocess.Popen(
        list(argv),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        errors="replace",
        env=dict(env),
        cwd="/",
        start_new_session=True,
    )


def _hand_out(stream: IO[str], lines: list[str], on_line: OnLine) -> None:
    for line in stream:
        lines.append(line)
        on_line(line.rstrip("\n"))


def _abandon(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    """End the command and all it started, and do not wait: one that the kernel holds would make us hang with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, how)
