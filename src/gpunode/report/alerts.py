"""A check told in one line a matter: as GitHub's workflow commands, and by node-problem-detector's custom plugin protocol."""

from __future__ import annotations

from gpunode.engine.results import FindingResult, Report
from gpunode.report.words import clean, count

NPD_CHARACTERS = 80
"""What node-problem-detector shows of a custom plugin's output."""
NPD_OK, NPD_NOT_OK, NPD_UNKNOWN = 0, 1, 2
LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def github(report: Report) -> str:
    """`::error title=…::…` for each finding and each differing resource that none explains; a notice where all is well."""
    lines = [_command("error", report.command, report.error)] if report.error else []
    for step in report.steps:
        explained = {name for finding in step.findings for name in finding.explains}
        lines += [_command(LEVELS[each.severity], each.title, _words(each)) for each in step.findings]
        for each in step.differences:
            if each.resource not in explained:
                lines.append(
                    _command("warning", f"{step.name}: {each.resource}", f"{each.field}: {each.found} → {each.wanted}")
                )
    return "\n".join(lines or [_command("notice", "gpunode", "the host is as the profile says")])


def npd(report: Report) -> str:
    """One line of at most 80 characters: the gravest finding, else how much differs."""
    words = _npd_words(report)
    return words if len(words) <= NPD_CHARACTERS else f"{words[: NPD_CHARACTERS - 1]}…"


def npd_exit_code(report: Report) -> int:
    """0 for a host that is as it should be, 1 for one that is not, 2 where that could not be seen."""
    if report.result in ("failed", "refused"):
        return NPD_UNKNOWN
    return NPD_OK if report.result in ("in-sync", "verified") else NPD_NOT_OK


def _npd_words(report: Report) -> str:
    if report.error:
        return clean(report.error)
    if npd_exit_code(report) == NPD_OK:
        return "the GPU node is as its profile says"
    findings = [finding for step in report.steps for finding in step.findings]
    gravest = sorted(findings, key=lambda finding: list(LEVELS).index(finding.severity))
    if gravest:
        return clean(f"{gravest[0].id}: {gravest[0].title}")
    names = [step.name for step in report.steps if step.differences]
    return f"{count(len(names), 'step')} differ: {', '.join(names)}"


def _words(finding: FindingResult) -> str:
    mend = f" Mend: {'; '.join(finding.mend)}" if finding.mend else ""
    return f"{finding.cause}{mend}"


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={_escaped(clean(title), ',:')}::{_escaped(clean(message))}"


def _escaped(text: str, also: str = "") -> str:
    """GitHub's own escapes: of what would end the command or, in a property, begin the next."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    for sign in also:
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
