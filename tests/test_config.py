"""Configuration files: what may stand in them, where each key stands, and what runs."""

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqaudit import cli
from eqaudit.bounds import BOUNDS
from eqaudit.cli import configured
from eqaudit.config import Keys, find_config, locate, read_config
from eqaudit.errors import ExitCode, UsageError
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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty current folder, with a file that stands for a model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"no model")
    return tmp_path


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str | bytes], str]:
    """Return a function that runs the checks of a configuration, which must end in 2, for its error."""

    def run(content: str | bytes) -> str:
        (folder / "eqaudit.toml").write_bytes(content.encode() if isinstance(content, str) else content)
        assert cli.main(["check"]) == ExitCode.USAGE
        shown = capsys.readouterr()
        assert not shown.out
        return shown.err

    return run


CASES: dict[str, tuple[str | bytes, str]] = {
    "c01 syntax, line 1": ("a = = 1", "eqaudit.toml:1:5: Invalid value"),
    "c01 syntax, line 400": ("\n" * 399 + "x = [1 2]", "eqaudit.toml:400:8: Unclosed array"),
    "c01 syntax, at the end": ("x = [", "at the end of the file"),
    "c02 typo of a key": (
        MODEL + 'grup = "C4"',
        "eqaudit.toml:3:1: unknown key 'grup'; did you mean 'group'?",
    ),
    "c02 typo of a shared key": ("sampels = 3\n" + MODEL, "eqaudit.toml:1:1: unknown key 'sampels'"),
    "c02 key in a wrong table": (MODEL + "[lenet]\nsamples = 3", "eqaudit.toml:3:2: unknown key 'lenet'"),
    "c02 key of the other command": (MODEL + 'angles = "0"\ngroup = "C4"', "4:1: unknown key 'group'"),
    "c02 what is no configuration": (MODEL + 'only = ["a"]', "3:1: unknown key 'only'"),
    "c03 string for a number": (MODEL + 'samples = "3"', "3:1: 'samples': Expected `int`, got `str`"),
    "c03 bool for an int": (MODEL + "samples = true", "3:1: 'samples': Expected `int`, got `bool`"),
    "c03 list for a table": ("check = [1]", "eqaudit.toml:1:1: there are no checks"),
    "c03 value for a check": ("[check]\na = 1", "eqaudit.toml:2:1: 'a' is no table"),
    "c03 string for a list": (MODEL + 'limits = "verdict >= C4"', "'limits': Expected `list`, got `str`"),
    "c03 int for a bool": (MODEL + "strict = 1", "'strict': Expected `bool`, got `int`"),
    "c03 table for a value": (MODEL + "[check.a.data]\nx = 1", "'data': Expected `str`, got `object`"),
    "c04 nan": (MODEL + 'limits = [\n"output.error < nan"]', "eqaudit.toml:4:1: --limit: column 16"),
    "c04 nan as a number": (MODEL + "max-error = nan", "eqaudit.toml:3:1: --max-error nan is no limit"),
    "c04 minus one": (MODEL + "max-error = -1", "--max-error -1"),
    "c05 an int of 100,000 digits": (
        "a = " + "1" * 100_000,
        "eqaudit.toml cannot be read: Exceeds the limit",
    ),
    "c06 nested": ("a = " + "[" * 100_000, "nested too deeply"),
    "c07 large": ("#" * (BOUNDS.configuration_bytes + 1), "too large"),
    "c08 no UTF-8": (b"a = '\xff'", "no UTF-8 from byte 5 on"),
    "c08 UTF-16": ("a = 1".encode("utf-16"), "no UTF-8"),
    "c08 BOM": (b"\xef\xbb\xbf" + MODEL.encode(), "eqaudit.toml:1:1"),
    "c08 NUL": ("a = 1\0", "eqaudit.toml:1:6"),
    "c08 CR only": ("a = 1\rb = 2", "eqaudit.toml:1:6"),
    "c08 lone surrogate": (r'a = "\ud800"', "not a Unicode scalar value"),
    "c09 a key twice": ("a = 1\na = 2\n", "eqaudit.toml:2:6: Cannot overwrite"),
    "c09 dotted, then a table": ("check.a.model = 'x'\n[check]\nb = 1", "eqaudit.toml:2:"),
    "c09 two spellings": (MODEL + "limit = []\nlimits = []", "4:1: 'limits' is said twice"),
    "c10 an empty pattern": (MODEL + "limits = ['layers[\"\"].error < 1']", "3:11: --limit: column 8"),
    "c11 a path of 5,000 characters": (
        f'[check.a]\nmodel = "{"x" * 5_000}"',
        "is no path: File name too long",
    ),
    "c15 a negative seed": (MODEL + "seed = -1", "eqaudit.toml:3:1: Invalid value for '--seed'"),
    "c15 a large seed": (MODEL + f"seed = {2**64}", "3:1: "),
    "c15 a broken seed": (MODEL + "seed = 1.5", "'seed': Expected `int`, got `float`"),
    "c15 angles nan": (MODEL + 'angles = "nan"', "eqaudit.toml:3:1: --angles"),
    "c15 no angles": (MODEL + 'angles = "90:0:5"', "--angles"),
    "c15 step 0": (MODEL + 'angles = "0:90:0"', "--angles"),
    "c15 many angles": (MODEL + 'angles = "0:360:0.000001"', "--angles"),
    "c15 400 degrees": (MODEL + 'angles = "400"', "--angles"),
    "c15 batch 0": (MODEL + "batch-size = 0", "--batch-size '0' is no number"),
    "a wrong choice": (MODEL + 'judge = "bond"', "eqaudit.toml:3:1: Invalid value for '--judge'"),
    "a check without a model": ("[check.a]\nsamples = 1", "eqaudit.toml:1:2: a has no model"),
    "one file for two": (
        MODEL + 'json = "r"\n[check.b]\nmodel = "model.pt"\njson = "r"',
        "several checks write",
    ),
    "json to stdout": (MODEL + 'json = "-"', "goes with one MODEL"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said_with_its_place(case: str, refused: Callable[[str | bytes], str]) -> None:
    """Before anything is measured, in one error."""
    content, says = CASES[case]
    error = refused(content)
    assert says in error
    assert error.startswith("error: ")


def test_an_error_inside_of_a_limit_is_pointed_at(refused: Callable[[str | bytes], str]) -> None:
    """In the text of the limit, below the place in the file."""
    lines = refused(MODEL + 'limits = ["verdict >= C4", "output.eror < 1"]').splitlines()
    assert lines[0].startswith("error: eqaudit.toml:3:28: --limit: column 8: ")
    assert lines[2].index("^") == lines[1].index("eror")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path)])
