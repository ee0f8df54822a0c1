"""Hostile configurations, baselines, reports and Python specs, row by row: one error, its code, nothing run.

Every row has an identifier, C01 to C24, and goes through the real command. `HELD_BY` names the tests of other
files that hold a row, or members of it.
"""

import hashlib
import json
import os
import re
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import test_baseline
from reports import make_report
from test_hostile_data import unpacking

from eqaudit import cli
from eqaudit.bounds import BOUNDS, describe_bounds
from eqaudit.cli.files import TEMPORARY_PREFIX
from eqaudit.config import find_config, read_config
from eqaudit.errors import ExitCode, UsageError
from eqaudit.limits import matches
from eqaudit.report import PerImage, from_json, to_json

MODEL = '[check.a]\nmodel = "model.pt"\n'
SECONDS = 20.0  # for reading a configuration, on a busy machine
HELD_BY = {
    "c18": [
        test_baseline.test_c18_what_was_measured_otherwise_is_not_comparable,
        test_baseline.test_c18_what_is_no_longer_measured_is_no_pass,
        test_baseline.test_c18_another_model_is_what_a_baseline_is_for,
    ],
    "c19": [test_baseline.test_c19_layers_that_are_gone_or_new_are_named],
    "c20": [test_baseline.test_c20_numbers_that_were_edited_are_shown],
    "c21": [test_baseline.test_c21_a_baseline_that_cannot_be_is_found_before_the_audit],
}
NO_TEST: dict[str, str] = {}
"""Rows that cannot be made, with the reason: none."""

# Configurations ------------------------------------------------------------------------------------

