"""The layers between a GPU on the bus and one that the scheduler can hand out: how far up this host works."""

from __future__ import annotations

from collections.abc import Callable

from gpunode.engine.results import LayerResult, LayerState
from gpunode.findings import runtimes
from gpunode.findings.evidence import Evidence

Seen = tuple[LayerState, str]


def layers(evidence: Evidence) -> list[LayerResult]:
    """Each layer as it looks, from the hardware up. What cannot be seen from here is unknown, not broken."""
    return [LayerResult(name, *look(evidence)) for name, look in LAYERS.items()]


def _pci(evidence: Evidence) -> Seen:
    number = len(evidence.context.facts.gpus)
    return (
        ("works", f"{number} GPU{'' if number == 1 else 's'} on PCI") if number else ("broken", "no NVIDIA GPU on PCI")
    )


def _module(evidence: Evidence) -> Seen:
    driver = evidence.context.facts.driver
    return ("works", f"{driver.version} ({driver.modules})") if driver else ("broken", "no NVIDIA module is loaded")


def _library(evidence: Evidence) -> Seen:
    driver, library = evidence.context.facts.driver, evidence.library_version
    if not library:
        return "broken", "libnvidia-ml.so.1 leads to no driver's library"
    if driver and driver.version != library:
        return "broken", f"{library}, and the module is {driver.version}"
    return "works", library


def _nodes(evidence: Evidence) -> Seen:
    cards = [name for name in evidence.nodes if name != "nvidiactl"]
    if "nvidiactl" in evidence.nodes and cards:
        return "works", f"/dev/nvidiactl and {', '.join(cards)}"
    return "broken", "no /dev/nvidiactl" if cards else "no /dev/nvidia0"


def _toolkit(evidence: Evidence) -> Seen:
    package = next(iter(evidence.toolkit_packages.values()), None)
    if evidence.toolkit_runtime:
        return "works", package.version if package else evidence.context.catalog.toolkit.runtime
    return "broken", f"no {evidence.context.catalog.toolkit.runtime}"


def _engine(evidence: Evidence) -> Seen:
    name, config, unit = evidence.context.profile.containerd.runtime_name, evidence.config, evidence.engine
    if evidence.context.facts.cri is None:
        return "unknown", "there is no containerd here"
    if unit is not None and not unit.active:
        return "broken", f"{unit.name} is {unit.state}"
    listed = runtimes.in_dump(config.effective) if config.effective is not None else None
    if listed is None and config.data is not None and not config.imported:
        listed = runtimes.in_file(config.data, evidence.context)
    if listed is None:
        return "unknown", f"{config.path} cannot be understood"
    if name not in listed:
        return "broken", f"{config.path} has no runtime {name}"
    return (
        ("broken", f"has not read its configuration: {config.stale}") if config.stale else ("works", f"runtime {name}")
    )


def _kubelet(evidence: Evidence) -> Seen:
    facts = evidence.context.facts
    return ("works", facts.flavour.device_plugins) if facts.kubelet else ("unknown", "no kubelet has run here")


def _plugin(evidence: Evidence) -> Seen:
    if not evidence.context.facts.kubelet:
        return "unknown", "no kubelet has run here"
    sockets = [name for name in evidence.plugin.sockets if name != "kubelet.sock"]
    return ("works", ", ".join(sockets)) if sockets else ("broken", "no plugin's socket beside kubelet.sock")


def _capacity(evidence: Evidence) -> Seen:
    registered = evidence.plugin.registered
    if registered is None:
        return "unknown", "the kubelet's checkpoint of devices cannot be read"
    told = ", ".join(f"{count} {name}" for name, count in registered.items() if count)
    return ("works", told) if told else ("broken", "the kubelet knows no nvidia.com resource")


LAYERS: dict[str, Callable[[Evidence], Seen]] = {
    "PCI": _pci,
    "module": _module,
    "library": _library,
    "device nodes": _nodes,
    "toolkit": _toolkit,
    "engine": _engine,
    "kubelet": _kubelet,
    "plugin": _plugin,
    "capacity": _capacity,
}
