"""The comment for a pull request, read by a parser of Markdown that is not ours."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from reports import against_baseline, diagnosed, make_diagnosis, make_outcome, make_sweep, undecided_check

from eqaudit.errors import UsageError
from eqaudit.gate import Limits, judge
from eqaudit.report import Change, Diagnosis, Outcome, to_json
from eqaudit.reporters.markdown import LARGEST_COMMENT, render_markdown

CHANGES = (
    Change("output", "r90", 0.1, 0.4, "approximate", "broken", "worse", "over 1.1 times 0.1"),
    Change("conv1", "r180", 0.4, 0.1, "broken", "approximate", "better", "under 0.9 times 0.4"),
    Change("conv2", "r180", 0.2, 0.2, "broken", "broken", "same", ""),
)
ALL = [
    make_outcome("first"),
    make_outcome("breaks", class_="broken"),
    make_outcome("open", undecided_check()),
    Outcome("missing", None, "no such model file: m.pt"),
    *(make_outcome(f"also{number}") for number in range(6)),
]


class _Page(HTMLParser):
    """Tables as rows of cells, headings, and what is folded away."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.headings: list[str] = []
        self.folded: list[str] = []
        self.open: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        del attrs
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        if tag in {"h2", "h3"}:
            self.headings.append("")
        if tag == "summary":
            self.folded.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "tags are closed in the order in which they are opened"

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data
        if {"h2", "h3"} & set(self.open):
            self.headings[-1] += data
        if "summary" in self.open:
            self.folded[-1] += data


def html_of(outcomes: list[Outcome]) -> str:
    """Return the comment as HTML."""
    text = render_markdown(outcomes).decode()
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def read(outcomes: list[Outcome]) -> _Page:
    """Return the comment as its reader sees it."""
    page = _Page(html_of(outcomes))
    assert page.open == []
    return page


def test_one_check_is_its_verdict_its_limits_and_its_layers() -> None:
    """No overview: the heading says how it ended; what failed comes first; layers are folded away."""
    page = read([make_outcome("net.pt", class_="broken")])
    assert page.headings == ["eqaudit: ❌ net.pt: failed"]
    assert "Not equivariant" in html_of([make_outcome("net.pt", class_="broken")])
    limits, layers = page.tables
    assert limits[0] == ["limit", "value", "allowed", "result", "why"]
    assert limits[1][:4] == ["group holds", "0", "3", "❌\xa0failed"]
    assert [row[3] for row in limits[2:]] == ["✅\xa0passed"] * 3
    assert page.folded == ["Layers (3)"]
    assert [row[0] for row in layers] == ["layer", "stage0.conv", "stage1.conv", "stage2.conv", "output"]


def test_ten_checks_begin_with_an_overview() -> None:
    """What did not pass is shown in full, the rest folded away."""
    page = read(ALL)
    assert page.headings[0] == "eqaudit, 10 checks: 1 failed, 1 could not run, 1 undecided, 7 passed"
    assert [row[1].split("\xa0")[-1] for row in page.tables[0][1:]] == [
        "passed",
        "failed",
        "undecided",
        "could not run",
        *["passed"] * 6,
    ]
    assert [heading.split()[1] for heading in page.headings[1:4]] == ["breaks:", "open:", "missing:"]
    assert "Checks that passed (7)" in page.folded
    assert "no such model file: m.pt" in page.tables[0][4][2]


def test_changes_against_a_baseline_have_arrows() -> None:
    """The worse come first; what stayed the same is counted."""
    outcome = against_baseline(make_outcome("net.pt", class_="broken"), *reversed(CHANGES))
    table = read([outcome]).tables[1]
    assert table[1:] == [
        ["output", "r90", "0.100 approximate → 0.400 broken", "↑ worse", "over 1.1 times 0.1"],
        ["conv1", "r180", "0.400 broken → 0.100 approximate", "↓ better", "under 0.9 times 0.4"],
    ]
    assert "1 worse, 1 better, 1 the same" in html_of([outcome])


def test_the_source_of_a_limit_is_told() -> None:
    """A reader finds the line that sets it."""
    table = read([make_outcome("net.pt", undecided_check())]).tables[0]
    assert table[1][2] == "0.95 (eqaudit.toml:12)"
    assert table[1][3] == "❔\xa0undecided"