def test_c12_what_is_no_file_is_refused(make: Callable[[Path], None], folder: Path) -> None:
    """And never waited for."""
    make(folder / "eqaudit.toml")
    with pytest.raises(UsageError, match="no regular file"):
        find_config(folder)
    with pytest.raises(UsageError, match="no such configuration"):
        read_config(folder / "other.toml")


def test_c13_the_nearest_folder_decides_and_its_own_file_first(folder: Path) -> None:
    """A pyproject.toml without our table is passed over; one beside eqaudit.toml is said not to be read."""
    inner = folder / "inner" / "most"
    inner.mkdir(parents=True)
    (folder / "pyproject.toml").write_text("[tool.eqaudit.check.a]\nmodel = 'm'\n")
    (inner / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    found = find_config(inner)
    assert (found.path, found.note) == (folder / "pyproject.toml", "")
    assert found.where("check", "a", "model").endswith("pyproject.toml:2:1")
    (folder / "eqaudit.toml").write_text(MODEL)
    found = find_config(inner)
    assert found.path == folder / "eqaudit.toml"
    assert found.note == "pyproject.toml beside it is not read"


def test_without_a_model_and_a_configuration_both_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the way to get one."""
    monkeypatch.chdir("/")
    assert cli.main(["check"]) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert "MODEL is missing" in error
    assert "eqaudit init" in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["model.pt", "--only", "a"], "go without MODEL"),
        (["model.pt", "--config", "eqaudit.toml"], "go without MODEL"),
        (["--only", "b"], "--only 'b' is no check"),
        (["--config", "other.toml"], "no such configuration"),
        ([""], "MODEL is empty"),
    ],
)
def test_c14_flags_that_contradict_are_refused(
    arguments: list[str], says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One rule: MODEL, or a configuration."""
    (folder / "eqaudit.toml").write_text(MODEL)
    assert cli.main(["check", *arguments]) == ExitCode.USAGE
    assert says in capsys.readouterr().err


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
