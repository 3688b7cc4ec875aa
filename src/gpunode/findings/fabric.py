"""The NVLink fabric's manager: absent or of another version where it is needed, and failed where it is not."""

from __future__ import annotations

from gpunode.findings.driver import APPLY
from gpunode.findings.evidence import FABRIC_MANAGER, Evidence, upstream
from gpunode.findings.model import Known, Proof

SWITCHES_ELSEWHERE = ("Blackwell",)
"""Generations whose boards have NVLink switches that PCI does not show as NVSwitches."""


def _fabric_manager(evidence: Evidence) -> Proof | None:
    facts, unit = evidence.context.facts, evidence.units.get(FABRIC_MANAGER)
    if not facts.nvswitches or facts.driver is None or unit is None:
        return None
    version = next(
        (upstream(each.version) for name, each in evidence.driver_packages.items() if "fabricmanager" in name), ""
    )
    switches = f"{facts.nvswitches} NVSwitch devices on PCI (class 0x0680), driver {facts.driver.version}"
    if not unit.loaded:
        return Proof((switches, f"{FABRIC_MANAGER}: not installed"), {"state": "not installed"})
    if version and version != facts.driver.version:
        line = f"dpkg-query: nvidia-fabricmanager {version}, wanted {facts.driver.version}"
        return Proof((switches, line), {"state": f"of version {version}, not the driver's"})
    if not unit.active:
        lines = (switches, f"systemctl show {FABRIC_MANAGER}: {unit.state}, wanted active")
        return Proof(lines, {"state": "not running"}, mend=(f"systemctl enable --now {FABRIC_MANAGER}",))
    return None


def _without_switch(evidence: Evidence) -> Proof | None:
    facts, unit = evidence.context.facts, evidence.units.get(FABRIC_MANAGER)
    if unit is None or not unit.loaded or not unit.enabled or unit.active or facts.nvswitches or facts.driver is None:
        return None
    kinds = [evidence.context.catalog.generation(gpu.device) for gpu in facts.gpus]
    if not kinds or any(kind is None or kind.name in SWITCHES_ELSEWHERE for kind in kinds):
        return None
    lines = (f"systemctl show {FABRIC_MANAGER}: {unit.state}, enabled", "PCI: no NVSwitch (class 0x0680)")
    return Proof(lines)


FINDINGS = (
    Known(
        id="fabric-manager",
        step="driver",
        severity="error",
        title="The fabric manager does not serve this driver",
        sees="CUDA error 802 `system not yet initialized` on a host with NVSwitch",
        proof="NVSwitch devices on PCI, and `nvidia-fabricmanager` absent, stopped, or of another version than the running driver",
        cause="The GPUs wait for the NVLink fabric, which the fabric manager sets up, and it is {state}.",
        mend=(APPLY, f"systemctl enable --now {FABRIC_MANAGER}"),
        look=_fabric_manager,
        explains=("nvlink-down",),
        references=("pytorch/pytorch#35710", "ollama/ollama#12136", "NVIDIA/gpu-operator#1043"),
        patterns=(
            r"system not (?:yet )?initialized",
            r"(?:cuda runtime error \(|CUDA[ _](?:error|Error)[: ]+|Error )802",
            r"CUDA_ERROR_SYSTEM_NOT_READY",
        ),
    ),
    Known(
        id="fabric-manager-without-switch",
        step="driver",
        severity="info",
        title="The fabric manager is installed where there is nothing to manage",
        sees="`nvidia-fabricmanager.service` failed: `NV_WARN_NOTHING_TO_DO`",
        proof="its unit is enabled and not active, and PCI shows no NVSwitch; on Blackwell, whose switches PCI shows otherwise, "
        "nothing is said",
        cause="This host has no NVSwitch, so that the unit's failure means nothing.",
        mend=(f"systemctl disable --now {FABRIC_MANAGER}",),
        look=_without_switch,
        references=("NVIDIA/gpu-operator#610", "NVIDIA/gpu-operator#356", "data-infra/cube-studio#29"),
        patterns=(
            r"request to query NVSwitch device information from NVSwitch driver failed with error:WARNING Nothing to do",
        ),
    ),
)
