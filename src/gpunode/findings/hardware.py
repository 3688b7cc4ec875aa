"""The hardware's own word in the kernel's log: GPUs that fell off the bus, Xid and SXid. No mend here installs anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpunode.catalog.xids import PROGRAMS_FAULT, Action, Gravity, action, xids
from gpunode.findings.evidence import Evidence, clock
from gpunode.findings.model import Known, Proof, Severity
from gpunode.findings.xid_events import (
    ADDRESS,
    LOST,
    LOST_ENDS,
    SXID,
    XID,
    SwitchEvent,
    XidEvent,
    losses,
    switch_events,
    xid_events,
)

DRAIN = "systemctl reboot  # after draining the node"
SEAT = "nvidia-bug-report.sh  # if it comes back: seating, power cables, slot, firmware, then the vendor"
FALLEN, RECOVERY_CHANGED = 79, 154
GRAVITIES: tuple[Gravity, ...] = ("error", "warning", "info", "none")
RECOVERIES = {"0x1": "RESET_GPU", "0x2": "RESTART_BM", "0x3": "RESET_GPU", "0x4": "RESET_GPU"}
"""Xid 154 names what is to be done by code: reset, reboot, drain the links, drain and reset."""
FRESH_SECONDS = 86_400.0
"""A program's own fault is told of for a day; what the GPU needs is told of until it is done."""
LINES_AT_MOST = 8


def _fallen(evidence: Evidence) -> Proof | None:
    nvml, told = evidence.asked.nvml, losses(evidence.asked.kernel or ())
    silent = {gpu.address for gpu in evidence.gpus if gpu.silent}
    lost = [name for name in sorted({*told, *silent}) if nvml is None or not nvml.has(name) or name in silent]
    if not lost:
        return None
    lines = [
        f"kernel log: {clock(told[name].last.when)} {told[name].last.text} (times since the boot: {told[name].count})"
        for name in lost
        if name in told
    ]
    lines += [f"/sys/bus/pci/devices/{name}/config: reads as ones, wanted 10de" for name in lost if name in silent]
    lines += [f"NVML: {gpu.label}: {gpu.error}" for gpu in nvml.gpus if gpu.error] if nvml else []
    words = {"gpus": ", ".join(lost), "when": _at(max((told[name].last.when or 0 for name in told), default=0))}
    return Proof(tuple(lines), words)


def _at(seconds: float) -> str:
    return f"at {clock(seconds)}" if seconds else "at a time that is not logged"


@dataclass(frozen=True)
class _Group:
    """All events of one number on one GPU, and what is to be done about them."""

    events: Sequence[XidEvent]
    meaning: str
    action: Action
    gravity: Gravity

    @property
    def last(self) -> XidEvent:
        return self.events[-1]

    @property
    def rank(self) -> tuple[int, float]:
        """The gravest first, the newest of those."""
        return GRAVITIES.index(self.gravity), -(self.last.when or 0)

    def line(self) -> str:
        last = self.last
        who = f", pid {last.pid}" if last.pid else ""
        who += f" ({last.process})" if last.process else ""
        link = f", link {last.link} {last.grade}" if last.grade else ""
        times = f"{len(self.events)} times, last" if len(self.events) > 1 else "once,"
        return f"kernel log: GPU {last.gpu}: Xid {last.number} ({self.meaning}) {times} {clock(last.when)}{who}{link}"


def _xid(evidence: Evidence) -> Proof | None:
    groups = sorted(_groups(evidence), key=lambda group: group.rank)
    if not groups:
        return None
    gravest = groups[0]
    lines = [group.line() for group in groups[:LINES_AT_MOST]]
    lines += [f"kernel log: and {len(groups) - LINES_AT_MOST} more kinds"] if len(groups) > LINES_AT_MOST else []
    last = gravest.last
    words = {"gpu": last.gpu, "xid": str(last.number), "meaning": gravest.meaning, "action": gravest.action.words}
    words |= {"count": f"{len(gravest.events)} times" if len(gravest.events) > 1 else "once", "when": clock(last.when)}
    severity: Severity = gravest.gravity if gravest.gravity != "none" else "info"
    return Proof(tuple(lines), words, mend=(gravest.action.mend,), severity=severity)


def _groups(evidence: Evidence) -> list[_Group]:
    """What wants something done, by GPU and number."""
    events: dict[tuple[str, int], list[XidEvent]] = {}
    for event in xid_events(evidence.asked.kernel or ()):
        if event.number != FALLEN and event.number not in PROGRAMS_FAULT:
            events.setdefault((event.gpu, event.number), []).append(event)
    groups = (_group(each) for each in events.values())
    return [group for group in groups if group.gravity != "none" and not _old(group, evidence.context.facts.now)]


