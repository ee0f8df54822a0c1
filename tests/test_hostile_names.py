"""Names that attack: rows N01 to N18 of the list of hostile inputs, through every way out.

Each string is the name of a layer, of a model, of an image, of a class, an argument, a reason and an error;
each goes to the terminal, Markdown, XML, CSV, JSON, the log of a job, and into pictures.
"""

import csv
import doctest
import io
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from reports import against_baseline, make_layer, make_outcome, make_panel, make_sweep
from rich.cells import cell_len

from eqaudit.cli.github import annotate
from eqaudit.gate import Limits, judge
from eqaudit.report import Change, GateCheck, Outcome, Report, Skipped, from_json, to_json
from eqaudit.reporters import escape
from eqaudit.reporters.base import layer_name
from eqaudit.reporters.console import Style
from eqaudit.reporters.csv_table import per_image_csv, sweep_csv
from eqaudit.reporters.escape import hide_home, log_text, markdown_code, markdown_text, shorten, show
from eqaudit.reporters.junit import render_junit
from eqaudit.reporters.markdown import LARGEST_COMMENT, render_markdown
from eqaudit.reporters.pictures import draw
from eqaudit.reporters.terminal import render_report

NAMES: dict[str, tuple[str, ...]] = {
    "N01 escapes": (
        "\x1b[2J\x1b[31m",
        "\x1b]0;t\x07",
        "\x1b]8;;http://x\x1b\\a\x1b]8;;\x1b\\",
        "\x1b]52;c;aGk=\x07",
        "\x1bPq\x1b\\",
        "\x1b_x\x1b\\",
        "\x1bc",
    ),
    "N02 8-bit escapes": ("a\x9b31m", "\x9d0;t\x9c", "\x90q\x9c"),
    "N03 controls": ("a\rb", "a\bb", "a\x7fb", "a\x00b", "a\x0bb\x0cc", "a\u2028b", "a\u2029b", "a\x85b"),
    "N04 direction": ("a\u202eb", "a\u2066b\u2069", "\u2067x", "\u200fx", "a\u061cb"),
    "N05 widths": ("a\u200bb\ufeff", "e" + "\u0301" * 1000, "👩‍👩‍👧", "層" * 60, "שלום"),
    "N06 no UTF-8": (os.fsdecode(b"m\xff.pt"), "\ud800", "\udfff"),
    "N07 twins": ("conv1", "\u0441\u043env1"),
    "N08 formulas": ("=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t=1", "|calc", "＝1"),  # noqa: RUF001
    "N09 Markdown": (
        "a|b",
        "`a``b",
        "[x](javascript:alert)",
        "![](http://x.example/y.png)",
        "<img src=x onerror=y>",
        "@org/team",
        "#1",
        "org/repo#1",
        "GH-1",
        "www.example.com",
        "a@example.com",
        "ends\\",
        "a\\|b",
        "**b** _i_ ~~s~~",
        ":smile:",
        "deadbeefcafe",
        "<!-- x",
        "</details>",
    ),
    "N10 XML": ("</script><script>", '"><svg onload>', "&amp;", "]]>", "<![CDATA[", "\ufffe", "'\""),
    "N11 log commands": (
        "\nfoo\n::error::x",
        "::set-env name=a::b",
        "::stop-commands::t",
        "  ::warning::x",
        "##vso[task.setvariable]x",
        "##[error]x",
        "##teamcity[x]",
        "%0A::error::x",
        "a,b:c",
    ),
    "N12 templates": ("{0.__class__}", "%s%n", "{x!r}", "$(id)", "`id`", "; rm -rf x", "${{ x }}"),
    "N13 rich": ("[red]x[/red]", "[link=http://x]y[/link]", ":smile:", "[/]"),
    "N14 mathematics": ("$\\frac{", "a_b^c", "$", "$x$", "\\alpha", "$$"),
    "N15 odd": ("", "   ", "x" * 1_000_000, "\n", ".", "..", "-", "--help", "CON", "/"),
    "N16 equal after cutting": tuple("x" * 200 + str(number) + "y" * 200 for number in range(300)),
    "N17 paths": ("a b.pt", 'a"b.pt', "a*?.pt", "a\nb.pt", "n" * 255, "d/" * 2_048),
}
ALONE = [name for row, names in NAMES.items() if row != "N16 equal after cutting" for name in names]
ROWS = list(NAMES)
MARKDOWN = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table")
LOG_COMMAND = re.compile(r"^\s*::|##\w*\[", re.MULTILINE)


