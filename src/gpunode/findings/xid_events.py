"""The driver's and the switches' own error lines in the kernel's log, as data: Xid, SXid, and a GPU that fell off the bus."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gpunode.host.kernel_log import LogLine

ADDRESS = r"(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-9a-fA-F])?"
XID = re.compile(
    rf"NVRM: Xid \((?:PCI:)?(?P<gpu>{ADDRESS})\): (?P<xid>\d+)"
    r"(?:, pid='?<?(?P<pid>[^,'>(]+)>?'?(?:\(#\d+\))?)?(?:, name='?<?(?P<name>[^,'>]*)>?'?)?,? ?(?P<rest>.*)"
)
NVLINK = re.compile(r"^(?P<unit>[A-Z_]+(?:/[A-Z_]+)?) (?P<grade>Fatal|Nonfatal) XC\d+ i\d+ Link (?P<link>-?\d+)")
RECOVERY = re.compile(
    r"GPU recovery action changed from 0x[0-9a-f]+ \([^)]*\) to (?P<code>0x[0-9a-f]+) \((?P<label>[^)]*)\)"
)
SYMPATHETIC = re.compile(r"caused by previous Xid \d+")
SXID = re.compile(
    rf"nvidia-nvswitch\d+: SXid \(PCI:(?P<switch>{ADDRESS})\): (?P<sxid>\d+), (?P<grade>Fatal|Non-fatal)"
    r"(?:, Link (?P<link>\d+))?,? ?(?P<rest>.*)"
)
LOST = (
    re.compile(rf"NVRM: Xid \((?:PCI:)?(?P<gpu>{ADDRESS})\): 79,.*fallen off the bus"),
    re.compile(rf"NVRM: GPU (?P<gpu>{ADDRESS}): GPU has fallen off the bus"),
)
LOST_BEGINS = re.compile(rf"NVRM: The NVIDIA GPU (?P<gpu>{ADDRESS})\s*$")
LOST_ENDS = "fallen off the bus and is not responding to commands"
LOST_LINES = 4
"""The third wording is a sentence folded over this many lines at most."""
SAME_EVENT_SECONDS = 1.0
UNKNOWN = "unknown"


@dataclass(frozen=True)
class XidEvent:
    """One Xid line. `gpu` is an address as in sysfs; `pid` and `process` are empty where the driver does not know them.

    `grade` is `Fatal` or `Nonfatal` in NVLink's extended form, `link` its number there, `recovery` the code that Xid 154 names.
    """

    gpu: str
    number: int
    when: float | None
    pid: str = ""
    process: str = ""
    rest: str = ""
    grade: str = ""
    link: str = ""
    recovery: str = ""


@dataclass(frozen=True)
class SwitchEvent:
    """One SXid line of an NVSwitch."""

    switch: str
    number: int
    fatal: bool
    when: float | None
    rest: str


@dataclass(frozen=True)
class Loss:
    """A GPU that fell off the bus: how often that was said in one way or another, and when last."""

    gpu: str
    count: int
    last: LogLine


def address(text: str) -> str:
    """A PCI address as in sysfs: four digits of domain, in lower case, with the function."""
    *domain, bus, device = text.lower().split(":")
    whole = f"{int(domain[0], 16) if domain else 0:04x}:{bus}:{device}"
    return whole if "." in device else f"{whole}.0"


def xid_events(lines: Iterable[LogLine]) -> Iterator[XidEvent]:
    """The Xid lines, oldest first, without those that only follow from another."""
    for line in lines:
        found = XID.search(line.text)
        if found and not SYMPATHETIC.search(found["rest"]):
            yield _xid_event(found, line.when)


def _xid_event(found: re.Match[str], when: float | None) -> XidEvent:
    link, recovery = NVLINK.match(found["rest"]), RECOVERY.search(found["rest"])
    return XidEvent(
        gpu=address(found["gpu"]),
        number=int(found["xid"]),
        when=when,
        pid=_told(found["pid"]),
        process=_told(found["name"]),
        rest=found["rest"],
        grade=link["grade"] if link else "",
        link=link["link"] if link else "",
        recovery=recovery["code"] if recovery else "",
    )


def _told(word: str | None) -> str:
    return "" if word is None or word == UNKNOWN else word


def switch_events(lines: Iterable[LogLine]) -> Iterator[SwitchEvent]:
    """The SXid lines, oldest first. The lines `Severity …` and `Data {…}` that follow belong to the same event and are left out."""
    for line in lines:
        found = SXID.search(line.text)
        if found:
            fatal = found["grade"] == "Fatal"
            yield SwitchEvent(address(found["switch"]), int(found["sxid"]), fatal, line.when, found["rest"])


def losses(lines: Sequence[LogLine]) -> dict[str, Loss]:
    """The GPUs that fell off the bus, by address; two wordings within a second are one event."""
    found: dict[str, Loss] = {}
    for gpu, line in _lost(lines):
        before = found.get(gpu)
        same = before is not None and abs((line.when or 0) - (before.last.when or 0)) < SAME_EVENT_SECONDS
        found[gpu] = Loss(gpu, (before.count if before else 0) + (0 if same else 1), line)
    return found


def _lost(lines: Sequence[LogLine]) -> Iterator[tuple[str, LogLine]]:
    for number, line in enumerate(lines):
        match = next((match for wording in LOST if (match := wording.search(line.text))), None)
        begins = LOST_BEGINS.search(line.text)
        following = lines[number : number + LOST_LINES]
        if match:
            yield address(match["gpu"]), line
        elif begins and any(LOST_ENDS in each.text for each in following):
            yield address(begins["gpu"]), line