CASES: dict[str, tuple[str | bytes, str]] = {
    "c01 syntax, line 1": ("a = = 1", "eqaudit.toml:1:5: Invalid value"),
    "c01 syntax, line 400": ("\n" * 399 + "x = [1 2]", "eqaudit.toml:400:8: Unclosed array"),
    "c01 syntax, at the end": ("x = [", "at the end of the file"),
    "c02 typo of a key": (
        MODEL + 'grup = "C4"',
        "eqaudit.toml:3:1: unknown key 'grup'; did you mean 'group'?",
    ),
    "c02 typo of a shared key": ("sampels = 3\n" + MODEL, "eqaudit.toml:1:1: unknown key 'sampels'"),
    "c02 typo of the table of checks": ("[chekc.a]\nmodel = 'm'", "there are no checks"),
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
    "c04 inf": (MODEL + "max-error = inf", "3:1: --max-error inf is no limit"),
    "c04 1e400": (MODEL + "tolerance = 1e400", "3:1: --tolerance inf is no limit"),
    "c04 1e400 in a limit": (MODEL + "limits = ['output.error < 1e400']", "column 16: expected a finite"),
    "c04 minus zero": (MODEL + "max-error = -0.0", "3:1: --max-error: column 17"),
    "c04 every option": (MODEL + "floor-factor = nan", "3:1: --floor-factor nan is no limit"),
    "c04 nan": (MODEL + 'limits = [\n"output.error < nan"]', "eqaudit.toml:4:1: --limit: column 16"),
    "c04 nan as a number": (MODEL + "max-error = nan", "eqaudit.toml:3:1: --max-error nan is no limit"),
    "c04 minus one": (MODEL + "max-error = -1", "--max-error -1"),
    "c05 an int of 100,000 digits": (
        "a = " + "1" * 100_000,
        "eqaudit.toml cannot be read: Exceeds the limit",
    ),
    "c06 tables in tables": ("a = " + "{a = " * 20_000, "nested too deeply"),
    "c06 a key of many parts": (".".join("a" * 500_000) + " = 1", "nested too deeply: more than 16 levels"),
    "c06 a table of many parts": ("[" + " . ".join("a" * 250_000) + "]", "nested too deeply"),
    "c06 quoted parts": (".".join(['"a"'] * 200_000) + " = 1", "nested too deeply"),
    "c06 arrays that fit": ("a = " + "[" * 300 + "0.1, 1.2" + "]" * 300, "there are no checks"),
    "c06 nested": ("a = " + "[" * 100_000, "nested too deeply"),
    "c07 large": ("#" * (BOUNDS.configuration_bytes + 1), "too large"),
    "c07 a text of a megabyte": ("a = '" + "x" * (BOUNDS.configuration_bytes - 10) + "'", "no checks"),
    "c07 100,000 keys": ("".join(f"k{key}=0\n" for key in range(100_000)), "there are no checks"),
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
    "c11 a NUL": ('[check.a]\nmodel = "a\\u0000b"', r"2:1: MODEL 'a\x00b' is no path: it holds a NUL"),
    "c11 a NUL in what is written": (MODEL + 'json = "a\\u0000b"', "cannot be written: embedded null byte"),
    "c11 a NUL in data": (MODEL + 'data = "a\\u0000b"', r"3:1: --data 'a\x00b' is no path"),
    "c11 a baseline of 5,000": (MODEL + f'baseline = "{"x" * 5_000}"', "3:1: --baseline 'xxx"),
    "c11 masks of 5,000": (MODEL + f'masks = "{"x" * 5_000}"', "3:1: --masks 'xxx"),
    "c15 a negative seed": (MODEL + "seed = -1", "eqaudit.toml:3:1: Invalid value for '--seed'"),
    "c15 a large seed": (MODEL + f"seed = {2**64}", "3:1: "),
    "c15 a broken seed": (MODEL + "seed = 1.5", "'seed': Expected `int`, got `float`"),
    "c15 angles nan": (MODEL + 'angles = "nan"', "eqaudit.toml:3:1: --angles"),
    "c15 no angles": (MODEL + 'angles = "90:0:5"', "--angles"),
    "c15 step 0": (MODEL + 'angles = "0:90:0"', "--angles"),
    "c15 many angles": (MODEL + 'angles = "0:360:0.000001"', "--angles"),
    "c15 400 degrees": (MODEL + 'angles = "400"', "--angles"),
    "c15 batch 0": (MODEL + "batch-size = 0", "--batch-size '0' is no number"),
    "c21 over the configuration": (MODEL + 'json = "eqaudit.toml"', "eqaudit.toml is an input of a check"),
    "c21 over the model of another": (
        MODEL + '[check.b]\nmodel = "other.pt"\njson = "model.pt"',
        "model.pt is an input of a check",
    ),
    "c21 over a baseline": (
        MODEL + 'baseline = "b.json"\n[check.b]\nmodel = "model.pt"\njson = "b.json"',
        "b.json is an input of a check",
    ),
    "a wrong choice": (MODEL + 'judge = "bond"', "eqaudit.toml:3:1: Invalid value for '--judge'"),
    "a check without a model": ("[check.a]\nsamples = 1", "eqaudit.toml:1:2: a has no model"),
    "one file for two": (
        MODEL + 'json = "r"\n[check.b]\nmodel = "model.pt"\njson = "r"',
        "several checks write",
    ),
    "json to stdout": (MODEL + 'json = "-"', "goes with one MODEL"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said_with_its_place(
    case: str, folder: Path, refused: Callable[[str | bytes], str]
) -> None:
    """Before anything is measured, in one error, soon."""
    content, says = CASES[case]
    (folder / "b.json").write_bytes(to_json(make_report()))
    (folder / "other.pt").write_bytes(b"no model")
    begin = time.monotonic()
    error = refused(content)
    assert time.monotonic() - begin < SECONDS
    assert says in error
    assert [line.startswith("error: ") for line in error.splitlines()][:2] == [True, False]
    assert len(error) < 3_000
    assert {path.name for path in folder.iterdir()} == {"b.json", "eqaudit.toml", "model.pt", "other.pt"}
    assert (folder / "model.pt").read_bytes() == b"no model"


def test_c05_other_ways_to_write_a_number_are_numbers(folder: Path) -> None:
    """TOML has hexadecimal, octal and underscores; an int that no option takes is refused there."""
    (folder / "eqaudit.toml").write_text(MODEL + "samples = 0x10\nseed = 1_0\nthreads = 0o7")
    table = read_config(folder / "eqaudit.toml").table["check"]["a"]
    assert (table["samples"], table["seed"], table["threads"]) == (16, 10, 7)


LAYERS = """
import torch


def net():
    model = torch.nn.Sequential()
    for name in ("a" * 10_000 + "b", "plain"):
        model.add_module(name, torch.nn.ReLU())
    return model
"""


@pytest.mark.parametrize("pattern", ["(a+)+$", "*a" * 5_000 + "c", "[", "[z-a]", "", "nothing*"])
@pytest.mark.parametrize("option", ["--layers", "--limit"])
@pytest.mark.usefixtures("measured_here")
def test_c10_a_pattern_is_no_regular_expression(
    pattern: str, option: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catastrophic or invalid as one, it matches nothing, at once."""
    (folder / "nets.py").write_text(LAYERS)
    value = pattern if option == "--layers" else f'layers["{pattern}"].error < 1'
    begin = time.monotonic()
    matches("a" * 10_000 + "b", pattern)
    assert time.monotonic() - begin < 1
    asked = ["check", "nets.py:net", "--input-shape", "3,8,8", "--samples", "2", option, value]
    assert cli.main(asked) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert len(error) < 5_000
    assert re.search("matches no layer|expected a pattern|at most 1,000 characters", error)


@pytest.mark.usefixtures("measured_here")
def test_c10_a_pattern_that_matches_all_is_all(folder: Path) -> None:
    """And a name that looks like a set of characters is itself."""
    (folder / "nets.py").write_text(LAYERS)
    asked = ["check", "nets.py:net", "--input-shape", "3,8,8", "--samples", "2", "--layers", "*"]
    assert cli.main([*asked, "--json", "r.json"]) == ExitCode.PASSED
    assert len(json.loads((folder / "r.json").read_bytes())["layers"]) == 2


@pytest.mark.parametrize("path", ["{}/gone.pt", "~/gone.pt", "$HOME/gone.pt", "../gone.pt"])
def test_c11_paths_are_relative_to_the_file_and_nothing_is_expanded(
    path: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An absolute one stands for itself; a home is a folder of that name."""
    path = path.format(folder)
    (folder / "inner").mkdir()
    (folder / "eqaudit.toml").write_text(f'[check.a]\nmodel = "{path}"\ndata = "{path}"')
    monkeypatch.chdir(folder / "inner")
    assert cli.main(["check"]) == ExitCode.CANNOT_RUN
    shown = "".join(capsys.readouterr().out.split())
    assert f"nosuchmodelfile:{path}" in shown


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path)])
@pytest.mark.parametrize("arguments", [[], ["--config", "eqaudit.toml"]])
def test_c12_what_is_no_file_is_refused(
    make: Callable[[Path], None], arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And never waited for."""
    make(folder / "eqaudit.toml")
    assert cli.main(["check", *arguments]) == ExitCode.USAGE
    assert "eqaudit.toml is no regular file" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no such configuration"):
        read_config(folder / "other.toml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_c12_what_may_not_be_read_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the reason of the system."""
    (folder / "eqaudit.toml").write_text(MODEL)
    (folder / "eqaudit.toml").chmod(0)
    assert cli.main(["check"]) == ExitCode.USAGE
    assert "Permission denied" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["model.pt", "--max-error", "-1"], ExitCode.USAGE, "--max-error -1"),
        (["model.pt", "--max-error", "--", "-1"], ExitCode.USAGE, "-1"),
        (["model.pt", "--seed", "1", "--seed", "x"], ExitCode.USAGE, "'--seed'"),
        (["--", "--seed"], ExitCode.CANNOT_RUN, "no such model file: --seed"),
        (["@arguments"], ExitCode.CANNOT_RUN, "no such model file: @arguments"),
    ],
)
def test_c14_options_are_read_literally(
    arguments: list[str], code: ExitCode, says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Negative numbers are numbers, after -- all is a name, of two the last counts, no file is expanded."""
    (folder / "arguments").write_text("model.pt --no-gate")
    assert cli.main(["check", *arguments]) == code
    assert says in capsys.readouterr().err


def test_help_shows_every_bound(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In one place, as the messages write them."""
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["--help"]) == ExitCode.PASSED
    shown = " ".join(capsys.readouterr().out.split())
    assert describe_bounds() in shown
    assert "model 8 GiB, entries 20,000" in shown
    assert f"pixels {BOUNDS.pixels:,}" in shown


