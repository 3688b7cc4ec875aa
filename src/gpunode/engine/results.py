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
LayerState = Literal["works", "broken", "unknown"]


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
class LayerResult:
    """A layer between the GPU and the scheduler, as doctor sees it without trying it out."""

    name: str
    state: LayerState
    detail: str


@dataclass(frozen=True)
class ChangeResult:
    """A change since a run: when, in seconds since the epoch, by whom as far as is known, what, and which record tells of it."""

    at: float
    who: str
    what: str
    source: str


@dataclass(frozen=True)
class ArchivedFile:
    """A text of the support archive: its name there, where it is from, its size in bytes, and how many secrets were taken out."""

    name: str
    source: str
    size: int
    removed: int


@dataclass(frozen=True)
class ArchiveResult:
    """The support archive that doctor wrote: where, and what is in it."""

    path: str
    files: tuple[ArchivedFile, ...]


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

    `part` names, for a rollback that was not of everything, what it took back: `what came after run 0002`. `layers` are doctor's;
    `unjudged` are failures of which a look at files alone can say neither that they are there nor that they are not;
    `archive` is the support archive that doctor was asked for. `changes` are those since run `since`, where check was asked for them.
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
    layers: list[LayerResult] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    archive: ArchiveResult | None = None
    since: str = ""
    changes: list[ChangeResult] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        """The process's exit status that goes with the result."""
        return EXIT_CODES[self.result]

    def document(self) -> dict[str, Any]:
        """The JSON document: the schema's name first, then every field, and in `findings` those of all steps."""
        findings = [asdict(finding) for step in self.steps for finding in step.findings]
        return {"schema": SCHEMA, **asdict(self), "findings": findings}


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
