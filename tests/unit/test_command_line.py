"""A command line that cannot be understood gets one line on standard error, whichever command it was for."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from gpunode.cli import main


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["gpunode", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["chekc"], "no such command 'chekc'. Did you mean 'check'? (see `gpunode --help`)"),
        (
            ["check", "--profle", "x"],
            "no such option: --profle (Possible options: --profile) (see `gpunode check --help`)",
        ),
        (["apply", "--step"], "option '--step' requires an argument (see `gpunode --help`)"),
        (["history", "1", "2"], "got unexpected extra argument(s) (2) (see `gpunode history --help`)"),
        (["render", "containerd", "--flavour", "k4s"], "invalid value for '--flavour': 'k4s' is not one of"),
        (["check", "--output", "xml"], "invalid value for '--output': 'xml' is not one of 'text', 'json', 'junit'"),
    ],
)
def test_a_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    code, out, err = said(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"gpunode: {line}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["render"], ["profile"]])
def test_without_a_command_the_help_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    code, out, err = said(monkeypatch, capsys, *words)
    assert code == 2
    assert "Commands:" in out + err


@pytest.mark.slow
def test_a_polite_kill_ends_a_job_that_ignores_ctrl_c() -> None:
    """As a script's background jobs do."""
    argv = [sys.executable, "-m", "gpunode", "doctor", "--log", "-"]
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", ignoring, *argv], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        time.sleep(2)  # it waits for its text by then
        job.send_signal(signal.SIGTERM)
        assert job.wait(10) == 130
        assert job.stderr is not None
        assert job.stderr.read().startswith("gpunode: ")
