"""A result as JUnit XML: a suite for each step, a case for each thing that was looked at or tried."""

from __future__ import annotations

from xml.etree import ElementTree as Xml

from gpunode.engine.results import FindingResult, ProbeResult, Report, StepResult
from gpunode.report.words import clean


def junit(report: Report) -> str:
    """The document. What could not be known is an error, not a failure: nothing was shown to be wrong."""
    root = Xml.Element("testsuites", name=f"gpunode {report.command}", time=f"{report.seconds:.3f}")
    for step in report.steps:
        root.append(_suite(step))
    if report.error:
        suite = Xml.SubElement(root, "testsuite", name=report.command, tests="1", errors="1", failures="0", skipped="0")
        case = Xml.SubElement(suite, "testcase", name=report.command, classname="gpunode")
        _told(case, "error", report.error, [report.hint, *report.details])
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=True)


def _suite(step: StepResult) -> Xml.Element:
    cases = [_probe(step, probe) for probe in step.probes] or _looks(step)
    counts = {kind: str(sum(case.find(kind[:-1]) is not None for case in cases)) for kind in ("failures", "errors")}
    skipped = str(sum(case.find("skipped") is not None for case in cases))
    suite = Xml.Element(
        "testsuite",
        name=step.name,
        tests=str(len(cases)),
        time=f"{step.seconds:.3f}",
        skipped=skipped,
        failures=counts["failures"],
        errors=counts["errors"],
    )
    suite.extend(cases)
    return suite


def _looks(step: StepResult) -> list[Xml.Element]:
    """One case for each resource that differs and each finding; one for the step as a whole."""
    whole = _case(step, step.title, step.seconds)
    if step.state == "skipped":
        Xml.SubElement(whole, "skipped", message=clean(step.why))
    elif step.state in ("unknown", "failed", "not-run"):
        _told(whole, "error", step.why or step.state, [])
    cases = [whole]
    for name in dict.fromkeys(difference.resource for difference in step.differences):
        case = _case(step, name, 0.0)
        found = [each for each in step.differences if each.resource == name]
        first = found[0]
        lines = [f"{each.field}: {each.found} → {each.wanted} ({each.why})" for each in found]
        _told(
            case, "failure", f"{first.field}: {first.found}, wanted {first.wanted}", [*lines, *(e.diff for e in found)]
        )
        cases.append(case)
    return cases + [_finding(step, finding) for finding in step.findings]


def _finding(step: StepResult, finding: FindingResult) -> Xml.Element:
    case = _case(step, finding.id, 0.0)
    lines = [finding.cause, *finding.evidence, *(f"mend: {command}" for command in finding.mend)]
    _told(case, "failure", finding.title, lines)
    return case


def _probe(step: StepResult, probe: ProbeResult) -> Xml.Element:
    case = _case(step, probe.name, probe.seconds)
    if probe.state == "failed":
        _told(case, "failure", probe.detail.partition("\n")[0], [f"tried: {probe.tried}", probe.detail])
    elif probe.state == "skipped":
        Xml.SubElement(case, "skipped", message=clean(probe.detail))
    return case


def _case(step: StepResult, name: str, seconds: float) -> Xml.Element:
    return Xml.Element("testcase", name=clean(name), classname=f"gpunode.{step.name}", time=f"{seconds:.3f}")


def _told(case: Xml.Element, kind: str, message: str, lines: list[str]) -> None:
    told = Xml.SubElement(case, kind, message=clean(message))
    told.text = "\n".join(clean(line) for text in lines for line in text.splitlines())
