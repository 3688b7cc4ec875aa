"""What an entry of the failure catalogue is: the words that are always the same, and the look that proves it on a host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from gpunode.engine.results import FindingResult
from gpunode.findings.evidence import Evidence

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Proof:
    """That a host has the failure: the lines that show it, and the words for the placeholders in cause and mend.

    `cause`, `mend`, `severity`, `explains` replace the entry's own where this host's case is a special one.
    """

    lines: tuple[str, ...]
    words: dict[str, str] = field(default_factory=dict)
    cause: str = ""
    mend: tuple[str, ...] = ()
    severity: Severity | None = None
    explains: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Known:
    """One failure. `sees` is what people see of it, `proof` how a look at the host proves it, both for the documentation.

    `cause`, `mend`, `explains` have {placeholders}. `explains` names findings and resources (`kind:name`) that follow from it.
    `step` is the step under which it is reported. `patterns` are regular expressions of what logs and error messages say of it (`re.M`);
    a text that several failures bring about is among the patterns of each.
    """

    id: str
    step: str
    severity: Severity
    title: str
    sees: str
    proof: str
    cause: str
    mend: tuple[str, ...]
    look: Callable[[Evidence], Proof | None]
    explains: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()

    def recognise(self, evidence: Evidence) -> FindingResult | None:
        """The finding, when the evidence proves it."""
        proof = self.look(evidence)
        if proof is None:
            return None
        explains = self.explains if proof.explains is None else proof.explains
        return FindingResult(
            id=self.id,
            severity=proof.severity or self.severity,
            title=self.title,
            cause=_filled(proof.cause or self.cause, proof.words),
            evidence=proof.lines,
            mend=tuple(_filled(command, proof.words) for command in proof.mend or self.mend),
            explains=tuple(_filled(name, proof.words) for name in explains),
            references=self.references,
        )


def _filled(template: str, words: dict[str, str]) -> str:
    for name, word in words.items():
        template = template.replace(f"{{{name}}}", word)
    return template