def outcomes_of(name: str) -> list[Outcome]:
    """Return checks in which every name is hostile: one that failed, and one that could not run."""
    check = GateCheck(name, name, name, False, f"too large at {name}", source=name)
    change = Change(name, name, 0.1, 0.2, None, None, "worse", name)
    outcome = against_baseline(make_outcome(name, check, class_="broken"), change)
    assert outcome.report is not None
    hostile = hostile_report(outcome.report, name)
    return [Outcome(name, hostile), Outcome(name, None, name)]


def hostile_report(report: Report, name: str) -> Report:
    """Return a report in which every name of something foreign is the given one."""
    layers = [*report.layers[1:], msgspec.structs.replace(report.layers[0], name=name, type=name)]
    layers.append(make_layer(name, skipped=name))
    predictions = report.predictions and msgspec.structs.replace(report.predictions, class_names=[name] * 3)
    segmentation = report.segmentation and msgspec.structs.replace(report.segmentation, classes=[name])
    values = report.per_image and msgspec.structs.replace(
        report.per_image, ids=[name] * len(report.per_image.ids)
    )
    return msgspec.structs.replace(
        report,
        model=msgspec.structs.replace(report.model, spec=name, note=name),
        tool=msgspec.structs.replace(report.tool, command=["eqaudit", "check", name]),
        inputs=msgspec.structs.replace(
            report.inputs, source=name, preprocessing=[name], skipped=[Skipped(name, name)], shape_reason=name
        ),
        layers=layers,
        predictions=predictions,
        segmentation=segmentation,
        per_image=values,
        warnings=[name],
    )


def texts_of(name: str) -> dict[str, str]:
    """Return everything that is written of a hostile report, by where it goes."""
    outcomes = outcomes_of(name)
    report = outcomes[0].report
    assert report is not None
    sweep = judge(hostile_report(make_sweep("segmentation"), name), Limits())
    return {
        "terminal": log_text(render_report(report, Style(80))),
        "terminal of a sweep": log_text(render_report(sweep, Style(80))),
        "Markdown": render_markdown(outcomes).decode(),
        "XML": render_junit(outcomes).decode(),
        "CSV": sweep_csv(sweep).decode(),
        "CSV by image": per_image_csv(sweep).decode(),
        "JSON": to_json(report).decode(),
        "annotations": "\n".join(annotate(outcomes)),
    }


@pytest.mark.parametrize("row", [row for row in ROWS if row != "N16 equal after cutting"])
def test_every_output_is_printable_lines(row: str) -> None:
    """No escape, no control, no mark of direction: in nothing that is written, whatever a name holds."""
    for name in NAMES[row]:
        for sink, text in texts_of(name).items():
            lines = text.split("\n")
            bad = [line for line in lines if not line.isprintable()]
            assert not bad, (sink, ascii(bad[0]))


def test_no_line_is_a_command_to_a_job() -> None:
    """Neither by its beginning nor anywhere in it, but for our own annotations, of which each is one line."""
    for name in [*NAMES["N11 log commands"], "x" * 11 + "::error::y", "#" * 30 + "[error]"]:
        texts = texts_of(name)
        for line in texts.pop("annotations").split("\n"):
            assert re.match(r"::(error|warning) title=[^:,]*::", line)
            assert not LOG_COMMAND.search(line[2:])
        for sink in ("terminal", "terminal of a sweep", "JSON"):
            assert not LOG_COMMAND.search(texts[sink]), (sink, name)


@given(st.text(st.sampled_from(" :#[]ab\n\t\x1b[0m"), max_size=40))
def test_log_text_defuses_any_text(text: str) -> None:
    """Text that is no command stays as it is."""
    safe = log_text(text)
    assert not LOG_COMMAND.search(safe.replace("\x1b[0m", ""))
    if not LOG_COMMAND.search(text) and "\x1b" not in text:
        assert safe == text


def cells_of(markdown: str) -> list[list[str]]:
    """Return the rows of the one table in a text, as a parser of Markdown sees them, as inline tokens."""
    tokens = MARKDOWN.parse(markdown)
    kinds = {child.type for token in tokens for child in token.children or []}
    assert kinds <= {"text", "code_inline"}, kinds
    return [[child.content for child in token.children or []] for token in tokens if token.type == "inline"]


@pytest.mark.parametrize("function", [markdown_code, markdown_text])
def test_a_name_is_one_cell_of_text(function: Any) -> None:
    """No link, picture, tag or other markup, and the table has as many cells as before."""
    for name in [name for name in ALONE if len(name) < 10_000]:
        table = f"| a | b |\n| --- | --- |\n| {function(name)} | end |\n"
        cells = cells_of(table)
        assert len(cells) == 4, name
        assert cells[3] == ["end"], name


@given(st.text())
def test_any_text_is_one_cell(text: str) -> None:
    """Also what nobody thought of."""
    for function in (markdown_code, markdown_text):
        cells = cells_of(f"| a | b |\n| --- | --- |\n| {function(text)} | end |\n")
        assert len(cells) == 4
        assert cells[3] == ["end"]


