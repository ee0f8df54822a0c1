"""A job of GitHub Actions: annotations on standard error, the summary of the job, and codes that stay."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from reports import make_layer, make_outcome, undecided_check

from eqaudit.cli.github import LARGEST_SUMMARY, MOST_SHOWN, annotate, tell_github
from eqaudit.report import GateCheck, Outcome
from eqaudit.reporters.markdown import render_markdown

COMMAND = re.compile(r"::(error|warning) title=([^:,]*)::(.*)")
"""What the runner takes: one line; in a title colons and commas are encoded."""
FAILS = make_outcome("net.pt", class_="broken")


def read(lines: list[str]) -> list[tuple[str, str, str]]:
    """Return kind, title and message of each command as the runner decodes them."""
    found = []
    for line in lines:
        parsed = COMMAND.fullmatch(line)
        assert parsed is not None, line
        kind, title, message = parsed.groups()
        for code, mark in (("%3A", ":"), ("%2C", ","), ("%25", "%")):
            title = title.replace(code, mark)
        found.append((kind, title, message.replace("%25", "%")))
    return found


def test_each_limit_that_failed_is_an_error() -> None:
    """The title names the check and the limit; what passed is not told."""
    outcomes = [FAILS, make_outcome("good"), make_outcome("open", undecided_check("0.91 to 0.96, 50 %"))]
    assert read(annotate(outcomes)) == [
        (
            "error",
            "eqaudit: net.pt: group holds failed",
            "C4 must hold on output: 0 of 3 elements hold (3 broken)",
        ),
        ("error", "eqaudit: open: min consistency undecided", "0.91 to 0.96, 50 %"),
    ]


def test_a_check_that_could_not_run_is_an_error() -> None:
    """Its message is that of the command."""
    (found,) = read(annotate([Outcome("net.pt", None, "no such model file: net.pt")]))
    assert found == ("error", "eqaudit: net.pt", "the audit could not run: no such model file: net.pt")


def test_what_does_not_fail_the_job_is_a_warning() -> None:
    """Limits under --no-gate, and layers that were not measured."""
    assert FAILS.report is not None
    assert FAILS.report.gate is not None
    gate = msgspec.structs.replace(FAILS.report.gate, judged=False)
    skipped = [*FAILS.report.layers, make_layer("rnn", skipped="returns None")]
    report = msgspec.structs.replace(FAILS.report, gate=gate, layers=skipped)
    assert [(kind, title) for kind, title, _ in read(annotate([Outcome("net.pt", report)]))] == [
        ("warning", "eqaudit: net.pt: group holds failed"),
        ("warning", "eqaudit: net.pt: incomplete"),
    ]


def test_no_more_annotations_than_github_shows() -> None:
    """The tenth says how many there are beside it."""
    outcomes = [make_outcome(f"net{number}", class_="broken") for number in range(25)]
    found = read(annotate(outcomes))
    assert len(found) == MOST_SHOWN
    assert found[-1][2] == "and 16 more: see the summary of the job"
    assert len(read(annotate(outcomes[:MOST_SHOWN]))) == MOST_SHOWN


def test_a_long_message_is_cut() -> None:
    """An annotation is a line, not a file."""
    (line,) = annotate([make_outcome("net", GateCheck("limit", 1.0, 0.0, False, "x" * 1_000_000))])
    assert len(line) < 3_000


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of the job's summary, in the environment of a job."""
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", os.fspath(summary))
    return summary


def test_the_summary_is_appended_to(job: Path) -> None:
    """What other commands of the step wrote stays."""
    job.write_text("from another command\n")
    tell_github([FAILS])
    assert job.read_bytes() == b"from another command\n" + render_markdown([FAILS])
    tell_github([FAILS])
    assert job.read_bytes().count(b"## eqaudit") == 2


def test_without_a_job_nothing_is_written(
    job: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The variable must say true; a job without a summary gets annotations alone."""
    monkeypatch.setenv("GITHUB_ACTIONS", "false")
    tell_github([FAILS])
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "")
    tell_github([FAILS])
    told = capfd.readouterr()
    assert told.out == ""
    assert len(read(told.err.splitlines())) == 1
    assert not job.exists()


def _make_folder(summary: Path) -> None:
    summary.mkdir()


def _make_pipe(summary: Path) -> None:
    os.mkfifo(summary)


def _fill(summary: Path) -> None:
    summary.write_bytes(b"x" * (LARGEST_SUMMARY - 10))


@pytest.mark.parametrize("spoil", [_make_folder, _make_pipe, _fill])
def test_a_summary_that_cannot_be_written_is_a_remark(
    spoil: Callable[[Path], None], job: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It raises nothing, waits for nobody, and leaves what is there."""
    spoil(job)
    size = job.stat().st_size
    tell_github([FAILS])
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("the summary of the job could not be written: ")
    assert job.stat().st_size == size


MODEL = """
import torch


class Corner(torch.nn.Module):
    def forward(self, x):
        return x[..., 0, 0]
"""
OPTIONS = ("--input-shape", "3,8,8", "--samples", "4", "--layers", "none")


def test_in_a_job_a_command_earns_the_same_code_and_the_same_report(tmp_path: Path, eqaudit: Any) -> None:
    """Annotations reach the log by standard error, so that JSON on standard output stays whole."""
    (tmp_path / "model.py").write_text(MODEL)
    summary = tmp_path / "summary.md"
    job = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": os.fspath(summary)}
    arguments = ("check", "model.py:Corner", *OPTIONS, "--json", "-")
    outside = eqaudit(*arguments, cwd=tmp_path, env={"GITHUB_ACTIONS": ""})
    inside = eqaudit(*arguments, cwd=tmp_path, env=job)
    assert inside.returncode == outside.returncode == 1
    assert inside.stdout == outside.stdout
    assert json.loads(inside.stdout)["gate"]["passed"] is False
    assert outside.stderr == b""
    ((kind, title, _),) = read(inside.stderr.decode().splitlines())
    assert (kind, title) == ("error", "eqaudit: model.py:Corner: group holds failed")
    assert summary.read_text().startswith("## eqaudit: ❌ `model.py:Corner`: failed\n")
    full = eqaudit(*arguments, cwd=tmp_path, env=job | {"GITHUB_STEP_SUMMARY": "/dev/full"})
    assert full.returncode == 1
    assert full.stdout == outside.stdout
