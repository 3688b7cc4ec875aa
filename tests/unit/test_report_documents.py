"""What programs read of a check: JUnit, Prometheus text, GitHub's annotations, node-problem-detector's protocol."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpunode.engine.results import DifferenceResult, FindingResult, ProbeResult, Report, StepResult
from gpunode.report.alerts import NPD_CHARACTERS
from gpunode.report.documents import DOCUMENTS, document, exit_code
from gpunode.report.prometheus import LAST_SUCCESS

DIFFERENCE = DifferenceResult(
    "toml:/etc/containerd/config.toml", "runtimes.nvidia", "absent", "present", "pods <need> it"
)
FINDING = FindingResult(
    "runtime-not-configured",
    "error",
    "containerd does not know the nvidia runtime, 100%",
    'somebody wrote "the file"\nanew',
    mend=("gpunode apply",),
    explains=("toml:/etc/containerd/config.toml",),
)
PROBES = [
    ProbeResult("nvml", "host", "libnvidia-ml", "one version", "failed", "mismatch\n→ driver", 0.5),
    ProbeResult("pod", "kubernetes", "a pod", "the whole way", "skipped", "the layer below failed"),
]


def drifted() -> Report:
    steps = [
        StepResult("driver", "NVIDIA driver", "in-sync", seconds=0.25),
        StepResult("containerd", "containerd", "drift", differences=[DIFFERENCE], findings=[FINDING]),
        StepResult("engines", "Other engines", "skipped", why="none is here"),
        StepResult("device_plugin", "plugin", "unknown", why="the API server does not answer"),
    ]
    return Report("check", "drift", steps=steps, seconds=1.5)


def samples(report: Report, **given: str) -> dict[tuple[str, str], float]:
    """Every sample by name and first label, as Prometheus's own client reads them."""
    families = text_string_to_metric_families(document(report, "prometheus", now=1000.5, **given) + "\n")
    return {
        (each.name, next(iter(each.labels.values()), "")): each.value for family in families for each in family.samples
    }


def test_junit_has_a_suite_for_each_step_and_counts_what_is_wrong() -> None:
    root = Xml.fromstring(document(drifted(), "junit", now=0))  # noqa: S314 - it is our own
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == ["driver", "containerd", "engines", "device_plugin"]
    counted = {name: (each.get("failures"), each.get("errors"), each.get("skipped")) for name, each in suites.items()}
    assert counted == {
        "driver": ("0", "0", "0"),
        "containerd": ("2", "0", "0"),
        "engines": ("0", "0", "1"),
        "device_plugin": ("0", "1", "0"),
    }
    assert [case.get("name") for case in suites["containerd"]] == ["containerd", DIFFERENCE.resource, FINDING.id]


def test_junit_of_a_verification_has_a_case_for_each_probe() -> None:
    report = Report("verify", "not-verified", steps=[StepResult("verify", "Verification", "failed", probes=PROBES)])
    [suite] = Xml.fromstring(document(report, "junit", now=0))  # noqa: S314 - it is our own
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "1")


def test_prometheus_is_what_the_official_client_reads() -> None:
    found = samples(drifted())
    assert found["gpunode_drift", "driver"] == 0
    assert found["gpunode_drift", "containerd"] == 1
    assert ("gpunode_drift", "engines") not in found
    assert found["gpunode_step_unknown", "device_plugin"] == 1
    assert found["gpunode_finding", "runtime-not-configured"] == 1
    assert found["gpunode_check_duration_seconds", ""] == 1.5
    assert found[LAST_SUCCESS, ""] == 1000.5


def test_the_last_success_outlives_a_check_that_could_not_look() -> None:
    failed = Report("check", "failed", error="the disk is gone")
    assert samples(failed, earlier=document(drifted(), "prometheus", now=900.0))[LAST_SUCCESS, ""] == 900.0
    assert (LAST_SUCCESS, "") not in samples(failed)
    assert samples(failed)["gpunode_check_success", ""] == 0


def test_github_escapes_what_would_end_a_command() -> None:
    [finding] = document(drifted(), "github", now=0).splitlines()
    assert finding.startswith("::error title=containerd does not know the nvidia runtime%2C 100%25::")
    assert "\\n" in finding or "%0A" in finding


def test_github_names_a_difference_that_no_finding_explains() -> None:
    report = Report("check", "drift", steps=[StepResult("containerd", "c", "drift", differences=[DIFFERENCE])])
    assert document(report, "github", now=0).startswith("::warning title=containerd%3A toml%3A/etc/containerd")


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (Report("check"), 0),
        (drifted(), 1),
        (Report("check", "failed", error="x" * 200), 2),
        (Report("check", "refused"), 2),
    ],
)
def test_npd_says_it_in_eighty_characters_and_a_status_of_its_protocol(report: Report, code: int) -> None:
    words = document(report, "npd", now=0)
    assert 0 < len(words) <= NPD_CHARACTERS
    assert "\n" not in words
    assert exit_code(report, "npd") == code


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_every_format_can_tell_an_error(kind: str) -> None:
    assert "the disk is gone" in document(Report("check", "failed", error="the disk is gone"), kind, now=0)


@pytest.mark.slow
def test_a_document_is_written_in_one_step_for_whoever_collects_it(tmp_path: Path) -> None:
    target = tmp_path / "gpunode.prom"
    profile = tmp_path / "profile.toml"
    profile.write_text("")
    words = ["check", "--profile", str(profile), "--output", "prometheus", "--output-file", str(target)]
    done = subprocess.run([sys.executable, "-m", "gpunode", *words], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert "gpunode_check_success" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.slow
def test_a_file_without_a_format_is_a_mistake(tmp_path: Path) -> None:
    words = ["check", "--output-file", str(tmp_path / "x")]
    done = subprocess.run([sys.executable, "-m", "gpunode", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "name one by --output" in done.stderr
