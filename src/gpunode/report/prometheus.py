"""A check as Prometheus text, for node_exporter's textfile collector."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpunode.engine.results import Report

LAST_SUCCESS = "gpunode_check_last_success_timestamp_seconds"
HELP = {
    "gpunode_drift": "Resources of a step that differ from the profile.",
    "gpunode_step_unknown": "Whether a step could not be looked at.",
    "gpunode_finding": "A failure that was recognised on this host.",
    "gpunode_check_duration_seconds": "How long the check took.",
    "gpunode_check_success": "Whether the check could look at everything.",
    LAST_SUCCESS: "When a check last could look at everything, in seconds since the epoch.",
}


def prometheus(report: Report, now: float, last_success: float | None) -> str:
    """The text. `now` is the moment of the check, `last_success` that of an earlier one, for when this one could not look."""
    success = report.result not in ("failed", "refused")
    moment = now if success else last_success
    samples = [*_of_steps(report), ("gpunode_check_duration_seconds", {}, report.seconds)]
    samples.append(("gpunode_check_success", {}, float(success)))
    samples += [] if moment is None else [(LAST_SUCCESS, {}, moment)]
    lines: list[str] = []
    for name, meaning in HELP.items():
        these = [_sample(*each) for each in samples if each[0] == name]
        if these:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge", *these]
    return "\n".join(lines) + "\n"


def last_success_in(text: str) -> float | None:
    """The moment that an earlier text tells; None where it tells none."""
    found = re.search(rf"^{LAST_SUCCESS} (\S+)$", text, re.MULTILINE)
    try:
        return float(found[1]) if found else None
    except ValueError:
        return None


def _of_steps(report: Report) -> Iterator[tuple[str, dict[str, str], float]]:
    for step in report.steps:
        if step.state == "skipped":
            continue
        drift = len({difference.resource for difference in step.differences})
        yield "gpunode_drift", {"step": step.name}, float(drift)
        yield "gpunode_step_unknown", {"step": step.name}, float(step.state == "unknown")
        for finding in step.findings:
            yield "gpunode_finding", {"id": finding.id, "severity": finding.severity, "step": step.name}, 1.0


def _sample(name: str, labels: dict[str, str], value: float) -> str:
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{told}}} {value:g}" if told else f"{name} {_number(value)}"


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