# Baselines and reports -----------------------------------------------------------------------------


def _edited(edit: Callable[[dict[str, Any]], None]) -> bytes:
    content = json.loads(to_json(make_report()))
    edit(content)
    return json.dumps(content).encode()


NO_REPORTS: dict[str, bytes] = {
    "c16 other schema": _edited(lambda report: report.update(schema="other/1")),
    "c16 newer": _edited(lambda report: report.update(schema="eqaudit.report/2")),
    "c16 missing key": _edited(lambda report: report.pop("layers")),
    "c16 type": _edited(lambda report: report["inputs"].update(samples="many")),
    "c17 NaN": _edited(lambda report: report["determinism"].update(repeat=float("nan"))),
    "c17 Infinity": _edited(lambda report: report["determinism"].update(repeat=float("inf"))),
    "c17 1e400": _edited(lambda report: report["determinism"].update(repeat=1.5)).replace(b"1.5", b"1e400"),
    "c17 twice": to_json(make_report()).replace(b'"layers":', b'"layers": [], "layers":', 1),
    "c17 cut": to_json(make_report())[:-40],
    "c17 deep": b"[" * 100_000,
    "c17 deep where nobody looks": to_json(make_report())[:-2]
    + b', "later": '
    + b"[" * 100_000
    + b"]" * 100_000
    + b"}",
    "c17 digits": to_json(make_report())[:-2] + b', "later": ' + b"1" * 100_000 + b"}",
    "c17 empty": b"",
    "c17 bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("case", NO_REPORTS)
@pytest.mark.parametrize("command", [["check", "model.pt", "--baseline", "b.json"], ["render", "b.json"]])
def test_what_is_no_report_is_no_baseline(
    case: str, command: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One clear error, never a baseline of which a part was passed over; nothing is measured."""
    (folder / "b.json").write_bytes(NO_REPORTS[case])
    assert cli.main([*command, "--json", "r.json"][: len(command) + 2 * (command[0] == "check")]) == 3
    shown = capsys.readouterr()
    assert not shown.out
    assert "b.json" in shown.err
    assert [line.startswith("error: ") for line in shown.err.splitlines()] == [True, False]
    assert len(shown.err) < 1_000
    assert not (folder / "r.json").exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_c17_what_is_no_file_is_no_report(
    make: Callable[[Path], None], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And never waited for, nor read for ever."""
    make(folder / "b.json")
    assert cli.main(["check", "model.pt", "--baseline", "b.json"]) == ExitCode.CANNOT_RUN
    assert "b.json is no regular file" in capsys.readouterr().err


def test_c17_values_beside_a_report_are_no_bomb(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An archive of the right digest that unpacks to too much is refused before it is."""
    content = unpacking(17 * 2**24)
    values = PerImage([], {}, {}, {}, "b.npz", hashlib.sha256(content).hexdigest())
    (folder / "b.json").write_bytes(to_json(msgspec.structs.replace(make_report(), per_image=values)))
    (folder / "b.npz").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert cli.main(["check", "model.pt", "--baseline", "b.json"]) == ExitCode.CANNOT_RUN
    assert "more than 200 times its size" in capsys.readouterr().err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_c16_keys_of_a_later_version_are_passed_over() -> None:
    """Within one schema keys are only added."""
    assert from_json(_edited(lambda report: report.update(later=1))) == make_report()


# Python code ---------------------------------------------------------------------------------------

NET = """
import torch


class Net(torch.nn.Module):
    def forward(self, x):
        return x.mean((2, 3))
"""
SHAPE = ("--input-shape", "3,8,8", "--samples", "8")
SPECS: dict[str, tuple[str, str]] = {
    "c22 syntax error": ("def Net(:\n", "SyntaxError"),
    "c22 raises": ("raise RuntimeError('on purpose')\n", "RuntimeError: on purpose"),
    "c22 sys.exit(0)": ("import sys\nsys.exit(0)\n", "SystemExit"),
    "c22 sys.exit(0) when called": ("import sys\n\n\ndef Net():\n    sys.exit(0)\n", "SystemExit"),
    "c22 returns a class": (NET + "\n\ninner = Net\n\n\ndef Net():\n    return inner\n", "returns type"),
    "c22 NUL bytes": ("import torch\0\n", "null bytes"),
    "c22 nested": ("Net = " + "(" * 100_000, "SyntaxError"),
}
HARD_SPECS: dict[str, tuple[str, ...]] = {
    "c22 os._exit(0)": ("import os\nprint('last words', flush=True)\nos._exit(0)\n", "exit code 0"),
    "c22 endless import": ("while True:\n    pass\n", "the time is up", "--timeout=3"),
}


@pytest.mark.parametrize("case", SPECS)
@pytest.mark.usefixtures("measured_here")
def test_code_that_fails_is_no_pass(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither while it is imported nor when it is called: not even when it ends the process with code 0."""
    (folder / "nets.py").write_text(SPECS[case][0])
    assert cli.main(["check", "nets.py:Net", *SHAPE, "--json", "r.json"]) == ExitCode.CANNOT_RUN
    shown = capsys.readouterr()
    assert SPECS[case][1] in shown.err
    assert "Traceback" not in shown.err
    assert {path.name for path in folder.iterdir()} <= {"nets.py", "model.pt", "__pycache__"}


@pytest.mark.parametrize("case", HARD_SPECS)
def test_code_that_ends_its_process_or_never_ends_is_no_pass(
    case: str, folder: Path, eqaudit: Callable[..., Any], told: Callable[..., str]
) -> None:
    """The measuring process is another one."""
    (folder / "nets.py").write_text(HARD_SPECS[case][0])
    said, *timeout = HARD_SPECS[case][1:]
    ended = eqaudit("check", "nets.py:Net", *SHAPE, "--json", "r.json", *timeout, cwd=folder)
    assert said in told(ended)
    assert (ended.returncode, ended.stdout) == (ExitCode.CANNOT_RUN, b"")
    assert not [path for path in folder.iterdir() if path.name.startswith((TEMPORARY_PREFIX, "r.json"))]


OURS = ("torch", "numpy", "json", "rich", "PIL", "msgspec", "typer", "inspect", "ast", "pickle")
AT_START = ("sitecustomize", "usercustomize", "conftest", "startup")


def test_c23_c24_modules_of_the_current_folder_change_nothing(
    folder: Path, command: list[str], surroundings: dict[str, str], in_background: Callable[..., Any]
) -> None:
    """Its torch.py and json.py are not ours; what is run or printed beside them is no report."""
    for place in ("clean", "hostile"):
        (folder / place).mkdir()
        (folder / place / "helper.py").write_text(NET)
        (folder / place / "nets.py").write_text("from helper import Net\nprint('\\x1b[2J{}')\n")
    witness = folder / "PWNED"
    for name in (*OURS, *AT_START):
        touch = f"open({str(witness)!r}, 'a').write({name!r})"
        (folder / "hostile" / f"{name}.py").write_text(f"{touch}\nraise RuntimeError({name!r})\n")

    def start(place: str, spec: str) -> Callable[[], Any]:
        # Without -P, as `python -m eqaudit` is typed.
        asked = [command[0], *command[2:], "check", spec, *SHAPE, "--json", "-"]
        env = surroundings | {"PYTHONSTARTUP": "startup.py"}
        ending: Callable[[], Any] = in_background(
            subprocess.run, asked, cwd=folder / place, env=env, capture_output=True
        )
        return ending

    started = [start("clean", "nets.py:Net"), start("hostile", "nets.py:Net"), start("hostile", "nets:Net")]
    ended = [ending() for ending in started]
    assert [(one.returncode, one.stderr) for one in ended] == [(ExitCode.PASSED, b"")] * 3
    assert ended[0].stdout == ended[1].stdout
    assert from_json(ended[2].stdout).verdict is not None
    assert not witness.exists()


def test_every_row_has_a_test_or_a_reason() -> None:
    """C01 to C24: in the name of a test here, of one of its cases, or in a list above."""
    tests = [name for name in globals() if name.startswith("test_c")]
    cases = [*CASES, *NO_REPORTS, *SPECS, *HARD_SPECS]
    named = {row for name in [*tests, *cases] for row in re.findall(r"\bc\d\d|(?<=_)c\d\d", name)}
    assert named | set(NO_TEST) == {f"c{number:02}" for number in range(1, 25)} - (set(HELD_BY) - named)