@pytest.mark.parametrize(
    "name", ["@org/team", "#1", "org/repo#1", "GH-1", "a@example.com", "deadbeefcafe", "www.x.org"]
)
def test_what_github_links_stands_in_code(name: str) -> None:
    """Mentions, references and addresses are looked for in text, not in code."""
    for markdown in (markdown_code(name), markdown_text(f"see {name}, or ({name})")):
        for token in MARKDOWN.parse(markdown):
            for child in token.children or []:
                assert child.type == "code_inline" or name not in child.content


def test_code_shows_the_name_as_it_is() -> None:
    """Up to escapes, and up to the bar, which no reader of tables lets pass."""
    for name in [name for name in ALONE if 0 < len(name.strip()) < 100 and "|" not in name]:
        (inline,) = [token for token in MARKDOWN.parse(f"x {markdown_code(name)}") if token.type == "inline"]
        (code,) = [child.content for child in inline.children or [] if child.type == "code_inline"]
        assert code == show(name)


@pytest.mark.parametrize("name", [name for name in ALONE if 0 < len(name) < 1_000])
def test_xml_is_read_back_equal(name: str) -> None:
    """Names, messages and text are what the terminal would show."""
    root = ET.fromstring(render_junit(outcomes_of(name)))
    suites = list(root)
    assert [suite.attrib["name"] for suite in suites] == [show(name)] * 2
    assert [error.text or "" for error in root.iter("error")] == [show(name)]
    failures = [case[0] for case in suites[0].iter("testcase") if case.attrib["name"] == show(name)]
    assert [failure.text for failure in failures] == [f"too large at {show(name)} ({show(name)})"]


@pytest.mark.parametrize("name", NAMES["N08 formulas"])
def test_a_formula_is_a_text_in_a_spreadsheet(name: str) -> None:
    """The cell begins with a quotation mark; numbers do not."""
    rows = list(csv.DictReader(io.StringIO(texts_of(name)["CSV by image"])))
    assert {row["image"][0] for row in rows} == {"'"}
    assert float(rows[0]["error"]) >= 0


@pytest.mark.parametrize("name", [name for name in ALONE if len(name) < 10_000])
def test_json_keeps_the_name(name: str) -> None:
    """JSON is the lossless one, but for bytes that are no UTF-8."""
    outcome = outcomes_of(name)[0]
    assert outcome.report is not None
    again = from_json(to_json(outcome.report))
    expected = re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", name)
    assert again.layers[-1].name == expected
    assert again.tool.command[-1] == expected


@pytest.mark.parametrize("row", ["N05 widths", "N12 templates", "N13 rich", "N14 mathematics"])
def test_the_table_stays_a_table(row: str) -> None:
    """A wide name is folded: no line is wider than the terminal, and markup of other programs is text."""
    for name in NAMES[row]:
        text = texts_of(name)["terminal"]
        table = text.split("\nlayer", 1)[1].split("\n\n", 1)[0]
        assert max(cell_len(line) for line in table.splitlines()) <= 80
        if len(name) < 12 and row != "N05 widths":
            assert any(line.startswith(f"{name} ") for line in table.splitlines()), name


def test_twins_are_both_shown() -> None:
    """A letter of another script is a letter: the two names stand as they are."""
    latin, cyrillic = NAMES["N07 twins"]
    assert show(latin) != show(cyrillic)
    assert show(cyrillic) == cyrillic


@pytest.mark.parametrize("row", ["N01 escapes", "N05 widths", "N06 no UTF-8", "N14 mathematics", "N15 odd"])
def test_pictures_are_drawn_with_any_name(row: str) -> None:
    """PNG under our names: none of them comes from a report."""
    for name in NAMES[row]:
        report = outcomes_of(name)[0].report
        assert report is not None
        pictures = draw(report)
        assert set(pictures) == {"heatmap.png", "layers.png"}
        assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())


@pytest.mark.parametrize("name", ["$\\frac{", "\x1b[31m", "x" * 1_000_000, "層" * 60])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_pictures_of_a_sweep_are_drawn_with_any_name(task: Any, name: str) -> None:
    """The worst case names an image, the rows name classes."""
    panel = msgspec.structs.replace(make_panel(), image=name, sentence=name)
    pictures = draw(judge(hostile_report(make_sweep(task), name), Limits()), panel)
    assert {"error.png", "heatmap.png", "worst.png"} <= set(pictures)
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())


