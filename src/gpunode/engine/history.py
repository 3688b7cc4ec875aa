"""History: the journal's runs, read by whoever may read them."""

from __future__ import annotations

from gpunode.errors import UsageError
from gpunode.host.journal import Journal, RunRecord
from gpunode.host.machine import Machine


def runs(machine: Machine) -> list[RunRecord]:
    """Every run, oldest first. Raises UsageError for anybody but root: the journal holds what files held."""
    if machine.effective_uid() != 0:
        raise UsageError("the journal is root's alone", hint="run it with sudo")
    return Journal(machine).runs
