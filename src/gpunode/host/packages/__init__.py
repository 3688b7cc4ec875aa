"""Package managers by name, as the catalogue's families and the journal call them."""

from __future__ import annotations

from gpunode.errors import UsageError
from gpunode.host.packages.apt import Apt
from gpunode.host.packages.base import PackageManager
from gpunode.host.packages.dnf import Dnf
from gpunode.host.packages.zypper import Zypper

MANAGERS: dict[str, PackageManager] = {"apt": Apt(), "dnf": Dnf(), "zypper": Zypper()}


def manager_named(name: str, source: str = "") -> PackageManager:
    """The package manager of that name, one that knows a single source file where `source` names it. Raises UsageError when gpunode
    does not drive it yet.
    """
    if name not in MANAGERS:
        raise UsageError(
            f"gpunode does not drive the package manager {name} yet", hint=f"it drives: {', '.join(MANAGERS)}"
        )
    if source and name != "apt":
        raise UsageError(f"gpunode does not confine {name} to one source yet, as it does apt")
    return Apt(source) if source else MANAGERS[name]
