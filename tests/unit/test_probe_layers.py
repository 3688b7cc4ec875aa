"""The layers of verify: what a failure says of the layers below it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gpunode.errors import HostError
from gpunode.host.trial import Trial
from gpunode.probes.base import Findings, Probe, ProbeFailedError, attempt
from gpunode.steps.base import Context

NOBODY = cast(Any, None)


def probe(error: Exception | None) -> Probe:
    def run(_trial: Trial, _context: Context, _found: Findings) -> str:
        if error:
            raise error
        return "seen"

    return Probe("cuda", "host", "a vector addition", "the GPU computes", run)


def test_a_layer_that_passes_says_what_it_saw() -> None:
    outcome = attempt(probe(None), NOBODY, NOBODY, Findings(), ("pci",))
    assert (outcome.state, outcome.detail) == ("passed", "seen")


@pytest.mark.parametrize(
    "error", [ProbeFailedError("80 are wrong", ("evidence",)), HostError("80 are wrong", details=("evidence",))]
)
def test_a_layer_that_fails_says_what_the_layers_below_proved(error: Exception) -> None:
    outcome = attempt(probe(error), NOBODY, NOBODY, Findings(), ("pci", "nvml"))
    assert outcome.state == "failed"
    assert outcome.detail.splitlines()[:2] == ["80 are wrong", "evidence"]
    assert "the layers below are proved (pci, nvml): the cause lies between nvml and here" in outcome.detail


def test_the_lowest_layer_has_nothing_below_it() -> None:
    outcome = attempt(probe(ProbeFailedError("no GPU")), NOBODY, NOBODY, Findings(), ())
    assert outcome.detail == "no GPU\nthis is the lowest layer"
