"""A run as it is shown while it happens."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time

import pytest
from report_samples import ESCAPE, on_screen, piped

from gpunode.report.live import Live

pytestmark = pytest.mark.slow


def drive(live: Live) -> None:
    live.step_began("cuda", "CUDA toolkit", 4)
    live.resource_ended("cuda", "file:/etc/profile.d/cuda.sh", 0.0, "")
    live.step_ended("cuda", "in-sync", 0.1)
    live.step_began("driver", "NVIDIA driver", 9)
    live.resource_began("driver", "packages:driver", "nvidia-open absent → 580")
    live.line("Reading\rBuilding\x1b[K module\n")
    live.resource_ended("driver", "packages:driver", 12.3, "")
    live.resource_began("driver", "module:nvidia", "not loaded → loaded")
    live.resource_ended("driver", "module:nvidia", 0.5, "modprobe failed")
    live.step_ended("driver", "failed", 13.0)
    live.probe_ended("pod", "skipped", "no cluster", 0.0)
    live.undone("driver", "loaded the kernel module nvidia", ("it stays until the next boot",))


LIVE_LINES = [
    "✓ cuda · CUDA toolkit · in sync",
    "▸ driver · NVIDIA driver",
    "  ✓ packages for driver  nvidia-open absent → 580  (12 s)",
    "  ✗ kernel module nvidia  modprobe failed  (0.5 s)",
    "  – pod  skipped: no cluster",
    "! driver  took back: loaded the kernel module nvidia",
    "  left: it stays until the next boot",
]


def test_live_piped_is_one_plain_line_a_resource() -> None:
    terminal, out, err = piped()
    with Live(terminal) as live:
        drive(live)
    assert out.getvalue().splitlines() == LIVE_LINES
    with Live(terminal, on_stderr=True) as live:
        drive(live)
    assert err.getvalue().splitlines() == LIVE_LINES


def test_live_verbose_shows_what_commands_print_and_what_was_in_sync() -> None:
    terminal, out, _ = piped(verbose=True)
    with Live(terminal) as live:
        drive(live)
    lines = out.getvalue().splitlines()
    assert r"    Building\x1b[K module" in lines
    assert "  ✓ file /etc/profile.d/cuda.sh  (0.0 s)" in lines


def test_live_piped_says_that_a_long_command_is_still_at_it() -> None:
    terminal, out, _ = piped()
    with Live(terminal, heartbeat_seconds=0.02) as live:
        live.resource_began("driver", "packages:driver", "")
        live.line("Building module")
        time.sleep(0.15)
        live.received(3_000_000, 9_000_000)
        time.sleep(0.15)
    text = out.getvalue()
    assert re.search(r"^  … still at packages for driver after 0\.\d s: Building module$", text, re.M)
    assert re.search(r"after 0\.\d s: 3\.0 MB of 9\.0 MB, \d+(\.\d)? MB/s$", text, re.M)
    assert not any(thread.name == "heartbeat" for thread in threading.enumerate())


def test_live_on_a_narrow_terminal_leaves_finished_lines_and_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, out = on_screen(monkeypatch, 40)
    with pytest.raises(KeyboardInterrupt), Live(terminal) as live:
        live.resource_began("driver", "packages:driver", "nvidia-open " * 20)
        live.line("a very long line of output " * 20)
        time.sleep(0.4)
        live.received(30_000_000, 90_000_000)
        time.sleep(0.4)
        live.resource_ended("driver", "packages:driver", 1.0, "")
        raise KeyboardInterrupt
    text = out.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    lines = [line for line in re.split(r"[\r\n]+", ESCAPE.sub("", text)) if line]
    assert any(line.startswith("      a very long line of output") for line in lines)
    assert any(line.startswith("      30 MB of 90 MB") for line in lines)
    assert "  ✓ packages for driver  (1.0 s)" in lines
    assert any(re.fullmatch(r"  \S packages for driver  nvidia.* \d s", line) for line in lines)
    assert max(map(len, lines)) <= 40
    time.sleep(0.3)
    assert out.getvalue() == text


def test_live_may_be_called_from_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, out = on_screen(monkeypatch, 100)
    with Live(terminal) as live:
        threads = [threading.Thread(target=drive, args=(live,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
        assert not any(thread.is_alive() for thread in threads)
    assert out.getvalue().count("took back: loaded") == 8


def test_plain_output_needs_no_rich() -> None:
    program = (
        "import sys, gpunode.report.terminal as t, gpunode.report.live, gpunode.engine.results as r;"
        "t.Terminal().plan(r.Report('plan')); sys.exit('rich' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=30)
