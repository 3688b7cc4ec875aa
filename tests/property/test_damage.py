"""Every file that is read, and every program's answer, cut short and corrupted: no traceback, no hang, and no wrong "all fine".

A run damages one source of one host and has `check` look at it. `--hypothesis-profile=damage` makes 10^5 of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import pytest
from findings_cases import CASES, case_of, converged, host_of, situation
from hypothesis import given
from hypothesis import strategies as st

from gpunode.engine.check import check
from gpunode.engine.results import Report
from gpunode.errors import GpunodeError
from memory.damage import Damage, DamagedMachine, unreadable
from memory.machine import MemoryMachine

SECONDS_AT_MOST = 5.0
GARBAGE = (
    b"\0",
    b"\xff\xfe",
    b"[",
    b"]]",
    b"{",
    b'"',
    b"'''",
    b"\n",
    b"=",
    b": ",
    b"|",
    b"-----BEGIN",
    b"9" * 40,
    b"\xed\xa0\x80",
)


@dataclass(frozen=True)
class Host:
    """A machine of a case, its profile, and the sources that a look at it reads."""

    machine: MemoryMachine
    profile: dict[str, dict[str, object]] | None
    sources: tuple[str, ...]


@cache
def host(number: int) -> Host:
    """One of the cases' hosts, the converged one first."""
    case = case_of(CASES[number - 1]) if number else {}
    machine = host_of(case, CASES[number - 1]) if number else converged()
    watched = DamagedMachine.of(machine)
    looked(watched, case.get("profile"))
    return Host(machine, case.get("profile"), tuple(sorted(watched.sources)))


def looked(machine: MemoryMachine, profile: dict[str, dict[str, object]] | None = None) -> Report | None:
    """check's report, None where it refuses or fails with a message. Any other exception is a traceback for somebody."""
    try:
        return check(situation(machine, profile))
    except GpunodeError as error:
        assert error.message
        return None


def all_fine(report: Report | None) -> bool:
    """True when nothing at all is said of the host."""
    return report is not None and report.result == "in-sync" and not report.warnings


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """A cut, a few bytes changed, or something put in; the place is a share of the content."""
    kind, place = draw(st.sampled_from(["cut", "behead", "flip", "insert", "repeat"])), draw(st.floats(0, 1))
    byte, garbage = draw(st.integers(1, 255)), draw(st.sampled_from(GARBAGE))

    def damage(content: bytes) -> bytes:
        at = int(place * len(content))
        changed = {
            "cut": content[:at],
            "behead": content[at:],
            "flip": content[:at] + bytes(each ^ byte for each in content[at : at + 1]) + content[at + 1 :],
            "insert": content[:at] + garbage + content[at:],
            "repeat": content[:at] + content[at : at + 40] * 50 + content[at:],
        }
        return changed[kind]

    return damage


@pytest.mark.slow
@given(st.integers(0, len(CASES)), st.integers(0, 10_000), damages())
def test_a_damaged_source_is_no_traceback_and_no_hang(number: int, source: int, damage: Damage) -> None:
    one = host(number)
    machine = DamagedMachine.of(one.machine, one.sources[source % len(one.sources)], damage)
    began = time.monotonic()
    looked(machine, one.profile)
    assert time.monotonic() - began < SECONDS_AT_MOST


FILES = [source for source in host(0).sources if source.startswith("/")]


@pytest.mark.parametrize("source", FILES)
def test_a_file_that_cannot_be_read_is_told_of(source: str) -> None:
    assert all_fine(looked(converged()))
    assert not all_fine(looked(DamagedMachine.of(converged(), source, unreadable)))


MAY_BE_ANYTHING = (
    "/etc/kubernetes/admin.conf",  # kubectl's to understand, and it is not asked here
    "/sys/bus/pci/devices/0000:00:00.0/vendor",  # a device of somebody else's
    "/usr/lib/systemd/system/containerd.service",  # systemd is asked, and knows the unit as it was loaded
)


@pytest.mark.parametrize("source", [source for source in FILES if source not in MAY_BE_ANYTHING])
def test_a_file_of_nonsense_is_told_of(source: str) -> None:
    assert not all_fine(looked(DamagedMachine.of(converged(), source, lambda _content: b"\xff\xfe\x00 [ = {")))
