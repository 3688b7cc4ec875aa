"""What a command works with: the host, the profile, the catalogue with the site's own entries, the steps chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpunode import RELEASED
from gpunode.catalog import SITE_FOLDER, load
from gpunode.catalog.model import Catalog
from gpunode.engine.events import Listener, Silent
from gpunode.host import facts
from gpunode.host.machine import Machine
from gpunode.host.reader import Network, Reader
from gpunode.steps.base import Context, Step

if TYPE_CHECKING:
    from gpunode.profile.model import HostProfile

DISK_BYTES = 2 << 30
"""What a driver, its build and a toolkit's packages take at the least."""


@dataclass
class Situation:
    """Everything a command needs. `steps` are those chosen, in order."""

    machine: Machine
    profile: HostProfile
    steps: tuple[Step, ...]
    version: str
    note: str = ""
    listener: Listener = field(default_factory=Silent)

    def __post_init__(self) -> None:
        self.network = Network(self.profile.network.proxy, self.profile.network.ca_bundle)
        self.catalog = site_catalog(self.machine)

    def context(self, host: Reader) -> Context:
        """The steps' view of the host as it is now."""
        kubernetes = self.profile.kubernetes
        found = facts.gather(host, self.catalog, flavour=kubernetes.flavour, kubeconfig=kubernetes.kubeconfig)
        return Context(self.profile, found, self.catalog)


def site_catalog(machine: Machine) -> Catalog:
    """The catalogue, with the site's own entries laid over it."""
    reader = Reader(machine)
    paths = reader.glob(SITE_FOLDER, "*.toml")
    return load((path, reader.read_text(path) or "") for path in paths)


def refusals(situation: Situation, context: Context) -> list[str]:
    """Every reason not to begin on this host with this profile, the host's own first."""
    of_steps = (reason for step in situation.steps for reason in step.refusals(context))
    return list(dict.fromkeys([*_host_refusals(context), *of_steps]))


def _host_refusals(context: Context) -> list[str]:
    found, reasons = context.facts, []
    if found.distribution is None:
        known = ", ".join(name for entry in context.catalog.distributions.values() for name in entry.ids)
        reasons.append(f"{found.os_name} is not a distribution that gpunode knows ({known}), by its ID or ID_LIKE")
    elif not found.libraries:
        reasons.append(f"{found.architecture} is not an architecture that gpunode knows")
    if found.now < RELEASED:
        reasons.append(
            "this host's clock stands before gpunode was made: certificates and signatures cannot be judged (timedatectl set-ntp true)"
        )
    if found.free < DISK_BYTES:
        reasons.append(
            f"{found.free >> 20} MiB are free on /, and driver and packages need {DISK_BYTES >> 20}: free some space first"
        )
    return reasons