def _group(events: list[XidEvent]) -> _Group:
    last = events[-1]
    known = xids().get(last.number)
    meaning = known.meaning if known else "not in NVIDIA's catalogue of October 2025"
    if last.number == RECOVERY_CHANGED and last.recovery:
        named = action(RECOVERIES.get(last.recovery, "IGNORE"))
        return _Group(events, last.rest, named, named.gravity)
    if known is None:
        unknown = Action("", "info", "what it wants is not known", "nvidia-bug-report.sh  # for the vendor")
        return _Group(events, meaning, unknown, "info")
    fatal = any(event.grade == "Fatal" for event in events)
    return _Group(events, meaning, known.action, "error" if fatal else known.action.gravity)


def _old(group: _Group, now: float) -> bool:
    return group.gravity != "error" and group.last.when is not None and now - group.last.when > FRESH_SECONDS


def _sxid(evidence: Evidence) -> Proof | None:
    by_kind: dict[tuple[str, int, bool], list[SwitchEvent]] = {}
    for event in switch_events(evidence.asked.kernel or ()):
        by_kind.setdefault((event.switch, event.number, event.fatal), []).append(event)
    told = [events for (_, _, fatal), events in by_kind.items() if fatal or len(events) > 1]
    if not told:
        return None
    gravest = min(told, key=lambda events: (not events[-1].fatal, -(events[-1].when or 0)))
    last = gravest[-1]
    lines = [_switch_line(events) for events in told[:LINES_AT_MOST]]
    words = {"switch": last.switch, "sxid": str(last.number), "grade": _grade(last), "when": clock(last.when)}
    return Proof(tuple(lines), words, severity="error" if last.fatal else "warning")


def _switch_line(events: list[SwitchEvent]) -> str:
    last = events[-1]
    what = f"SXid {last.number} {_grade(last)} {len(events)} times, last {clock(last.when)}"
    return f"kernel log: NVSwitch {last.switch}: {what}: {last.rest}"


def _grade(event: SwitchEvent) -> str:
    return "fatal" if event.fatal else "non-fatal"


FINDINGS = (
    Known(
        id="gpu-fallen-off-bus",
        step="driver",
        severity="error",
        title="A GPU has fallen off the bus",
        sees="jobs die; `nvidia-smi` hangs, or says `Unable to determine the device handle for GPU` or `GPU is lost`",
        proof="the kernel's log of this boot says so in one of its three wordings and the driver does not show the GPU, or its PCI "
        "configuration reads as ones",
        cause="GPU {gpus} stopped answering on PCIe {when}: power, temperature, riser, seating or firmware, which no installation mends.",
        mend=(DRAIN, SEAT),
        look=_fallen,
        explains=("nvml-hangs", "gpu-missing-in-nvml", "gpu-init-failed", "plugin-no-resource", "xid", "nvml:driver"),
        references=("NVIDIA/open-gpu-kernel-modules#507", "NVIDIA/NVSentinel#155", "pop-os/pop#3363"),
        patterns=(
            *(wording.pattern for wording in LOST),
            rf"(?s)NVRM: The NVIDIA GPU (?P<gpu>{ADDRESS}).{{0,250}}?{LOST_ENDS}",
        ),
    ),
    Known(
        id="sxid",
        step="driver",
        severity="error",
        title="An NVSwitch reported an error",
        sees="collectives hang or fail, the fabric manager stops, all GPUs of the host go at once",
        proof="SXid lines in the kernel's log of this boot: a fatal one, or a non-fatal one that came again",
        cause="NVSwitch {switch} reported SXid {sxid} ({grade}), last at {when}.",
        mend=(
            "systemctl restart nvidia-fabricmanager.service  # no GPU job may run",
            DRAIN,
            "nvidia-bug-report.sh  # again: the vendor",
        ),
        look=_sxid,
        explains=("nvlink-down", "fabric-manager", "xid"),
        patterns=(SXID.pattern, r"detected NVSwitch (?P<grade>fatal|non-fatal) error (?P<sxid>\d+)"),
    ),
    Known(
        id="xid",
        step="driver",
        severity="error",
        title="The driver reported an error of a GPU",
        sees="jobs die with a CUDA error; the plugin says `XidCriticalError: Xid=… on Device=GPU-…, the device will go unhealthy`; "
        "allocatable falls below capacity",
        proof="Xid lines in the kernel's log of this boot whose number wants something done by NVIDIA's catalogue; not those that a "
        "program brings about by itself (13, 31, 43, 45, 68, 109), nor warnings older than a day",
        cause="The driver reported Xid {xid} ({meaning}) for GPU {gpu} {count}, last at {when}: {action}.",
        mend=(
            "nvidia-smi --gpu-reset -i {gpu}  # no job may run on it",
            "systemctl reboot",
            "nvidia-bug-report.sh  # for the vendor",
        ),
        look=_xid,
        explains=("plugin-no-resource", "nvml-hangs"),
        references=(
            "NVIDIA/gpu-operator#1065",
            "akash-network/support#244",
            "NVIDIA/open-gpu-kernel-modules#1355",
            "NVIDIA Xid catalogue",
        ),
        patterns=(XID.pattern, r"XidCriticalError: Xid=(?P<xid>\d+) on Device=(?P<uuid>GPU-[0-9a-f-]+)"),
    ),
)
