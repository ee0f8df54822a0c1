"""Configuration files: what may stand in them, where each key stands, and what runs."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqaudit import cli
from eqaudit.cli import configured
from eqaudit.config import Keys, locate
from eqaudit.errors import ExitCode
from eqaudit.limits import Limit
from eqaudit.report import Outcome

MODEL = '[check.a]\nmodel = "model.pt"\n'
MODELS = '''
import torch


class Mean(torch.nn.Module):
    """Exactly invariant."""

    def forward(self, x):
        return x.mean((2, 3))


class Corner(torch.nn.Module):
    """Looks at one pixel."""

    def forward(self, x):
        return x[:, :, 0, 0]
'''

KEYS = st.sampled_from(["a", "b-c", '"d e"', "'f.g'", "h . i", "j_1"])
SCALARS = st.sampled_from(
    [
        "1",
        "-2.5e3",
        "true",
        '"x # ]"',
        "'y = {'",
        '"""\n[z]\n"q" = 1\n"""',
        "'''\n\\'''",
        "1979-05-27 07:32:00",
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda found: "[ # c ]\n " + " ,\n ".join(found) + " ]"),
        inner.map(lambda found: "{k = 1, l.m = [" + found + "]}"),
    ),
    max_leaves=4,
)


def _paths(value: Any, path: Keys = ()) -> set[Keys]:
    """Return the paths of every key and element of a parsed document."""
    found: set[Keys] = set()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found |= {(*path, key)} | _paths(inner, (*path, key))
    return found


@given(
    st.lists(st.tuples(KEYS, VALUES), max_size=4), st.sampled_from(["", "[t]\n", "  [ t . 'u v' ] # [w]\n"])
)
def test_every_key_of_a_document_is_located(pairs: list[tuple[str, str]], header: str) -> None:
    """The walk finds what tomllib finds, and where it says, that key or value begins."""
    text = "# c\n" + header + "".join(f"\t{key} = {value} # d\n" for key, value in dict(pairs).items())
    places = locate(text)
    assert set(places) == _paths(tomllib.loads(text)) | {()}
    lines = text.split("\n")
    for path, (line, column) in places.items():
        begins = lines[line - 1][column - 1 :]
        assert begins
        assert not path or not begins[0].isspace()
        if path and isinstance(path[-1], str) and "." not in begins.partition("=")[0]:
            assert path[-1] in begins


def test_an_error_inside_of_a_limit_is_pointed_at(refused: Callable[[str | bytes], str]) -> None:
    """In the text of the limit, below the place in the file."""
    lines = refused(MODEL + 'limits = ["verdict >= C4", "output.eror < 1"]').splitlines()
    assert lines[0].startswith("error: eqaudit.toml:3:28: --limit: column 8: ")
    assert lines[2].index("^") == lines[1].index("eror")


def test_without_a_model_and_a_configuration_both_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the way to get one."""
    monkeypatch.chdir("/")
    assert cli.main(["check"]) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert "MODEL is missing" in error
    assert "eqaudit init" in error


CONFIGURED = """
samples = 4
input-shape = "3,8,8"

[check.mean]
model = "models.py:Mean"
limits = [
  "verdict >= C4",
]

[check.corner]
model = "models.py:Corner"
group = "C2"

[check.gone]
model = "gone.pt"

[check.turned]
model = "models.py:Mean"
angles = "0,90"
max-error = 0.5
"""


def test_every_check_runs_and_the_gravest_code_is_the_last(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From another folder, with paths relative to the configuration; flags go before it."""
    (folder / "models.py").write_text(MODELS)
    (folder / "eqaudit.toml").write_text(CONFIGURED.replace("max-error = 0.5\n", ""))
    inner = folder / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert cli.main(["check", "--samples", "2", "--layers", "none"]) == ExitCode.CANNOT_RUN
    shown = capsys.readouterr().out
    table = {line.split()[0]: line.split()[-1] for line in shown.splitlines()[3:7]}
    assert table == {"mean": "PASSED", "corner": "FAILED", "gone": "RUN", "turned": "PASSED"}
    assert "configuration ../eqaudit.toml" in shown
    assert "C2 must hold" in shown
    assert "input  2 images" in shown
    assert "no such model file: gone.pt" in shown
    assert cli.main(["check", "--only", "corner", "--no-gate", "--quiet"]) == ExitCode.PASSED
    assert Path.cwd() == inner


def test_a_limit_knows_the_line_that_set_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also a shorthand; one of the command line takes the place of all that are configured."""
    (folder / "models.py").write_text(MODELS)
    (folder / "eqaudit.toml").write_text(CONFIGURED)
    seen: list[tuple[Limit, ...]] = []

    def keep(name: str, asked: Any) -> tuple[Outcome, ExitCode]:
        seen.append(asked.limits.asked)
        return Outcome(name, None, "not run"), ExitCode.PASSED

    monkeypatch.setattr(configured, "_run", keep)
    assert cli.main(["check", "--only", "mean"]) == ExitCode.PASSED
    assert cli.main(["check", "--only", "mean", "--limit", "output.error < 1"]) == ExitCode.PASSED
    assert [(limit.text, limit.source) for limits in seen for limit in limits] == [
        ("verdict >= C4", "eqaudit.toml:8:3"),
        ("output.error < 1", "--limit"),
    ]
    assert cli.main(["check", "--only", "turned"]) == ExitCode.USAGE
    assert "unknown key 'max-error'" in capsys.readouterr().err


def test_names_of_checks_are_foreign_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes and markup in them stay text."""
    (folder / "eqaudit.toml").write_text(r"""[check."[red]\u001b[31m\n|"]""" + '\nmodel = "gone.pt"\n')
    assert cli.main(["check"]) == ExitCode.CANNOT_RUN
    shown = capsys.readouterr().out
    assert r"[red]\x1b[31m\x0a|" in shown
    assert "\x1b" not in shown


def test_reports_hold_every_check_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--report goes to the whole run: one file, with the check that could not run as an error."""
    (folder / "models.py").write_text(MODELS)
    (folder / "eqaudit.toml").write_text(CONFIGURED.replace("max-error = 0.5\n", ""))
    inner = folder / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    asked = ["check", "--samples", "2", "--layers", "none", "--report", "junit=all.xml"]
    assert cli.main(asked) == ExitCode.CANNOT_RUN
    suites = ET.parse(inner / "all.xml").getroot()
    assert [suite.get("name") for suite in suites] == ["mean", "corner", "gone", "turned"]
    assert [len(suite.findall(".//error")) for suite in suites] == [0, 0, 1, 0]
