"""What a person, or a program, sees of a run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import get_args

import pytest
from report_samples import (
    DRIVER,
    ENTRIES,
    ESCAPE,
    INTENTS,
    LONG_PATH,
    PROBES,
    RUN,
    SOURCE_DIFF,
    TOML_DIFF,
    Bytes,
    Tty,
    applied,
    on_screen,
    piped,
    report,
)

from gpunode.engine.results import DifferenceResult, ProbeState, Report, Result, StepResult, StepState
from gpunode.errors import GpunodeError, HostError, RefusedError
from gpunode.host.verbs import VERBS
from gpunode.host.verbs.describe import describe
from gpunode.report import json_report
from gpunode.report.terminal import Terminal
from gpunode.report.words import ASCII, clean, duration, human_name, symbols_for


def show_everything(terminal: Terminal) -> None:
    terminal.plan(report())
    terminal.check(report("drift", "check"))
    terminal.verify(
        Report("verify", "not-verified", steps=[StepResult("verify", "Smoke tests", "failed", probes=PROBES)])
    )
    terminal.summary(applied("not-verified"))
    terminal.rollback(Report("rollback", "undone", left=["module nvidia stays loaded until the next boot"]))
    terminal.history([RUN])
    terminal.history_run(RUN)
    terminal.profile_show([("driver.branch", "580", "profile.toml line 3"), ("cuda.enabled", "false", "default")])
    terminal.error(HostError("it failed", hint="try this", details=("a log line",)))


def test_piped_there_is_no_escape_code_and_no_line_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal, out, err = piped()
    show_everything(terminal)
    text = out.getvalue() + err.getvalue()
    assert "\x1b" not in text
    assert f"  + file {LONG_PATH}\n" in text
    assert f"  cause     {DRIVER.findings[0].cause}\n" in text
    blank_context = " " * 7  # a diff's unchanged empty line
    assert all(line == line.rstrip() for line in text.splitlines() if line != blank_context)


@pytest.mark.parametrize("diff", [SOURCE_DIFF, TOML_DIFF])
def test_diff_lines_are_printed_as_they_are(diff: str) -> None:
    terminal, out, _ = piped()
    terminal.plan(report())
    body = "".join(f"      {line}\n" for line in diff.splitlines()[2:])
    assert body in out.getvalue()
    assert diff.splitlines()[0] not in out.getvalue()


def test_a_diff_whose_path_was_not_told_keeps_its_headlines() -> None:
    terminal, out, _ = piped()
    removed = DifferenceResult(
        "absent:/etc/*x*", "/etc/axe", "present", "absent", "", "--- /etc/axe\n+++ /etc/axe\n-a\n"
    )
    terminal.plan(
        Report("plan", "pending", steps=[StepResult("driver", "NVIDIA driver", "drift", differences=[removed])])
    )
    assert "  - files /etc/*x*  /etc/axe\n      --- /etc/axe\n      +++ /etc/axe\n      -a\n" in out.getvalue()


def test_a_plan_reads_like_a_diff() -> None:
    terminal, out, _ = piped()
    terminal.plan(report())
    lines = out.getvalue().splitlines()
    assert "~ driver · NVIDIA driver · 7 changes" in lines
    assert "  ~ packages for driver" in lines
    assert "      nvidia-open  absent → 580.159.04-1" in lines
    assert lines.count("      the profile asks for branch 580") == 1
    assert "  ~ service nvidia-persistenced.service              enabled: disabled → enabled" in lines
    assert "  + kernel module nvidia                             loaded, 580.159.04 (open)" in lines
    assert "  ! cannot be undone: a loaded kernel module that is in use stays until the next boot" in lines
    assert "  ↻ restarts containerd.service" in lines
    assert "✓ cuda · CUDA toolkit · in sync" in lines
    assert "Plan: 8 changes in 2 steps; restarts containerd.service; 1 thing cannot be undone." in lines


def test_check_tells_causes_first_with_commands_to_copy() -> None:
    terminal, out, _ = piped()
    terminal.check(report("drift", "check"))
    text = out.getvalue()
    assert text.startswith("error: The loaded driver and its libraries are of different versions\n")
    assert "  mend      systemctl stop kubelet\n            rmmod nvidia_uvm nvidia && modprobe nvidia\n" in text
    assert text.index("mend") < text.index("~ driver")
    assert "Check: 8 differences in 2 steps; 1 finding.\n" in text


def test_verify_shows_a_failure_with_its_evidence() -> None:
    terminal, out, _ = piped()
    terminal.verify(
        Report(
            "verify", "not-verified", steps=[StepResult("verify", "Smoke tests", "failed", probes=PROBES)], seconds=2.9
        )
    )
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["tried", "proves", "result", "time"]
    assert re.search(
        r"list the GPUs through NVML +the driver and its library speak to the GPU +✓ passed +0.1 s", lines[1]
    )
    assert "  the container was given no /dev/nvidia0" in lines
    assert lines[-1] == "Not verified: 2 of 4 tests passed, 1 failed, 1 skipped. (2.9 s)"


def test_a_summary_tells_the_run_and_how_to_take_it_back() -> None:
    terminal, out, _ = piped()
    terminal.summary(applied())
    assert "Run 0007. To take it back: gpunode rollback\n" in out.getvalue()
    assert "driver: the DKMS build takes about three minutes\n" in out.getvalue()


def test_a_summary_of_nothing_is_one_line() -> None:
    terminal, out, _ = piped()
    terminal.summary(Report("apply", "in-sync", steps=[StepResult("cuda", "CUDA toolkit")], seconds=0.4))
    assert out.getvalue() == "Nothing to do: the host is as the profile says. (0.4 s)\n"


@pytest.mark.parametrize("result", get_args(Result))
def test_every_result_has_words(result: Result) -> None:
    for command in ("plan", "check", "verify", "summary", "rollback"):
        terminal, out, _ = piped()
        getattr(terminal, command)(replace(report(result), run="0001"))
        assert out.getvalue().strip()


@pytest.mark.parametrize("state", get_args(StepState))
def test_every_step_state_has_words(state: StepState) -> None:
    terminal, out, _ = piped()
    terminal.plan(Report("plan", "pending", steps=[StepResult("cuda", "CUDA toolkit", state, why="a reason")]))
    assert re.match(r"\S cuda · CUDA toolkit · .+: a reason\n", out.getvalue())


@pytest.mark.parametrize("state", get_args(ProbeState))
def test_every_probe_state_has_words(state: ProbeState) -> None:
    terminal, out, _ = piped()
    terminal.verify(Report("verify", steps=[StepResult("v", "V", probes=[replace(PROBES[0], state=state)])]))
    assert state in out.getvalue()


def test_an_error_is_one_line_then_details_then_the_hint() -> None:
    terminal, out, err = piped()
    terminal.error(
        HostError("containerd did not\ncome back", hint="see its log", details=("line one\nline two", "three"))
    )
    assert err.getvalue() == "gpunode: containerd did not come back\n  line one\n  line two\n  three\n  → see its log\n"
    assert out.getvalue() == ""


def test_a_refusal_lists_every_reason() -> None:
    terminal, _, err = piped()
    terminal.error(RefusedError(("no GPU", "Secure Boot is on"), hint="see the manual"))
    terminal.refusal(("no GPU",))
    assert err.getvalue() == (
        "gpunode: 2 reasons not to begin; nothing was changed\n  - no GPU\n  - Secure Boot is on\n  → see the manual\n"
        "gpunode: no GPU\n"
    )


def test_a_report_s_error_goes_to_standard_error() -> None:
    terminal, out, err = piped()
    terminal.summary(replace(applied("failed"), error="apt-get failed", hint="run it again", details=("E: no",)))
    assert err.getvalue() == "gpunode: apt-get failed\n  E: no\n  → run it again\n"
    assert "Run 0007. To go on from here: gpunode apply. To take it back: gpunode rollback" in out.getvalue()


def test_colour_is_for_terminals_and_can_be_refused_or_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, out = on_screen(monkeypatch, 100)
    terminal.plan(report())
    assert "\x1b[32m+ " in out.getvalue()
    terminal, out = on_screen(monkeypatch, 100, "never")
    terminal.plan(report())
    assert "\x1b" not in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    out = Tty()
    Terminal(out=out, err=out).plan(report())
    assert "\x1b" not in out.getvalue()
    terminal, forced, _ = piped("always")
    terminal.plan(report())
    assert ESCAPE.search(forced.getvalue())
    plain, out_plain, _ = piped()
    plain.plan(report())
    assert ESCAPE.sub("", forced.getvalue()) == out_plain.getvalue()


def test_a_narrow_terminal_folds_prose_between_words_and_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, out = on_screen(monkeypatch, 60)
    show_everything(terminal)
    lines = ESCAPE.sub("", out.getvalue()).splitlines()
    assert f"  + file {LONG_PATH}" in lines
    assert "      enabled: disabled → enabled" in lines
    too_wide = [line for line in lines if len(line) > 60]
    assert all(re.search(r"/|\[plugins|SystemdCgroup|^0007 |  evidence", line) for line in too_wide), too_wide


def test_symbols_are_those_that_the_encoding_has() -> None:
    assert symbols_for("latin-1") == ASCII
    out = Bytes("latin-1")
    terminal = Terminal(out=out, err=out)
    show_everything(terminal)
    text = out.getvalue()
    assert "v cuda - CUDA toolkit - in sync" in text
    assert "550.163.01-1 -> 580.159.04-1" in text


def test_what_would_steer_a_terminal_is_shown_instead() -> None:
    assert clean("a\x1b[2Jb\tc\u202ed") == "a\\x1b[2Jb\tc\\u202ed"
    out = Bytes("utf-8")
    Terminal(out=out, err=out).error(GpunodeError("bad \x1b]0;name", details=("\udcff",)))
    assert out.getvalue() == "gpunode: bad \\x1b]0;name\n  \\udcff\n"


def test_every_verb_has_a_description() -> None:
    assert set(VERBS) <= set(INTENTS)
    for entry in ENTRIES:
        assert describe(entry) == INTENTS[entry.verb][1]
    assert describe(replace(ENTRIES[0], intent={})) == "write-file: r"


def test_history_tells_interrupted_and_undone_runs() -> None:
    terminal, out, _ = piped()
    undone = replace(RUN, run="0008", entries=[replace(ENTRIES[0], undone_by="0009")])
    terminal.history([replace(RUN, result="", ended_at=None), undone])
    first, second = out.getvalue().splitlines()[1:]
    assert "interrupted" in first
    assert "3 min 02 s" in second
    assert "1, taken back" in second
    terminal.history_run(
        replace(undone, entries=[*undone.entries, replace(ENTRIES[1], state="failed", note="disk full")])
    )
    assert re.search(r"made /etc/a +taken back by 0009\n.*removed /etc/b +failed\n\n2: disk full\n$", out.getvalue())


def test_json_is_the_report_s_document() -> None:
    for sample in (report(), applied()):
        text = json_report.dump(sample)
        assert json.loads(text) == json.loads(json.dumps(sample.document()))
        assert text.startswith('{\n  "schema": "gpunode/1"')
    assert "→" in json_report.dump(Report("plan", error="a → b"))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (134, "2 min 14 s"), (3780, "1 h 03 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_names_are_those_that_a_person_uses() -> None:
    assert human_name("key:/usr/share/k.gpg") == "signing key /usr/share/k.gpg"
    assert human_name("kernel-argument:a:b") == "kernel argument a:b"
    assert human_name("object:daemonset/plugin") == "daemonset/plugin"
