"""What is wrong: the verdict first, then each failure, what another explains beneath it."""

from __future__ import annotations

from gpunode.engine.results import ArchiveResult, FindingResult, LayerState, Report
from gpunode.report import steps
from gpunode.report.page import Cell, Page, Span
from gpunode.report.words import count, duration

_ORDER = ("error", "warning", "info")


def doctor(page: Page, report: Report, verdict: str) -> None:
    """The verdict, the failures from cause to symptom, and how many there are."""
    if not report.error:
        seen = "what can be seen, which is not all" if report.unjudged else ""
        words = verdict or f"Nothing is wrong that gpunode recognises{f' in {seen}' if seen else ''}."
        page.prose(words, "bold yellow" if verdict or seen else "bold green")
        page.line()
    _chain(page, report)
    steps.opening(page, report)
    found = {finding.id: (finding, step.name) for step in report.steps for finding in step.findings}
    explained = {name for finding, _ in found.values() for name in finding.explains}
    told: set[str] = set()
    for finding, _ in sorted(found.values(), key=lambda pair: _ORDER.index(pair[0].severity)):
        if finding.id not in explained:
            _with_symptoms(page, finding, found, told)
    for finding, _ in found.values():
        _with_symptoms(page, finding, found, told)
    if report.archive:
        _archive(page, report.archive)
    if found:
        page.line((f"Doctor: {count(len(found), 'finding')}. ({duration(report.seconds)})", "bold yellow"))


def _archive(page: Page, archive: ArchiveResult) -> None:
    """What is in the support archive, to be read before it is sent."""
    removed = sum(each.removed for each in archive.files)
    page.prose(
        f"{archive.path} holds {count(len(archive.files), 'file')}; {count(removed, 'secret')} taken out:", "bold"
    )
    rows: list[list[Cell]] = [
        [each.name, (f"{each.size} bytes", "dim"), (f"{each.removed} taken out" if each.removed else "", "yellow")]
        for each in archive.files
    ]
    page.grid(rows)
    page.prose("Look through it before you send it: what nothing marks as a secret cannot be recognised as one.", "dim")
    page.line()


def _chain(page: Page, report: Report) -> None:
    """The layers from the bus up; the first that is broken is where to look."""
    if not report.layers:
        return
    signs: dict[LayerState, Span] = {
        "works": (page.symbols.passed, "green"),
        "broken": (page.symbols.failed, "red"),
        "unknown": ("?", "yellow"),
    }
    first = next((layer.name for layer in report.layers if layer.state == "broken"), "")
    rows: list[list[Cell]] = []
    for layer in report.layers:
        here = "breaks here" if layer.name == first else ""
        rows.append([signs[layer.state], (layer.name, "bold"), layer.detail, (here, "bold red")])
    page.grid(rows)
    page.line()


def _with_symptoms(
    page: Page, finding: FindingResult, found: dict[str, tuple[FindingResult, str]], told: set[str]
) -> None:
    if finding.id in told:
        return
    told.add(finding.id)
    steps.finding(page, finding, found[finding.id][1])
    for name in finding.explains:
        if name in found:
            _with_symptoms(page, found[name][0], found, told)
