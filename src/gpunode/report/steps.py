"""What plan, check, verify and apply have in common: a step's headline, its differences, findings and remarks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from gpunode.engine.results import DifferenceResult, FindingResult, Report, StepResult, StepState
from gpunode.report.page import Cell, Page, Span
from gpunode.report.words import clean, columns, count, duration, human_name, is_nothing, is_said_by_sign

SIGN_STYLES = {"+": "green", "~": "yellow", "-": "red"}
STATE_STYLES: dict[StepState, str] = {
    "in-sync": "green",
    "drift": "yellow",
    "changed": "green",
    "failed": "red",
    "skipped": "dim",
    "not-run": "dim",
    "unknown": "yellow",
}
SEVERITY_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold cyan"}
_PLAIN_FIELDS = frozenset({"", "content", "source", "state", "object", "target", "fingerprint", "pods", "driver"})
"""What a difference is about where the resource's name says so: left out."""
_WIDEST_NAME = 48
_LABEL = 10


def changes(step: StepResult) -> int:
    """How many of the step's resources differ, or differed."""
    return len({difference.resource for difference in step.differences})


def mark(page: Page, state: StepState) -> Span:
    """The symbol that stands for a step's state."""
    symbols = page.symbols
    texts: dict[StepState, str] = {
        "in-sync": symbols.passed,
        "drift": "~",
        "changed": symbols.passed,
        "failed": symbols.failed,
        "skipped": symbols.skipped,
        "not-run": symbols.waiting,
        "unknown": "?",
    }
    return texts[state], STATE_STYLES[state]


def headline(page: Page, step: StepResult, noun: str = "change") -> None:
    """`✓ cuda · CUDA toolkit · in sync`, with the reason where the state has one."""
    dot = (f" {page.symbols.dot} ", "dim")
    text = f"{clean(step.name)} {page.symbols.dot} {clean(step.title)} {page.symbols.dot} {state_words(step, noun)}"
    sign, style = mark(page, step.state)
    if step.why and not step.differences:  # the differences beneath it say why
        page.prose(f"{text}: {step.why}", STATE_STYLES[step.state], lead=(f"{sign} ", style))
        return
    page.line((f"{sign} ", style), (step.name, "bold"), dot, step.title, dot, (state_words(step, noun), style))


def state_words(step: StepResult, noun: str) -> str:
    """A step's state in words; `noun` is what a difference is to this report."""
    number = changes(step)
    words: dict[StepState, str] = {
        "in-sync": "in sync",
        "drift": count(number, noun) if number else "drift",
        "changed": count(number, "change") + " made" if number else "changed",
        "failed": "failed",
        "skipped": "skipped",
        "not-run": "not run",
        "unknown": "not known yet",
    }
    return words[step.state]


def differences(page: Page, step: StepResult) -> None:
    """A step's differences, a resource at a time, values aligned."""
    groups = [
        (name, list(group)) for name, group in groupby(step.differences, key=lambda difference: difference.resource)
    ]
    names = [columns(clean(human_name(name))) for name, group in groups if len(group) == 1]
    width = max((name for name in names if name <= _WIDEST_NAME), default=0)
    for name, group in groups:
        _resource(page, human_name(name), group, width)


def _resource(page: Page, name: str, group: list[DifferenceResult], width: int) -> None:
    sign = _sign(group)
    head = ((f"{sign} ", SIGN_STYLES[sign]), name)
    if len(group) == 1:
        _single(page, head, " " * (width - columns(clean(name)) + 2), group[0], sign)
    else:
        page.line(*head, indent=2)
        _fields(page, group, sign)
    for difference in group:
        diff(page, difference.diff, head[1], indent=6)


def _single(page: Page, head: tuple[Span, str], gap: str, difference: DifferenceResult, sign: str) -> None:
    field, values = difference.field, _values(page, difference, sign)
    if field.lower() in _PLAIN_FIELDS or head[1].endswith(field):
        field = ""
    label: list[Cell] = [(f"{field}: " if values else field, "dim")] if field else []
    _beside(page, head, gap, [*label, *values], indent=2)
    if difference.why:
        page.prose(difference.why, "dim", indent=6)


def _fields(page: Page, group: list[DifferenceResult], sign: str) -> None:
    """A resource's differences, one a line; a reason that all share is told once."""
    widths = [columns(clean(difference.field)) for difference in group]
    width = max((width for width in widths if width <= _WIDEST_NAME), default=0)
    reasons = {difference.why for difference in group if difference.why}
    for difference, own in zip(group, widths, strict=True):
        _beside(page, (difference.field,), " " * (width - own + 2), _values(page, difference, sign), indent=6)
        if difference.why and len(reasons) > 1:
            page.prose(difference.why, "dim", indent=8)
    if len(reasons) == 1:
        page.prose(reasons.pop(), "dim", indent=6)


