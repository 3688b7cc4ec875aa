"""Results as plain data with a schema version. Reports render them; nothing here knows how a thing is printed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gpunode.errors import ExitCode

SCHEMA = "gpunode/1"

StepState = Literal["in-sync", "drift", "changed", "failed", "skipped", "not-run", "unknown"]
Result = Literal[
    "in-sync",
    "drift",
    "pending",
    "changed",
    "failed",
    "refused",
    "reboot-required",
    "verified",
    "not-verified",
    "undone",
]
ProbeState = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class DifferenceResult:
    """One difference of one resource, as in `resources.base.Difference`."""

    resource: str
    field: str
    found: str
    wanted: str
    why: str
    diff: str = ""


@dataclass(frozen=True)
class FindingResult:
    """A recognised failure: its cause in a sentence, the evidence, and the commands that mend it."""

    id: str
    severity: Literal["error", "warning", "info"]
    title: str
    cause: str
    evidence: tuple[str, ...] = ()
    mend: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProbeResult:
    """One smoke test: what was tried, what it proves, how it ended, how long it took, and on failure what lies between."""

    name: str
    layer: str
    tried: str
    proves: str
    state: ProbeState
    detail: str = ""
    seconds: float = 0.0


@dataclass
class StepResult:
    """One step. `restarts` and `irreversible` say what its changes bring with them; `notes` what a person should know besides."""

    name: str
    title: str
    state: StepState = "in-sync"
    why: str = ""
    resources: int = 0
    differences: list[DifferenceResult] = field(default_factory=list)
    findings: list[FindingResult] = field(default_factory=list)
    restarts: list[str] = field(default_factory=list)
    irreversible: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    probes: list[ProbeResult] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Report:
    """What a command found or did. `run` is the journal's run where one was written; `interrupted` speaks of an unfinished one.

    `part` names, for a rollback that was not of everything, what it took back: `what came after run 0002`.
    """

    command: str
    result: Result = "in-sync"
    run: str | None = None
    steps: list[StepResult] = field(default_factory=list)
    error: str = ""
    hint: str = ""
    details: tuple[str, ...] = ()
    interrupted: str = ""
    warnings: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    part: str = ""
    seconds: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        """The process's exit status that goes with the result."""
        return EXIT_CODES[self.result]

    def document(self) -> dict[str, Any]:
        """The JSON document: the schema's name first, then every field."""
        return {"schema": SCHEMA, **asdict(self)}


EXIT_CODES: dict[Result, ExitCode] = {
    "in-sync": ExitCode.OK,
    "changed": ExitCode.OK,
    "verified": ExitCode.OK,
    "undone": ExitCode.OK,
    "drift": ExitCode.DRIFT,
    "pending": ExitCode.DRIFT,
    "failed": ExitCode.FAILED,
    "refused": ExitCode.FAILED,
    "reboot-required": ExitCode.REBOOT_REQUIRED,
    "not-verified": ExitCode.VERIFICATION_FAILED,
}