@pytest.mark.parametrize("count", [1, 20, 400])
def test_a_comment_is_never_too_long(count: int) -> None:
    """Tables of layers are cut first, which is said; the overview of twenty checks stays whole."""
    outcomes = [make_outcome(f"net{number}", layers=3_000 // count) for number in range(count)]
    content = render_markdown(outcomes)
    assert len(content) <= LARGEST_COMMENT
    assert b"rows are left out, so that this fits into a comment" in content
    page = read(outcomes)
    if count == 20:
        assert len(page.tables[0]) == 21


def test_names_of_a_megabyte_fit_too() -> None:
    """Whatever stands in a report, there is a comment."""
    outcomes = [make_outcome("|`" * 500_000, undecided_check("@all <b> " * 100_000)) for _ in range(50)]
    assert len(render_markdown(outcomes)) <= LARGEST_COMMENT


def test_a_report_that_is_not_judged_says_so() -> None:
    """With --no-gate the limits are shown, and fail nothing."""
    outcome = make_outcome("net.pt", class_="broken")
    assert outcome.report is not None
    assert "Not judged" not in html_of([outcome])
    outcome = Outcome(outcome.name, judge(outcome.report, Limits(judged=False)))
    assert "Not judged (<code>--no-gate</code>)" in html_of([outcome])


@pytest.mark.parametrize("task", ["classification", "segmentation", "dense", "embedding"])
def test_a_sweep_is_a_comment_too(task: Any) -> None:
    """Its limits are those that any number needs."""
    page = read([Outcome("net.pt", judge(make_sweep(task), Limits()))])
    assert [row[0] for row in page.tables[0]] == [
        "limit",
        *["finite", "deterministic", "depends on input", "control"],
    ]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Return a function that runs the command here and returns its code and what it says on stderr."""
    from eqaudit.cli import main  # noqa: PLC0415 - it is what is tested

    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def call(*arguments: str) -> tuple[int, str]:
        code = main(list(arguments))
        return code, capfd.readouterr().err

    return call


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return a saved report that failed."""
    report = make_outcome("net.pt", class_="broken").report
    assert report is not None
    (tmp_path / "report.json").write_bytes(to_json(report))
    return tmp_path


def test_a_saved_report_is_rendered_to_every_kind(saved: Path, run: Callable[..., tuple[int, str]]) -> None:
    """Both files at once, and the pictures and the table of angles."""
    code, said = run(
        "render",
        f"{saved}/report.json",
        *("--report", f"markdown={saved}/c.md", "--report", f"junit={saved}/j.xml"),
        *("--csv", f"{saved}/t.csv", "--plots", f"{saved}/plots"),
    )
    assert (code, said) == (0, "")
    assert (saved / "c.md").read_text().startswith("## eqaudit: ❌ `m.pt`: failed\n")
    assert "<failure" in (saved / "j.xml").read_text()
    assert (saved / "t.csv").read_text().count("\n") == 4
    assert (saved / "plots" / "heatmap.png").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--report", "html=x.html"], "no KIND=FILE"),
        (["--report", "junit"], "no KIND=FILE"),
        (["--report", "junit="], "no KIND=FILE"),
        (["--report", "junit=-"], "no KIND=FILE"),
        (["--report", "junit={}/a", "--report", "markdown={}/a"], "both write"),
        (["--report", "junit={}/a", "--report", "junit={}/./a"], "both write"),
        (["--report", "junit={}/a", "--csv", "{}/a"], "both write"),
        (["--report", "junit={}/report.json"], "is an input"),
        (["--report", "junit={}/nowhere/a"], "no folder"),
        (["--report", "junit={}"], "is a folder"),
    ],
)
def test_a_report_that_cannot_be_written_is_a_usage_error(
    options: list[str], says: str, saved: Path, run: Callable[..., tuple[int, str]]
) -> None:
    """It is found before anything is written."""
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    code, said = run("render", f"{saved}/report.json", *(option.format(saved) for option in options))
    assert code == UsageError.exit_code
    assert says in said
    assert re.match(r"error: .*\n  .*\n\Z", said)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_a_diagnosis_says_where_and_why_and_what_helps() -> None:
    """First breaking layer and ranked causes; foreign names stay code."""
    outcome = diagnosed(make_outcome("net.pt", class_="broken"), make_diagnosis("a|b"))
    html = html_of([outcome])
    causes = next(table for table in read([outcome]).tables if table[0][0] == "cause")
    assert "the first layer that breaks is" in html
    assert [row[0] for row in causes[1:]] == ["subsampling", "kernel"]
    assert causes[1][1] == r"a\x7cb, c2, c3, c4 and 1 more"
    assert "removes 100 % of the error" in causes[1][3]
    assert causes[1][4] == "choose another size"


def test_what_cannot_be_diagnosed_is_said() -> None:
    """The reason, and no table."""
    found = Diagnosis(0, "float32", "C4", "", None, None, [], [], reason="the output is not finite")
    outcome = diagnosed(make_outcome("net.pt", class_="broken"), found)
    assert "the output is not finite" in html_of([outcome])
    assert all(table[0][0] != "cause" for table in read([outcome]).tables)
