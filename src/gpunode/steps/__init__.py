"""The steps and their order. Adding one: a file here, its test, and a line in ORDER."""

from __future__ import annotations

from gpunode.errors import UsageError
from gpunode.steps import container_toolkit, containerd, cuda, device_plugin, driver, engines, verify
from gpunode.steps.base import Context, Step

__all__ = ["ORDER", "Context", "Step", "select"]

ORDER: tuple[Step, ...] = (
    driver.STEP,
    cuda.STEP,
    container_toolkit.STEP,
    containerd.STEP,
    engines.STEP,
    device_plugin.STEP,
    verify.STEP,
)


def select(only: tuple[str, ...] = (), skip: tuple[str, ...] = ()) -> tuple[Step, ...]:
    """The steps to run, in order. Raises UsageError for a name that is none."""
    known = {step.name for step in ORDER}
    for name in (*only, *skip):
        if name not in known:
            raise UsageError(
                f"there is no step {name}", hint=f"the steps are: {', '.join(step.name for step in ORDER)}"
            )
    return tuple(step for step in ORDER if (not only or step.name in only) and step.name not in skip)
