"""How the GPUs are by the driver's own word (NVML) and the kernel's files on PCI. No mend here installs anything."""

from __future__ import annotations

from collections.abc import Iterator

from gpunode.findings.evidence import FABRIC_MANAGER, PERSISTENCED, Evidence, clock
from gpunode.findings.hardware import DRAIN, SEAT
from gpunode.findings.machine import GUESTS, NvmlGpu
from gpunode.findings.model import Known, Proof, Severity

SLOWDOWNS = {
    0x08: "hardware slowdown",
    0x20: "heat, by the driver",
    0x40: "heat, by the board",
    0x80: "power brake by the chassis",
}
IDLE = 0x01
NO_ANSWER = "DID_NOT_ANSWER"
HUNG = "blocked for more than"
WAITS = "D"


def _gpus(evidence: Evidence) -> tuple[NvmlGpu, ...]:
    return evidence.asked.nvml.gpus if evidence.asked.nvml else ()


def _ecc(evidence: Evidence) -> Proof | None:
    bad = [gpu for gpu in _gpus(evidence) if gpu.ecc_uncorrected]
    if not bad:
        return None
    lines = tuple(
        f"NVML: {gpu.label}: {gpu.ecc_uncorrected} uncorrected errors since the driver was loaded, wanted 0"
        for gpu in bad
    )
    words = {"gpus": ", ".join(gpu.label for gpu in bad), "index": str(bad[0].index)}
    return Proof(lines, words)


def _rows(evidence: Evidence) -> Proof | None:
    lines, failed, first = [], False, -1
    for gpu in _gpus(evidence):
        pending, failure = (gpu.rows[2], gpu.rows[3]) if gpu.rows else (gpu.pages_pending or 0, 0)
        lines += [f"NVML: {gpu.label}: remapping of memory rows failed"] if failure else []
        lines += [f"NVML: {gpu.label}: memory waits for a reset to be taken out of use"] if pending else []
        failed, first = failed or bool(failure), gpu.index if first < 0 and (pending or failure) else first
    if not lines:
        return None
    severity: Severity = "error" if failed else "warning"
    never, later = (
        "could not be taken out of use: the board is to be replaced",
        "is taken out of use only at its next reset",
    )
    words = {"index": str(first), "state": never if failed else later}
    mend = ("nvidia-bug-report.sh  # for the vendor: a reset does not help",) if failed else ()
    return Proof(tuple(lines), words, mend=mend, severity=severity)


def _link(evidence: Evidence) -> Proof | None:
    narrow = list(_narrow(evidence))
    lines = [*narrow, *_slow(evidence)]
    if not lines:
        return None
    return Proof(tuple(lines), {"how": "narrower" if narrow else "slower"})


def _narrow(evidence: Evidence) -> Iterator[str]:
    """Below what the GPU and the port that it hangs on can both do: a slot that is that narrow is as it was built."""
    for gpu in evidence.gpus:
        if gpu.width and gpu.max_width and gpu.port_width and gpu.width < min(gpu.max_width, gpu.port_width):
            wanted = min(gpu.max_width, gpu.port_width)
            yield f"/sys/bus/pci/devices/{gpu.address}/current_link_width: {gpu.width}, wanted {wanted}"


def _slow(evidence: Evidence) -> Iterator[str]:
    """Only under full clocks: an idle GPU saves power by a slower link."""
    for gpu in _gpus(evidence):
        now, best = gpu.link.get("generation"), gpu.link.get("max_generation")
        busy = gpu.performance_state == 0 and gpu.slowdown is not None and not gpu.slowdown & IDLE
        if busy and now and best and now < best:
            yield f"NVML: {gpu.label}: PCIe generation {now} under load, wanted {best}"


def _slowdown(evidence: Evidence) -> Proof | None:
    lines, reasons = [], []
    for gpu in _gpus(evidence):
        found = [words for bit, words in SLOWDOWNS.items() if (gpu.slowdown or 0) & bit]
        degrees = f", {gpu.temperature} °C" if gpu.temperature is not None else ""
        lines += [f"NVML: {gpu.label}: clocks held back by {', '.join(found)}{degrees}"] if found else []
        reasons += found
    return Proof(tuple(lines), {"reasons": ", ".join(dict.fromkeys(reasons))}) if lines else None


