"""What the profile leaves to the host, as this host decides it. Reads only, and needs no root."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gpunode.engine.situation import site_catalog
from gpunode.errors import GpunodeError
from gpunode.host import facts
from gpunode.host.machine import Machine
from gpunode.host.reader import Reader
from gpunode.steps import decisions
from gpunode.steps.base import Context
from gpunode.steps.decisions_cluster import node_name

if TYPE_CHECKING:
    from gpunode.profile.model import HostProfile

Row = tuple[str, str, str]
OPEN = ('"auto"', "unset")
ORIGINS = {"driver.version": "catalogue"}
"""Where an answer comes from, where that is not the host itself."""


def resolved(rows: list[Row], profile: HostProfile, machine: Machine) -> list[Row]:
    """The profile's rows (key, value, origin), those that it leaves open filled in from the host where it says something."""
    try:
        found = _found(profile, machine)
    except GpunodeError:  # a host that cannot be read decides nothing
        return rows
    return [
        (key, json.dumps(found[key]), ORIGINS.get(key, "host"))
        if value in OPEN and found.get(key)
        else (key, value, origin)
        for key, value, origin in rows
    ]


def _found(profile: HostProfile, machine: Machine) -> dict[str, str]:
    catalog, kubernetes = site_catalog(machine), profile.kubernetes
    here = facts.gather(Reader(machine), catalog, flavour=kubernetes.flavour, kubeconfig=kubernetes.kubeconfig)
    context = Context(profile, here, catalog)
    return {
        "driver.version": decisions.driver_version(context),
        "driver.modules": decisions.kernel_modules(context).modules if here.gpus else "",
        "containerd.config": profile.containerd.config or here.flavour.config,
        "kubernetes.flavour": here.flavour.name,
        "kubernetes.kubeconfig": here.kubeconfig or "",
        "kubernetes.node_name": node_name(context),
    }
