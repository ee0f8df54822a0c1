"""JUnit XML: what CI systems read, checked against the elements and attributes of the xunit2 family."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from reports import diagnosed, make_diagnosis, make_outcome, undecided_check

from eqaudit.report import GateCheck, Outcome
from eqaudit.reporters.junit import render_junit

TEXT = "text"
# Element: required attributes, optional attributes, children (TEXT where it may hold text).
SCHEMA: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"time", "skipped", "timestamp", "hostname", "id", "package", "file", "group", "log", "url"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": (
        {"name"},
        {"classname", "time", "group"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": (set(), {"type", "message"}, {TEXT}),
    "error": (set(), {"type", "message"}, {TEXT}),
    "system-out": (set(), set(), {TEXT}),
}
PARTS = {"tests": "testcase", "failures": "failure", "errors": "error"}


def breaches(element: ET.Element) -> list[str]:
    """Return what the schema does not allow in an element and below."""
    if element.tag not in SCHEMA:
        return [f"unknown element {element.tag}"]
    required, optional, children = SCHEMA[element.tag]
    given = set(element.attrib)
    found = [f"{element.tag} lacks {name}" for name in required - given]
    found += [f"{element.tag} has {name}" for name in given - required - optional]
    found += [f"{element.tag} holds {child.tag}" for child in element if child.tag not in children]
    if TEXT not in children and (element.text or "").strip():
        found.append(f"{element.tag} holds text")
    for name, tag in PARTS.items():
        if name in given and int(element.attrib[name]) != sum(1 for _ in element.iter(tag)):
            found.append(f"{element.tag} miscounts {name}")
    return found + [breach for child in element for breach in breaches(child)]


OUTCOMES = [
    make_outcome("passes"),
    make_outcome("breaks", class_="broken"),
    make_outcome("open", undecided_check()),
    Outcome("missing", None, "no such model file: m.pt"),
]


def read(outcomes: list[Outcome]) -> ET.Element:
    """Return the root of what is written."""
    return ET.fromstring(render_junit(outcomes))


def suite_of(name: str) -> ET.Element:
    """Return the suite of one of the outcomes."""
    return next(suite for suite in read(OUTCOMES) if suite.attrib["name"] == name)


def test_the_file_fits_the_schema() -> None:
    """Elements, attributes and counts are those that CI systems know."""
    assert breaches(read(OUTCOMES)) == []
    assert breaches(read([])) == []


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        ("<testsuite tests='0' failures='0' errors='0'/>", "lacks name"),
        ("<testsuites><testcase name='a'/></testsuites>", "holds testcase"),
        ("<testsuites tests='1'/>", "miscounts tests"),
        ("<testcase name='a' colour='red'/>", "has colour"),
        ("<verdict/>", "unknown element"),
    ],
)
def test_the_schema_can_refuse(xml: str, says: str) -> None:
    """The check above can fail."""
    assert says in "; ".join(breaches(ET.fromstring(xml)))


def test_every_limit_is_a_test_case() -> None:
    """Names and order are those of the gate; a passed one is empty."""
    report = OUTCOMES[0].report
    assert report is not None
    assert report.gate is not None
    cases = list(suite_of("passes").iter("testcase"))
    assert [case.attrib["name"] for case in cases] == [check.name for check in report.gate.checks]
    assert all(len(case) == 0 and case.attrib["classname"] == "passes" for case in cases)
    assert suite_of("passes").findtext("system-out") == "C4 exactly (1.0e-7)."


def test_failed_undecided_and_not_run_are_told_apart() -> None:
    """A failure says of which type it is; what could not run is an error."""
    (failed,) = suite_of("breaks").iter("failure")
    assert failed.attrib["type"] == "failed"
    assert (
        failed.attrib["message"] == failed.text == "C4 must hold on output: 0 of 3 elements hold (3 broken)"
    )
    (undecided,) = suite_of("open").iter("failure")
    assert undecided.attrib["type"] == "undecided"
    assert undecided.text == "between 0.91 and 0.96 keep their class (eqaudit.toml:12)"
    (error,) = suite_of("missing").iter("error")
    assert error.attrib == {"type": "could not run", "message": "no such model file: m.pt"}
    assert not list(suite_of("missing").iter("failure"))


def test_the_file_begins_with_a_declaration_and_is_the_same_each_time() -> None:
    """No time, no host: the same outcomes give the same bytes."""
    content = render_junit(OUTCOMES)
    assert content.startswith(b"<?xml version='1.0' encoding='utf-8'?>\n")
    assert content == render_junit(OUTCOMES)


def test_a_long_reason_is_cut() -> None:
    """A name of a megabyte gives no file of megabytes."""
    check = GateCheck("max layer error", None, 0.1, False, "x" * 1_000_000)
    content = render_junit([make_outcome("long", check)])
    assert len(content) < 20_000
    assert b"xxx" in content


@pytest.mark.parametrize("kind", ["check", "sweep-angles"])
def test_a_run_writes_its_file_whatever_its_code(kind: str, tmp_path: Path, eqaudit: Any) -> None:
    """One that fails writes a failure, one that cannot run an error over the old file, and the code stays."""
    (tmp_path / "model.py").write_text(
        "import torch\n\n"
        "class Corner(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x[..., 0, 0]\n\n"
        "class Random(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.rand(len(x), 3)\n"
    )
    angles = ("--angles", "0,90") if kind == "sweep-angles" else ("--layers", "none")
    options = ("--input-shape", "3,8,8", "--samples", "4", *angles, "--report", "junit=out.xml", "--quiet")
    ended = eqaudit(kind, "model.py:Random", *options, cwd=tmp_path)
    assert ended.returncode == 1, ended.stderr
    root = ET.parse(tmp_path / "out.xml").getroot()
    assert breaches(root) == []
    assert [suite.attrib["name"] for suite in root] == ["model.py:Random"]
    assert "deterministic" in [case.attrib["name"] for case in root.iter("testcase") if len(case)]
    ended = eqaudit(kind, "model.py:Nothing", *options, cwd=tmp_path)
    assert ended.returncode == 3
    (error,) = ET.parse(tmp_path / "out.xml").getroot().iter("error")
    assert "has no Nothing" in (error.text or "")


def test_a_diagnosis_is_part_of_what_the_suite_says() -> None:
    """One line on where, and one on each cause, without what XML cannot hold."""
    root = read([diagnosed(make_outcome("net.pt", class_="broken"), make_diagnosis("conv\x1b[31m"))])
    assert breaches(root) == []
    said = (root.findtext("testsuite/system-out") or "").splitlines()
    assert any(line.endswith(r"at r90; the first layer that breaks is conv\x1b[31m") for line in said)
    assert any(
        line.startswith(r"subsampling in conv\x1b[31m, c2, c3, c4 and 1 more: a stride") for line in said
    )
