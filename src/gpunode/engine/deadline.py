"""A look at the host ends in its time, whatever the host does: a file on a mount that hangs holds up whoever opens it."""

from __future__ import annotations

import functools
import queue
from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from gpunode.errors import HostError

if TYPE_CHECKING:
    from gpunode.engine.results import Report
    from gpunode.engine.situation import Situation
    from gpunode.host.machine import Machine

P = ParamSpec("P")
SECONDS = 60.0
"""For one file. Commands have deadlines of their own, some of them longer: while one runs, nothing is looked at."""
SAMPLES = 20
"""In that time: so often the same file was looked at each time."""


def in_time(look: Callable[Concatenate[Situation, P], Report]) -> Callable[Concatenate[Situation, P], Report]:
    """The same, but raising HostError, with the file that it waits for, when that does not answer in SECONDS.

    It works in a thread, which is left behind then: nothing can wake it, and it ends with the process.
    """

    @functools.wraps(look)
    def limited(situation: Situation, /, *args: P.args, **kwargs: P.kwargs) -> Report:
        ends: queue.SimpleQueue[Report | BaseException] = queue.SimpleQueue()
        work = functools.partial(look, situation, *args, **kwargs)
        Thread(target=lambda: ends.put(_end(work)), daemon=True).start()
        end = _waited_for(ends, situation.machine)
        if isinstance(end, BaseException):
            raise end
        return end

    return limited


def _waited_for(ends: queue.SimpleQueue[Report | BaseException], machine: Machine) -> Report | BaseException:
    seen, path = 0, ""
    while seen < SAMPLES:
        try:
            return ends.get(timeout=SECONDS / SAMPLES)
        except queue.Empty:
            seen = seen + 1 if machine.looking_at and machine.looking_at == path else 0
            path = machine.looking_at
    raise HostError(
        f"the look at this host did not end: {path} does not answer in {SECONDS:g} s",
        hint="a mount that hangs? see `findmnt`, and `ps -eo pid,stat,wchan,args | grep ' D'`",
    )


def _end(work: Callable[[], Report]) -> Report | BaseException:
    try:
        return work()
    except BaseException as error:  # it is raised where somebody waits for it
        return error
