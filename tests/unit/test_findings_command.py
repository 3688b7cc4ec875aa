"""`gpunode findings` lists the catalogue and explains an entry of it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from gpunode.cli import app
from gpunode.engine.failures import failure, failures
from gpunode.errors import UsageError
from gpunode.findings import known

RUNNER = CliRunner()


def test_it_lists_every_failure_causes_first() -> None:
    done = RUNNER.invoke(app, ["findings"])
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert rows[0] == ["id", "severity", "step", "what", "is", "wrong"]
    assert [row[0] for row in rows[1:-1]] == [each.id for each in known()]


def test_it_explains_one() -> None:
    done = RUNNER.invoke(app, ["findings", "plugin-no-resource"])
    assert done.exit_code == 0
    assert "error: The node offers no GPU" in done.stdout
    for words in (
        "people see",
        "proved by",
        "mend",
        "gpunode apply --step device_plugin",
        "NVIDIA/k8s-device-plugin#285",
    ):
        assert words in done.stdout
    assert "explained by  " in done.stdout
    assert "gpu-fallen-off-bus" in done.stdout


def test_what_a_host_fills_in_stands_in_capitals() -> None:
    assert failure("mig-pending").mend[0] == "nvidia-smi --gpu-reset -i INDEX  # no job may run on it"
    texts = [text for each in failures() for text in (each.cause, *each.mend, *each.explains)]
    assert [text for text in texts if "{" in text and "spec" not in text] == []


def test_as_json() -> None:
    done = RUNNER.invoke(app, ["findings", "xid", "--output", "json"])
    document = json.loads(done.stdout)
    assert (document["schema"], document["command"]) == ("gpunode/1", "findings")
    (entry,) = document["findings"]
    assert entry["id"] == "xid"
    assert "plugin-no-resource" in entry["explains"]
    assert "sxid" in entry["explained_by"]


def test_an_unknown_one_is_a_usage_error_that_names_the_nearest() -> None:
    done = RUNNER.invoke(app, ["findings", "driver-library-missmatch"])
    assert done.exit_code == 2
    assert "there is no finding driver-library-missmatch" in done.stderr
    assert "driver-library-mismatch" in done.stderr
    with pytest.raises(UsageError):
        failure("")