def _mig(evidence: Evidence) -> Proof | None:
    pending = [gpu for gpu in _gpus(evidence) if gpu.mig and gpu.mig[0] != gpu.mig[1]]
    if not pending:
        return None
    lines = tuple(
        f"NVML: {gpu.label}: MIG is {_mode(gpu, 0)} and to be {_mode(gpu, 1)} after a reset" for gpu in pending
    )
    holders = [name for name in (PERSISTENCED, FABRIC_MANAGER) if (unit := evidence.units.get(name)) and unit.active]
    stop = (f"systemctl stop {' '.join(holders)}  # and what else holds the GPU",) if holders else ()
    mend = (
        *stop,
        "nvidia-smi --gpu-reset -i {index}  # no job may run on it",
        "systemctl reboot  # in a guest without reset",
    )
    return Proof(lines, {"gpus": ", ".join(gpu.label for gpu in pending), "index": str(pending[0].index)}, mend=mend)


def _mode(gpu: NvmlGpu, which: int) -> str:
    return "on" if gpu.mig and gpu.mig[which] else "off"


def _missing(evidence: Evidence) -> Proof | None:
    nvml = evidence.asked.nvml
    if nvml is None or nvml.error or not any(not gpu.error for gpu in nvml.gpus):
        return None  # none at all is a failure of the driver, not of a GPU
    absent = [
        gpu for gpu in evidence.gpus if not nvml.has(gpu.address) and gpu.bound not in GUESTS and not gpu.excluded
    ]
    if not absent:
        return None
    names = {gpu.address: evidence.context.catalog.gpu_name(gpu.device) for gpu in evidence.context.facts.gpus}
    lines = [f"/sys/bus/pci/devices/{gpu.address}: {names[gpu.address]}, which NVML does not show" for gpu in absent]
    lines += [f"NVML: {gpu.label}: {gpu.error}" for gpu in nvml.gpus if gpu.error]
    lines.append(f"NVML: shows {sum(not gpu.error for gpu in nvml.gpus)} GPUs, wanted {len(evidence.gpus)}")
    return Proof(tuple(lines), {"gpus": ", ".join(gpu.address for gpu in absent), "first": absent[0].address})


def _unassigned(evidence: Evidence) -> Proof | None:
    bad = [gpu for gpu in evidence.gpus if gpu.unassigned]
    if not bad:
        return None
    lines = [
        f"/sys/bus/pci/devices/{gpu.address}/resource line {number + 1}: BAR {number} has no place, wanted one"
        for gpu in bad
        for number in gpu.unassigned
    ]
    lines += [f"kernel log: {each.text}" for each in evidence.asked.kernel or () if "BAR" in each.text][:2]
    return Proof(tuple(lines), {"gpus": ", ".join(gpu.address for gpu in bad)})


def _hangs(evidence: Evidence) -> Proof | None:
    nvml = evidence.asked.nvml
    if nvml is None or nvml.error != NO_ANSWER:
        return None
    waiting = [each for each in evidence.asked.matching("nvidia") if each.state == WAITS]
    hung = [line for line in evidence.asked.kernel or () if HUNG in line.text]
    lines = [f"NVML: {nvml.message}"]
    lines += [f"/proc/{each.pid}/stat: {each.name} waits in the kernel (state D)" for each in waiting]
    lines += [f"kernel log: {clock(line.when)} {line.text}" for line in hung[-2:]]
    return Proof(tuple(lines), {"message": nvml.message})


def _nvlink(evidence: Evidence) -> Proof | None:
    by_name: dict[str, list[NvmlGpu]] = {}
    for gpu in _gpus(evidence):
        by_name.setdefault(gpu.name, []).append(gpu)
    lines, down = [], []
    for siblings in by_name.values():
        most = max(sum(gpu.nvlinks) for gpu in siblings)
        for gpu in siblings:
            if gpu.nvlinks and sum(gpu.nvlinks) < most:
                links = ", ".join(str(number) for number, up in enumerate(gpu.nvlinks) if not up)
                lines.append(f"NVML: {gpu.label}: {sum(gpu.nvlinks)} NVLinks up, wanted {most} (down: {links})")
                down.append(gpu.label)
    return Proof(tuple(lines), {"gpus": ", ".join(down)}) if lines else None


