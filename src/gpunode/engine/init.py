"""Init: a first profile from what the host is, each choice with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpunode.engine.situation import site_catalog
from gpunode.errors import RefusedError, UsageError
from gpunode.host import facts
from gpunode.host.facts import Facts
from gpunode.host.machine import FileStat, Machine
from gpunode.host.reader import Reader
from gpunode.steps import decisions, decisions_wishes
from gpunode.steps.base import Context

if TYPE_CHECKING:
    from gpunode.profile.template import Choice


def new_profile(machine: Machine) -> tuple[str, list[str]]:
    """The profile's text, and what was found in words. Raises RefusedError on a host without a GPU or an unknown distribution."""
    from gpunode.profile import Choices, write_profile
    from gpunode.profile.model import HostProfile

    catalog = site_catalog(machine)
    found = facts.gather(Reader(machine), catalog)
    _require_gpu_host(found)
    context = decisions_wishes.recommended(Context(HostProfile(), found, catalog))
    gpus, containerd = (
        decisions.gpu_names(context),
        f"containerd {found.containerd}" if found.containerd else "no containerd",
    )
    choices = Choices(
        gpus=gpus,
        distribution=found.os_name,
        containerd=found.containerd or "none yet: install it before `gpunode apply`",
        source=_choice("nvidia", "NVIDIA's own packages: the newest branches, the same on every distribution."),
        branch=_branch(context),
        modules=_modules(context),
        version=_version(context),
        cuda=_cuda(context),
        kubernetes=_kubernetes(found),
    )
    return write_profile(choices), [gpus, found.os_name, containerd]


def write(machine: Machine, path: str, text: str, *, force: bool) -> None:
    """Write the profile (0644), an older one kept as `PATH.old1`, `.old2`, … with `force`. Raises UsageError, HostError."""
    if machine.effective_uid() != 0 and path.startswith("/etc/"):
        raise UsageError(f"writing {path} needs root", hint="run it with sudo, or --stdout to look at it first")
    old = machine.lstat(path)
    if old is not None and not force:
        raise UsageError(
            f"there is a profile {path} already", hint="--force replaces it (the old one is kept), --stdout only prints"
        )
    if old is not None and old.kind != "file":
        raise UsageError(f"{path} is a {old.kind}, not a file", hint="--profile names another")
    folder = path.rpartition("/")[0]
    if folder and machine.lstat(folder) is None:
        machine.make_directory(folder, mode=0o755)
    new_file = FileStat(kind="file", mode=0o644, uid=machine.effective_uid())
    if old is not None:
        kept = next(name for number in range(1, 1000) if machine.lstat(name := f"{path}.old{number}") is None)
        machine.write_atomic(kept, machine.read(path), stat=new_file, temporary=f"{kept}.new")
    machine.write_atomic(path, text.encode(), stat=new_file, temporary=f"{path}.new")


def _require_gpu_host(found: Facts) -> None:
    reasons = []
    if not found.gpus:
        reasons.append("this host shows no NVIDIA GPU on PCI: there is nothing to write a profile for")
    if found.distribution is None:
        reasons.append(f"{found.os_name} is not a distribution that gpunode knows, by its ID or ID_LIKE")
    if reasons:
        raise RefusedError(tuple(reasons))


def _choice(value: str, why: str) -> Choice:
    from gpunode.profile import Choice

    return Choice(value, why)


def _branch(context: Context) -> Choice:
    branch = context.catalog.branches[context.profile.driver.branch]
    until = f", maintained until {branch.ends}" if branch.ends else ""
    only = "" if branch.recommended else ", and the nearest that drives these GPUs"
    return _choice(branch.name, f"The {branch.kind} branch{until}{only}.")


def _version(context: Context) -> Choice:
    version = context.catalog.branches[context.profile.driver.branch].version
    return _choice(version, "Pinned, so that every node of this profile gets the same driver.")


def _modules(context: Context) -> Choice:
    chosen = decisions.kernel_modules(context)
    return _choice(chosen.modules, f"{chosen.why[0].upper()}{chosen.why[1:]}.")


def _cuda(context: Context) -> Choice:
    cuda = decisions.newest_cuda(context)
    own = context.catalog.branches[context.profile.driver.branch].cuda
    what = (
        "The toolkit that belongs to the branch." if cuda == own else "The newest toolkit that compiles for these GPUs."
    )
    return _choice(cuda, f'{what} A pure Kubernetes worker needs none: make it "none".')


def _kubernetes(found: Facts) -> Choice:
    if not found.kubelet and not found.kubeconfig:
        return _choice("none", "No kubelet and no kubeconfig were found: the host is set up for containers alone.")
    where = (
        f"kubeconfig {found.kubeconfig}"
        if found.kubeconfig
        else "no kubeconfig: the device plugin is applied from elsewhere"
    )
    return _choice(found.flavour.name, f"Found on this host ({where}).")
