"""Package managers by name, as the catalogue's families and the journal call them."""

from __future__ import annotations

from gpunode.errors import UsageError
from gpunode.host.packages.apt import Apt
from gpunode.host.packages.base import PackageManager

MANAGERS: dict[str, PackageManager] = {"apt": Apt()}


def manager_named(name: str) -> PackageManager:
    """The package manager of that name. Raises UsageError when gpunode does not drive it yet."""
    if name not in MANAGERS:
        raise UsageError(
            f"gpunode does not drive the package manager {name} yet", hint=f"it drives: {', '.join(MANAGERS)}"
        )
    return MANAGERS[name]