FINDINGS = (
    Known(
        id="pci-bar-unassigned",
        step="driver",
        severity="error",
        title="The firmware gave a GPU no address space",
        sees="`This PCI I/O region assigned to your NVIDIA device is invalid: BAR1 is 0M @ 0x0`; `No devices were found`",
        proof="the GPU's register or memory window (BAR 0, BAR 1) has no place in `/sys/bus/pci/devices/…/resource`",
        cause="GPU {gpus} got no memory window: 64-bit decoding is off in the firmware, or the guest's window is too small.",
        mend=(
            "systemctl reboot --firmware-setup  # switch on: Above 4G Decoding; a guest: give it a larger 64-bit window",
        ),
        look=_unassigned,
        explains=("gpu-init-failed", "gpu-missing-in-nvml"),
        references=("NVIDIA/gpu-operator#492", "NVIDIA/open-gpu-kernel-modules#344", "xCuri0/ReBarUEFI#395"),
        patterns=(
            r"NVRM: This PCI I/O region assigned to your NVIDIA device is invalid",
            r"NVRM: BAR\d is 0M @ 0x0 \(PCI:(?P<gpu>[0-9a-fA-F:.]+)\)",
            r"pci (?P<gpu>[0-9a-f:.]+): BAR \d.*(?:can't assign; no space|failed to assign)",
        ),
    ),
    Known(
        id="pcie-link-degraded",
        step="driver",
        severity="warning",
        title="A GPU's PCIe link is narrower or slower than it could be",
        sees="slow transfers without any error; `LnkSta: … (downgraded)` in lspci",
        proof="`current_link_width` is below what GPU and port can both do; or NVML tells a lower generation "
        "while the GPU works at full clocks",
        cause="A GPU's PCIe link is {how} than both of its ends can do: a matter of seating, riser or the firmware's slot settings.",
        mend=("systemctl poweroff  # reseat the board, look at the riser and the firmware's slot settings",),
        look=_link,
        explains=("gpu-fallen-off-bus",),
        references=("NVIDIA/NVSentinel#890", "geerlingguy/raspberry-pi-pcie-devices#480", "janhq/jan#183"),
        patterns=(
            r"LnkSta:\s+Speed [\d.]+GT/s(?: \(\w+\))?, Width x\d+ \(downgraded\)",
            r"\d+\.\d+ Gb/s available PCIe bandwidth, limited by",
        ),
    ),
    Known(
        id="gpu-slowdown",
        step="driver",
        severity="warning",
        title="A GPU is held back by heat or power now",
        sees="jobs slower than on the neighbour; `HW Thermal Slowdown : Active`, `HW Power Brake Slowdown : Active`",
        proof="NVML names heat, power brake or a hardware slowdown among the reasons of the clocks, at the moment of the look",
        cause="A GPU runs below its clocks at this moment because of {reasons}.",
        mend=("nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER  # then air flow, fans and the power supply",),
        look=_slowdown,
        explains=("gpu-fallen-off-bus",),
        references=("intel/thermal_daemon#300", "NVIDIA/NVSentinel#1666", "NVIDIA/NVSentinel#1371"),
        patterns=(r"(?:HW Slowdown|HW Thermal Slowdown|HW Power Brake Slowdown|SW Thermal Slowdown)\s+: Active",),
    ),
    Known(
        id="ecc-uncorrected",
        step="driver",
        severity="error",
        title="A GPU's memory had errors that could not be corrected",
        sees="`CUDA error: uncorrectable ECC error encountered`, CUDA error 214",
        proof="NVML counts uncorrected ECC errors since the driver was loaded; earlier ones do not count",
        cause="Memory of {gpus} failed beyond correction since the driver was loaded.",
        mend=(
            "nvidia-smi --gpu-reset -i {index}  # no job may run on it",
            "nvidia-smi -q -d ECC,ROW_REMAPPER  # again: the vendor",
        ),
        look=_ecc,
        explains=("rows-remapped", "xid"),
        references=("NVIDIA/k8s-device-plugin#243", "vllm-project/vllm#5222", "nagadit/DeepFaceLab_Linux#89"),
        patterns=(r"(?i)uncorrectable ECC error encountered", r"CUDA_ERROR_ECC_UNCORRECTABLE"),
    ),
    Known(
        id="rows-remapped",
        step="driver",
        severity="warning",
        title="A GPU waits for a reset to take bad memory out of use",
        sees="nothing, or Xid 63 and 64; `Remapped Rows … Pending : Yes`; jobs that fail again and again on one GPU",
        proof="NVML says that remapped rows (before Ampere: retired pages) are pending, or that remapping failed",
        cause="Bad memory of a GPU {state}.",
        mend=("nvidia-smi --gpu-reset -i {index}  # no job may run on it",),
        look=_rows,
        explains=("xid",),
        references=("aws/eks-node-monitoring-agent#245", "leptonai/gpud#80", "leptonai/gpud#987"),
        patterns=(r"(?s)Remapped Rows.{0,300}?(?:Pending\s+: Yes|Remapping Failure Occurred\s+: Yes)",),
    ),
    Known(
        id="nvlink-down",
        step="driver",
        severity="error",
        title="NVLinks are down that the same board has",
        sees="`Unable to retrieve NVLink information as all links are inActive`; collectives slow or hung; Xid 74, 144 to 150",
        proof="NVML shows fewer active NVLinks on a GPU than on another of the same model in this host",
        cause="{gpus} has fewer NVLinks up than the same board beside it.",
        mend=(
            f"systemctl status {FABRIC_MANAGER}  # its log first",
            DRAIN,
            "nvidia-bug-report.sh  # again: the vendor",
        ),
        look=_nvlink,
        explains=("xid",),
        references=("NVIDIA/open-gpu-kernel-modules#1150", "kubernetes-sigs/dra-driver-nvidia-gpu#843"),
        patterns=(
            r"Unable to retrieve N[vV][lL]ink information as all links are inActive",
            r"NVRM: knvlink\w+: (?:Failed to update Rx Detect Link mask|Getting peer\d+.*postRxDetLinkMask failed)",
        ),
    ),
    Known(
        id="gpu-missing-in-nvml",
        step="driver",
        severity="error",
        title="A GPU that PCI shows is not among the driver's",
        sees="`nvidia-smi` lists fewer GPUs than `lspci`",
        proof="an NVIDIA display controller on PCI that NVML does not show while it shows others; not one set aside for a guest "
        "or excluded",
        cause="GPU {gpus} is on PCI and the driver did not bring it up.",
        mend=("journalctl --dmesg --grep={first}", DRAIN, SEAT),
        look=_missing,
        explains=("plugin-no-resource",),
        references=("NVIDIA/NVSentinel#684", "NixOS/nixpkgs#73804", "microsoft/pai#3537"),
    ),
    Known(
        id="nvml-hangs",
        step="driver",
        severity="error",
        title="The driver does not answer",
        sees="`nvidia-smi` never returns; processes in state D; a reboot that stalls at the persistence daemon",
        proof="NVML, asked in a child process, did not answer in 5 seconds",
        cause="The driver {message}: what asks it waits in the kernel, where nothing can end it.",
        mend=(
            "journalctl --dmesg --grep=NVRM  # the reason, if it said one",
            "systemctl reboot  # a process in state D cannot be ended",
        ),
        look=_hangs,
        explains=("plugin-no-resource", "nvml:driver"),
        references=("NVIDIA/open-gpu-kernel-modules#971", "NVIDIA/k8s-device-plugin#301", "leptonai/gpud#117"),
        patterns=(
            r"INFO: task (?P<task>nvidia-\S+|cache_mgr\S*|gdscheck|python\S*):\d+ blocked for more than \d+ seconds",
        ),
    ),
    Known(
        id="mig-pending",
        step="driver",
        severity="warning",
        title="A change of the MIG mode waits for a reset",
        sees="`Warning: MIG mode is in pending enable state for GPU …: In use by another client`; `GPU requires reset`",
        proof="NVML's current MIG mode is not its pending one",
        cause="{gpus} is to change its MIG mode and could not be reset, because something holds it.",
        mend=(
            "nvidia-smi --gpu-reset -i {index}  # no job may run on it",
            "systemctl reboot  # in a guest without reset",
        ),
        look=_mig,
        explains=("mig-layout-mismatch", "plugin-no-resource"),
        references=("NVIDIA/mig-parted#181", "NVIDIA/gpu-operator#118", "kubernetes-sigs/dra-driver-nvidia-gpu#883"),
        patterns=(
            r"MIG mode is in pending (?:enable|disable) state",
            r"The following GPUs could not be reset",
            r"Mode change pending: true",
        ),
    ),
)