def test_what_is_cut_stays_apart() -> None:
    """300 names that begin and end alike are 300 names in every table, and all are rows of the report."""
    names = NAMES["N16 equal after cutting"]
    assert len({layer_name(make_layer(name)) for name in names}) == len(names)
    assert len({shorten(name, 40) for name in names}) == len(names)
    assert max(len(shorten(name, 40)) for name in names) == 40
    outcomes = [Outcome(name, None, "no such file") for name in names]
    suites = ET.fromstring(render_junit(outcomes))
    assert len({suite.attrib["name"] for suite in suites}) == len(names)
    assert len(render_markdown(outcomes)) <= LARGEST_COMMENT


FROM_THE_ENVIRONMENT = "ghp_secret_of_the_environment"
MODEL = """
import os

import torch


class Mean(torch.nn.Module):
    def forward(self, x):
        return x.mean((2, 3))
"""


def test_the_home_folder_and_the_environment_stay_out_of_the_report(tmp_path: Path, eqaudit: Any) -> None:
    """N18: paths below the home folder are written from ~; nothing is taken from the environment."""
    home = tmp_path / "home" / "ann.example"
    (home / "images").mkdir(parents=True)
    (home / "net.py").write_text(MODEL)
    np.save(home / "images.npy", np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32))
    summary = home / "summary.md"
    ended = eqaudit(
        "check",
        f"{home}/net.py:Mean",
        *("--data", f"{home}/images.npy", "--layers", "none", "--quiet", "--json", f"{home}/r.json"),
        *("--report", f"junit={home}/j.xml", "--report", f"markdown={home}/c.md"),
        cwd=tmp_path,
        env={
            "HOME": os.fspath(home),
            "GITHUB_TOKEN": FROM_THE_ENVIRONMENT,
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": os.fspath(summary),
        },
    )
    assert ended.returncode == 0, ended.stderr
    written = b"".join((home / name).read_bytes() for name in ("r.json", "j.xml", "c.md", "summary.md"))
    for secret in ("ann.example", FROM_THE_ENVIRONMENT):
        assert secret.encode() not in written + ended.stdout + ended.stderr
    report = from_json((home / "r.json").read_bytes())
    assert report.model.spec == "~/net.py:Mean"
    assert report.tool.command[2] == "~/net.py:Mean"
    assert "~/images.npy" in report.inputs.source


def test_an_error_in_a_report_does_not_name_the_home_folder(tmp_path: Path, eqaudit: Any) -> None:
    """The terminal of the user names the file; what is published does not say where it is."""
    (tmp_path / "net.py").write_text(f"open('{tmp_path}/nowhere')\n")
    ended = eqaudit(
        "check",
        f"{tmp_path}/net.py:Net",
        *("--report", "junit=j.xml"),
        cwd=tmp_path,
        env={"HOME": os.fspath(tmp_path)},
    )
    assert ended.returncode == 3
    assert f"{tmp_path}/nowhere" in ended.stderr.decode()
    (error,) = ET.parse(tmp_path / "j.xml").getroot().iter("error")
    assert "~/nowhere" in (error.text or "")
    assert os.fspath(tmp_path) not in (error.text or "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ann", "~"),
        ("/home/ann/m.pt", "~/m.pt"),
        ("a=/home/ann/m.pt: no such file", "a=~/m.pt: no such file"),
        ("/home/anna/m.pt", "/home/anna/m.pt"),
        ("/backup/home/ann/m.pt", "/backup/home/ann/m.pt"),
    ],
)
def test_only_the_home_folder_itself_is_hidden(
    text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a folder that begins alike, nor one elsewhere."""
    monkeypatch.setenv("HOME", "/home/ann")
    assert hide_home(text) == shown
    monkeypatch.setenv("HOME", "/")
    assert hide_home(text) == text


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "m.pt", "--\x1b[31m\udcff"),
        ("check", "m.pt", "--group", "\x1b]0;t\x07"),
        ("check", "m.pt", "--samples", "\n::error::x"),
        ("check", "m.pt", "--boundary", "##[error]x"),
        ("\x9b31m",),
        ("check", "m.pt", "::error::x"),
        ("check", "m.pt", "--report", "\u202ejunit=\x1b"),
        ("render", "\x1b[31m::error::x"),
        ("check", "\n::error::x.pt"),
    ],
)
def test_usage_errors_steer_nothing(
    arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser of options prints what was typed; it is ours before it reaches the terminal."""
    from eqaudit.cli import main  # noqa: PLC0415 - it is what is tested

    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert main(list(arguments)) in {2, 3}
    told = capfd.readouterr()
    assert told.out == ""
    assert all(line.isprintable() for line in told.err.split("\n"))
    assert not LOG_COMMAND.search(told.err)


def test_the_examples_of_each_way_out_are_true() -> None:
    """What the docstrings show is what the functions return."""
    found = doctest.testmod(escape)
    assert found.attempted >= 6
    assert found.failed == 0