def _beside(page: Page, head: Sequence[Cell], gap: str, values: list[Cell], *, indent: int) -> None:
    """Values in their column beside a name; beneath it where the terminal is too narrow."""
    if not values:
        page.line(*head, indent=indent)
    elif page.fits(*head, gap or "  ", *values, indent=indent):
        page.line(*head, gap or "  ", *values, indent=indent)
    else:
        page.line(*head, indent=indent)
        page.line(*values, indent=indent + 4)


def _values(page: Page, difference: DifferenceResult, sign: str) -> list[Cell]:
    """Found and wanted, but for what the sign, or the text shown beneath, says already."""
    found, wanted = difference.found, difference.wanted
    if sign == "+":
        return [] if is_said_by_sign(wanted) else [(wanted, "green")]
    if sign == "-":
        return [] if is_said_by_sign(found) else [(found, "red")]
    if is_said_by_sign(wanted) and difference.diff:
        return [] if is_said_by_sign(found) else [(found, "dim")]
    return [(found or "absent", "red"), (f" {page.symbols.arrow} ", "dim"), (wanted or "absent", "green")]


def _sign(group: Sequence[DifferenceResult]) -> str:
    if all(is_nothing(difference.found) for difference in group):
        return "+"
    if all(is_nothing(difference.wanted) for difference in group):
        return "-"
    return "~"


def diff(page: Page, text: str, name: str, *, indent: int) -> None:
    """A unified diff, each line as it is; without its two headlines where `name`, printed above, has told the path."""
    lines = text.splitlines()
    if [line[:4] for line in lines[:2]] == ["--- ", "+++ "] and any(line[4:] in name for line in lines[:2]):
        del lines[:2]
    for line in lines:
        page.line((line, _diff_style(line)), indent=indent)


def _diff_style(line: str) -> str:
    if line.startswith(("---", "+++")):
        return "bold"
    return {"@": "cyan", "+": "green", "-": "red"}.get(line[:1], "dim")


def findings(page: Page, step: StepResult) -> None:
    """A step's findings: what is wrong, why, by what evidence, and the commands that mend it."""
    for found in step.findings:
        finding(page, found, step.name)


def finding(page: Page, found: FindingResult, step: str) -> None:
    """One finding, each of its parts labelled, its commands on lines of their own to be copied."""
    page.prose(found.title, "bold", lead=(f"{found.severity}: ", SEVERITY_STYLES[found.severity]))
    page.line((f"{step} {page.symbols.dot} {found.id}", "dim"), indent=2)
    _labelled(page, "cause", found.cause.splitlines(), prose=True)
    _labelled(page, "evidence", found.evidence)
    _labelled(page, "mend", found.mend, style="cyan")
    _labelled(page, "explains", [human_name(name) for name in found.explains])
    _labelled(page, "see", found.references, style="dim")
    page.line()


def _labelled(page: Page, label: str, lines: Sequence[str], *, style: str = "", prose: bool = False) -> None:
    for number, line in enumerate(part for text in lines for part in text.splitlines()):
        lead = ("" if number else label).ljust(_LABEL)
        if prose:
            page.prose(line, style, indent=2, lead=(lead, "dim"))
        else:
            page.line((lead, "dim"), (line, style), indent=2)


def consequences(page: Page, step: StepResult) -> None:
    """What a step's changes bring with them, and what a person should know besides."""
    for unit in step.restarts:
        page.line((f"{page.symbols.restart} restarts {unit}", "cyan"), indent=2)
    for what in step.irreversible:
        page.prose(f"cannot be undone: {what}", "magenta", indent=2, lead=("! ", "magenta"))
    notes(page, step)


def notes(page: Page, step: StepResult) -> None:
    """A step's notes."""
    for note in step.notes:
        page.prose(note, "dim", indent=2, lead=("note: ", "dim"))


def opening(page: Page, report: Report) -> None:
    """What a person should read before all else: an unfinished run, warnings."""
    remarks = [remark for remark in (report.interrupted, *report.warnings) if remark]
    for remark in remarks:
        page.prose(remark, "yellow", lead=("! ", "yellow"))
    if remarks:
        page.line()


def body_follows(step: StepResult) -> bool:
    """True when more than its headline is told of a step."""
    return bool(step.differences or step.restarts or step.irreversible or step.notes)


def verdict(page: Page, words: str, style: str, seconds: float) -> None:
    """The line that a person looks for at the end, and how long it all took."""
    took = f" ({duration(seconds)})"
    if page.fits(words, took):
        page.line((words, style), (took, "dim"))
    else:
        page.prose(words + took, style)
