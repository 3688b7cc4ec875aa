"""Running commands: never through a shell, always with a deadline, and never held up by one that the kernel does not let die."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from threading import Thread
from typing import IO

from gpunode.errors import HostError
from gpunode.host.machine import OnLine, Output

LAST_WORDS_SECONDS = 2.0
QUIET_SECONDS = 1.0
"""After so long without a character, a line that has not ended is shown as far as it is: DKMS prints dots while it builds."""
READ_BYTES = 1 << 16


def run(
    argv: Sequence[str],
    *,
    stdin: str,
    timeout: float,
    env: Mapping[str, str],
    instead: Mapping[str, bytes] | None = None,
) -> Output:
    """Run a command to its end. Raises HostError after `timeout` seconds.

    Wherever `argv`, `stdin` or a later one of the contents names a path of `instead`, the command reads that content in its place: the
    path may be a mere mark, that stands for a file nowhere else.
    """
    with _in_memory(instead or {}) as places:
        words = [_replaced(word, places) for word in argv]
        output = _run(words, stdin=_replaced(stdin, places), timeout=timeout, env=env, files=tuple(places.values()))
    return Output(tuple(argv), output.returncode, output.stdout, output.stderr)


@contextlib.contextmanager
def _in_memory(contents: Mapping[str, bytes]) -> Iterator[dict[str, int]]:
    """Each path's content as an open file that lies on no disk: what is only tried leaves no trace on the host."""
    places: dict[str, int] = {}
    try:
        for path, content in contents.items():
            places[path] = os.memfd_create("gpunode")
            with open(places[path], "wb", closefd=False) as file:
                file.write(
                    _replaced(content.decode("utf-8", "surrogateescape"), places).encode("utf-8", "surrogateescape")
                )
        yield places
    finally:
        for descriptor in places.values():
            os.close(descriptor)


def _replaced(text: str, places: Mapping[str, int]) -> str:
    for path, descriptor in places.items():
        text = text.replace(path, f"/proc/self/fd/{descriptor}")
    return text


def _run(argv: Sequence[str], *, stdin: str, timeout: float, env: Mapping[str, str], files: tuple[int, ...]) -> Output:
    try:
        process = _start(argv, env, stdin=subprocess.PIPE, stderr=subprocess.PIPE, files=files)
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
    """Run a long command, handing out each line as it comes, and one that is slow to end as far as it is.

    Raises HostError after `timeout` seconds.
    """
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


def _start(
    argv: Sequence[str], env: Mapping[str, str], *, stdin: int, stderr: int, files: tuple[int, ...] = ()
) -> subprocess.Popen[str]:
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
        pass_fds=files,
    )


def _hand_out(stream: IO[str], lines: list[str], on_line: OnLine) -> None:
    begun = shown = ""
    for text in _pieces(stream.fileno()):
        if not text and begun != shown:
            on_line(begun)
            shown = begun
        *whole, begun = (begun + text).split("\n")
        for line in whole:
            lines.append(f"{line}\n")
            on_line(line)
    if begun:
        lines.append(begun)
    if begun != shown:
        on_line(begun)


def _pieces(descriptor: int) -> Iterator[str]:
    """What is printed, as it comes; an empty piece for each spell of quiet."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(errors="replace"), translate=True)
    while True:
        if not select.select([descriptor], [], [], QUIET_SECONDS)[0]:
            yield ""
            continue
        data = os.read(descriptor, READ_BYTES)
        yield decoder.decode(data, final=not data)
        if not data:
            return


def _abandon(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    """End the command and all it started, and do not wait: one that the kernel holds would make us hang with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, how)
