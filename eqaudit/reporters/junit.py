"""JUnit XML, which CI systems show as tests: a suite for each check, a test case for each limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, fromstring, indent, tostring

from eqaudit.gate import incomplete
from eqaudit.report import GateCheck, Outcome, Report
from eqaudit.reporters.base import check_result, gate_checks
from eqaudit.reporters.diagnosis import describe_cause, describe_diagnosis
from eqaudit.reporters.escape import LONGEST_TEXT, shorten, show
from eqaudit.reporters.terminal import describe_where

COUNTS = {"tests": "testcase", "failures": "failure", "errors": "error"}


def render_junit(outcomes: Sequence[Outcome]) -> bytes:
    """Return the outcomes as a JUnit file, the same bytes for the same outcomes: without times.

    A limit that is exceeded or undecided is a ``failure`` of that type, a check that could not run an
    ``error``. The attributes are those of the xunit2 family.
    """
    root = Element("testsuites", name="eqaudit")
    for outcome in outcomes:
        suite = SubElement(root, "testsuite", name=_text(outcome.name))
        if outcome.report is None:
            case = SubElement(suite, "testcase", classname=_text(outcome.name), name="audit")
            _add_problem(case, "error", "could not run", outcome.error)
        else:
            _add_report(suite, outcome.report)
        _count(suite)
    _count(root)
    indent(root)
    content: bytes = tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
    # What no reader takes must not replace an old report.
    fromstring(content)  # noqa: S314 - written above
    return content


def _add_report(suite: Element, report: Report) -> None:
    properties = SubElement(suite, "properties")
    verdict = report.verdict
    for name, value in {
        "model": report.model.spec,
        "sha256": report.model.sha256 or "",
        "group": report.group.name,
        "holds": verdict.holds if verdict else "",
        "eqaudit": report.tool.version,
    }.items():
        SubElement(properties, "property", name=name, value=_text(value))
    for check in gate_checks(report):
        case = SubElement(suite, "testcase", classname=suite.attrib["name"], name=_text(check.name))
        if not check.passed:
            _add_problem(case, "failure", check_result(check), _describe(check))
    said = [*([verdict.sentence] if verdict else []), *describe_where(report)]
    said += [f"not measured: {line}" for line in incomplete(report)]
    if report.diagnose is not None:
        said += [f"why: {describe_diagnosis(report.diagnose)}", *map(describe_cause, report.diagnose.causes)]
    SubElement(suite, "system-out").text = "\n".join(map(_text, said))


def _describe(check: GateCheck) -> str:
    return f"{check.reason} ({check.source})" if check.source else check.reason


def _add_problem(case: Element, tag: str, kind: str, reason: str) -> None:
    said = _text(reason)
    SubElement(case, tag, type=kind, message=said).text = said


def _count(suite: Element) -> None:
    found = Counter(element.tag for element in suite.iter())
    suite.attrib |= {name: str(found[tag]) for name, tag in COUNTS.items()}


def _text(text: str) -> str:
    """Return foreign text without the characters that XML has no way to write."""
    return show(shorten(text, LONGEST_TEXT))
