"""What a smoke test is, and how the layers are tried from the bottom up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from gpunode.errors import HostError
from gpunode.host.trial import Trial
from gpunode.steps.base import Context

Level = Literal["host", "container", "kubernetes"]
PASSED = "Test PASSED"
"""What NVIDIA's CUDA samples print when every element is right."""
LEVELS: tuple[Level, ...] = ("host", "container", "kubernetes")


class ProbeFailedError(Exception):
    """A smoke test found what should not be; the message says what, the details are its evidence."""

    def __init__(self, message: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.details = details


@dataclass
class Findings:
    """What lower layers found out, for those above: the GPUs that NVML shows."""

    gpus: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Probe:
    """One layer. `run` returns what it saw in a few words. Raises ProbeFailedError or HostError."""

    name: str
    level: Level
    tried: str
    proves: str
    run: Callable[[Trial, Context, Findings], str]


@dataclass(frozen=True)
class Outcome:
    """How a probe ended."""

    probe: Probe
    state: Literal["passed", "failed", "skipped"]
    detail: str
    seconds: float


def attempt(probe: Probe, trial: Trial, context: Context, found: Findings, below: tuple[str, ...]) -> Outcome:
    """Run one probe. A failure also says what the layers below have proved: the cause lies between the two."""
    began = time.monotonic()
    try:
        detail = probe.run(trial, context, found)
    except ProbeFailedError as failure:
        return Outcome(probe, "failed", _failure(str(failure), failure.details, below), time.monotonic() - began)
    except HostError as error:
        evidence = (*error.details, *([f"→ {error.hint}"] if error.hint else []))
        return Outcome(probe, "failed", _failure(error.message, evidence, below), time.monotonic() - began)
    return Outcome(probe, "passed", detail, time.monotonic() - began)


def _failure(message: str, evidence: tuple[str, ...], below: tuple[str, ...]) -> str:
    proved = (
        f"the layers below are proved ({', '.join(below)}): the cause lies between {below[-1]} and here"
        if below
        else "this is the lowest layer"
    )
    return "\n".join((message, *evidence, proved))
