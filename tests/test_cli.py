"""The command line: its codes, what it writes and where, and what it makes of odd surroundings."""

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from eqaudit import cli
from eqaudit.cli.files import TEMPORARY_PREFIX, check_output, write_file
from eqaudit.cli.progress import model_output
from eqaudit.cli.streams import stdout_style
from eqaudit.errors import EqauditError, ExitCode, UsageError
from eqaudit.report import Report, from_json, json_schema, to_json
from eqaudit.version import __version__
from eqaudit.worker import InternalError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "models"
SHAPE = ("--input-shape", "3,8,8", "--samples", "4")
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")

TINY_MODELS = '''
import torch
from torch import nn


class Mean(nn.Module):
    """Exactly invariant."""

    def forward(self, x):
        return x.mean((2, 3))


class Corner(nn.Module):
    """Looks at one pixel."""

    def forward(self, x):
        return x[:, :, 0, 0]


class Brightest(nn.Module):
    """Returns no floating tensor."""

    def forward(self, x):
        return x.argmax(1)


class SkippedThenMean(nn.Sequential):
    """Has a layer that cannot be measured, and passes."""

    def __init__(self):
        super().__init__(Brightest(), Mean())

    def forward(self, x):
        self[0](x)
        return self[1](x)


class SkippedThenCorner(SkippedThenMean):
    """The same, and fails."""

    def __init__(self):
        super().__init__()
        self[1] = Corner()
'''
NAMES = [
    "new\nline",
    "esc\x1b[31m",
    "[red]x",
    "turned\u202e",
    "c1\x9b",
    "no_utf8\udcff",
    "{0}",
    "größe",
    "=1+1",
]
NAMED_MODEL = f'''
import torch


class Named(torch.nn.Sequential):
    """Has layers with names that do something to those who print them."""

    def __init__(self):
        super().__init__()
        for name in {NAMES!a}:
            self.add_module(name, torch.nn.Identity())
'''
PRINTING_MODEL = '''
import sys

import torch

print("import \\x1b]0;title\\x07", flush=True)


class Printing(torch.nn.Module):
    """Speaks whenever it can."""

    def __init__(self):
        super().__init__()
        print("construct \\x1b[2J", file=sys.stderr, flush=True)

    def forward(self, x):
        print("forward \\x9b31m", flush=True)
        return x.mean((2, 3))
'''

Run = Callable[..., Any]
Ending = Callable[[], Any]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with small models, and pictures of which one is corrupt."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "models.py").write_text(TINY_MODELS)
    (folder / "named.py").write_text(NAMED_MODEL)
    (folder / "printing.py").write_text(PRINTING_MODEL)
    (folder / "old.json").write_text("old")
    for name in (BAD_NAME, "größe.pt"):
        (folder / name).symlink_to(FIXTURES / "exact_c4.pt")
    (folder / "pictures").mkdir()
    generator = np.random.default_rng(0)
    for number in range(4):
        pixels = generator.integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
    whole = (folder / "pictures" / "0.png").read_bytes()
    (folder / "pictures" / "corrupt.png").write_bytes(whole[:60])
    return folder


BAD_NAME = "new\nline \x1b[31m[red]x " + os.fsdecode(b"\xff.pt")
PICTURES = ("--data", "pictures", "--input-shape", "3,8,8")
EXACT = ("--group", "C4", "--layers", "none", "--samples", "4", "--input-shape", "3,16,16")
SAME = ("check", os.fspath(FIXTURES / "exact_c4.pt"), *EXACT, "--json", "-")
AUDITS: dict[str, tuple[str, ...]] = {
    "passes": ("check", "models.py:Mean", *SHAPE, "--json", "passes.json"),
    "fails": ("check", "models.py:Corner", *SHAPE, "--quiet"),
    "fails, not judged": ("check", "models.py:Corner", *SHAPE, "--no-gate"),
    "corrupt image": ("check", "models.py:Mean", *PICTURES),
    "corrupt image, strict": ("check", "models.py:Mean", *PICTURES, "--strict"),
    "skipped layer, strict": ("check", "models.py:SkippedThenMean", *SHAPE, "--strict"),
    "skipped layer, fails, strict": ("check", "models.py:SkippedThenCorner", *SHAPE, "--strict"),
    "names of layers": ("check", "named.py:Named", *SHAPE, "--json", "names.json"),
    "names of layers, listed": ("layers", "named.py:Named", "--input-shape", "3,8,8"),
    "name of the file": ("check", BAD_NAME, *EXACT, "--json", os.fsdecode(b"\xff.json")),
    "prints": ("check", "printing.py:Printing", *SHAPE, "--json", "-"),
    "prints, verbose": ("check", "printing.py:Printing", *SHAPE, "--quiet", "--verbose"),
    "once": SAME,
    "again, elsewhere": SAME,
}
VARIABLES = {
    "once": {"PYTHONHASHSEED": "0"},
    "again, elsewhere": {
        "PYTHONHASHSEED": "1",
        "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "1",
        "TZ": "Asia/Tokyo",
    },
}
SMALL = "$EQAUDIT check models.py:Mean " + " ".join(SHAPE)
LARGE = "$EQAUDIT check größe.pt " + " ".join(EXACT)
LINES: dict[str, str] = {
    "closed pipe": f"{SMALL} | head -1; exit ${{PIPESTATUS[0]}}",
    "closed pipe, fails": f"{SMALL.replace('Mean', 'Corner')} | head -1; exit ${{PIPESTATUS[0]}}",
    "full disk": f"{SMALL} > /dev/full",
    "no room for the file": f"ulimit -f 1; {SMALL} --json old.json",
    "no standard error": f"umask 027; {SMALL} --json private.json 2>&-",
    "ASCII": f"LC_ALL=C PYTHONIOENCODING=ascii {LARGE}",
    "ASCII, JSON": f"LC_ALL=C PYTHONIOENCODING=ascii {LARGE} --json -",
    "narrow and dumb": f"COLUMNS=20 TERM=dumb {SMALL.replace('Mean', 'Corner')}",
    "colour in a pipe": f"FORCE_COLOR=1 TERM=xterm {SMALL}",
}


@pytest.fixture(scope="module")
def endings(workshop: Path, eqaudit: Run, shell: Run, in_background: Run) -> dict[str, Ending]:
    """Start every audit that a test of this module looks at, two at a time."""
    started = {
        name: in_background(eqaudit, *arguments, cwd=workshop, env=VARIABLES.get(name))
        for name, arguments in AUDITS.items()
    }
    return started | {name: in_background(shell, line, workshop) for name, line in LINES.items()}


CODES = {
    "passes": ExitCode.PASSED,
    "fails": ExitCode.GATE_FAILED,
    "fails, not judged": ExitCode.PASSED,
    "corrupt image": ExitCode.PASSED,
    "corrupt image, strict": ExitCode.INCOMPLETE,
    "skipped layer, strict": ExitCode.INCOMPLETE,
    "skipped layer, fails, strict": ExitCode.INCOMPLETE,
    "names of layers": ExitCode.PASSED,
    "names of layers, listed": ExitCode.PASSED,
    "name of the file": ExitCode.PASSED,
    "prints": ExitCode.PASSED,
    "prints, verbose": ExitCode.PASSED,
    "closed pipe": ExitCode.PASSED,
    "closed pipe, fails": ExitCode.GATE_FAILED,
    "full disk": ExitCode.CANNOT_RUN,
    "no room for the file": ExitCode.CANNOT_RUN,
    "no standard error": ExitCode.PASSED,
    "ASCII": ExitCode.PASSED,
    "ASCII, JSON": ExitCode.PASSED,
    "narrow and dumb": ExitCode.GATE_FAILED,
    "colour in a pipe": ExitCode.PASSED,
}


@pytest.mark.parametrize("name", CODES)
def test_the_code_is_the_one_of_the_contract(name: str, endings: dict[str, Ending]) -> None:
    """What was found decides the code, and no pipe, disk, locale or terminal does."""
    ended = endings[name]()
    assert ended.returncode == CODES[name], ended.stderr.decode()
    assert b"Traceback" not in ended.stderr


def test_every_code_of_a_finished_audit_is_met() -> None:
    """The table above has a row for each code that an audit can earn."""
    assert set(CODES.values()) == set(ExitCode) - {ExitCode.USAGE, ExitCode.INTERNAL, ExitCode.INTERRUPTED}


def test_an_audit_without_a_remark_is_silent_on_stderr(endings: dict[str, Ending]) -> None:
    """The report goes to standard output and nothing to standard error, where nobody watches."""
    ended = endings["passes"]()
    assert ended.stderr == b""
    assert ended.stdout.decode().splitlines()[-1].startswith("PASSED  ")


def test_quiet_prints_the_verdict_and_the_gate_alone(endings: dict[str, Ending]) -> None:
    """With ``--quiet`` there is no table, no header and no progress."""
    ended = endings["fails"]()
    text = ended.stdout.decode()
    assert "; not D4 (" in text.splitlines()[0]
    assert "\nFAILED  " in text
    assert "of chance  " not in text
    assert "models.py" not in text
    assert ended.stderr == b""


def test_strict_names_what_is_missing(endings: dict[str, Ending]) -> None:
    """Code 5 comes with its reasons: the image, or the layer."""
    assert "corrupt.png could not be read" in endings["corrupt image, strict"]().stderr.decode()
    assert "0 was skipped" in endings["skipped layer, strict"]().stderr.decode()


def test_a_corrupt_image_is_named_in_the_report_also_without_strict(endings: dict[str, Ending]) -> None:
    """Skipping is said where the numbers are."""
    text = endings["corrupt image"]().stdout.decode()
    assert "4 images (" in text
    assert "corrupt.png: " in text


@pytest.fixture(scope="module")
def report(workshop: Path, endings: dict[str, Ending]) -> bytes:
    """Return the report of an audit that passed, as written."""
    endings["passes"]()
    return (workshop / "passes.json").read_bytes()


def test_the_report_fits_its_schema(report: bytes) -> None:
    """The file is what the JSON Schema of the types says."""
    jsonschema.Draft202012Validator(json_schema()).validate(json.loads(report))


def test_the_schema_can_refuse(report: bytes) -> None:
    """A report without its layers is none."""
    cut = json.loads(report)
    del cut["layers"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json_schema()).validate(cut)


def test_the_report_is_read_as_it_was_written(report: bytes) -> None:
    """Reading, writing and reading again gives the same report."""
    found = from_json(report)
    assert isinstance(found, Report)
    assert from_json(to_json(found)) == found


def test_the_report_holds_only_numbers_that_json_knows(report: bytes) -> None:
    """No NaN and no infinity, which Python would write and others refuse."""
    json.loads(report, parse_constant=pytest.fail)


def test_the_report_says_how_it_was_made(report: bytes) -> None:
    """The command and the judgement are in it."""
    found = from_json(report)
    assert found.tool.command == ["eqaudit", *AUDITS["passes"]]
    assert found.gate is not None
    assert found.gate.passed
    assert found.verdict is not None
    assert found.verdict.holds == "D4"


def test_json_on_stdout_comes_without_a_table(endings: dict[str, Ending]) -> None:
    """With ``--json -`` standard output is one JSON document."""
    assert from_json(endings["once"]().stdout).model.spec.endswith("exact_c4.pt")


def test_the_same_audit_gives_the_same_bytes(endings: dict[str, Ending]) -> None:
    """Hash seed, optimisation, strict warnings and time zone leave no trace in the report."""
    once, again = (endings[name]() for name in VARIABLES)
    assert (again.returncode, again.stderr) == (ExitCode.PASSED, b"")
    assert once.stdout == again.stdout


def test_what_a_model_prints_stays_out_of_the_report(endings: dict[str, Ending]) -> None:
    """Text of import, construction and call reaches neither stream of ``--json -``."""
    ended = endings["prints"]()
    assert from_json(ended.stdout).model.spec == "printing.py:Printing"
    assert b"forward" not in ended.stdout
    assert ended.stderr == b""


def test_verbose_shows_escaped_what_a_model_prints(endings: dict[str, Ending]) -> None:
    """Each line comes once on stderr, named as the model's, and cannot steer the terminal."""
    ended = endings["prints, verbose"]()
    lines = ended.stderr.decode().splitlines()
    assert lines[:3] == [
        r"model: import \x1b]0;title\x07",
        r"model: construct \x1b[2J",
        r"model: forward \x9b31m",
    ]
    assert set(lines[3:]) == {r"model: forward \x9b31m"}
    assert b"forward" not in ended.stdout


def test_lines_of_a_model_are_put_together_from_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    """A line is shown when it is complete, the last one when the model is done."""
    with model_output(verbose=True) as on_output:
        on_output("a li")
        on_output("ne\r\n\nlast")
        assert capsys.readouterr().err == "model: a line\\x0d\nmodel: \n"
    assert capsys.readouterr().err == "model: last\n"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (
            "names of layers",
            [r"new\x0aline", r"esc\x1b[31m", "[red]x", r"turned\u202e", r"c1\x9b", r"no_utf8\udcff"],
        ),
        ("names of layers, listed", [r"new\x0aline", r"c1\x9b", r"no_utf8\udcff", "{0}", "größe", "=1+1"]),
        ("name of the file", [r"new\x0aline \x1b[31m[red]x \udcff.pt"]),
    ],
)
def test_names_are_shown_and_cannot_steer_the_terminal(
    name: str, shown: list[str], endings: dict[str, Ending]
) -> None:
    """Names of layers and files may hold anything; what is printed is one line each, and harmless."""
    text = endings[name]().stdout.decode()
    assert not STEERING.search(text)
    for words in shown:
        assert words in text


def test_names_are_whole_in_the_report(workshop: Path, endings: dict[str, Ending]) -> None:
    """JSON keeps every name; bytes that are no UTF-8 are spelled out, and the file is UTF-8."""
    endings["names of layers"]()
    layers = from_json((workshop / "names.json").read_bytes()).layers
    assert [layer.name.encode() for layer in layers] == [
        name.encode(errors="backslashreplace") for name in NAMES
    ]
    endings["name of the file"]()
    spec = from_json((workshop / os.fsdecode(b"\xff.json")).read_bytes()).model.spec
    assert spec == "new\nline \x1b[31m[red]x \\udcff.pt"


def test_a_closed_pipe_is_no_remark(endings: dict[str, Ending]) -> None:
    """``| head -1`` gets its line, and nobody complains."""
    ended = endings["closed pipe"]()
    assert ended.stdout.decode().splitlines() == ["model  models.py:Mean  Python, 0 parameters, 0 layers"]
    assert ended.stderr == b""


@pytest.mark.parametrize("name", ["full disk", "no room for the file"])
def test_a_full_disk_is_told(name: str, endings: dict[str, Ending], told: Callable[..., str]) -> None:
    """A result that cannot be written is one message, not a verdict."""
    assert "cannot be written: " in told(endings[name]())


def test_a_full_disk_leaves_the_old_report(workshop: Path, endings: dict[str, Ending]) -> None:
    """The old file is whole, and nothing half-written lies beside it."""
    endings["no room for the file"]()
    assert (workshop / "old.json").read_text() == "old"
    assert not list(workshop.glob(f"{TEMPORARY_PREFIX}*"))


def test_the_mode_of_the_report_follows_the_umask(workshop: Path, endings: dict[str, Ending]) -> None:
    """A report is as readable as any other new file."""
    endings["no standard error"]()
    assert stat.S_IMODE((workshop / "private.json").stat().st_mode) == 0o640


def test_ascii_is_enough(endings: dict[str, Ending]) -> None:
    """Where the locale has ASCII only, the table has too, with names spelled out."""
    text = endings["ASCII"]().stdout.decode("ascii")
    assert r"gr\xf6\xdfe.pt" in text
    assert " +-" in text


def test_json_is_utf8_whatever_the_locale(endings: dict[str, Ending]) -> None:
    """A document for machines has one encoding."""
    assert from_json(endings["ASCII, JSON"]().stdout).model.spec == "größe.pt"


def test_a_narrow_terminal_gets_every_line(endings: dict[str, Ending]) -> None:
    """Below 80 columns the terminal may break lines; nothing crashes and nothing is left out."""
    text = endings["narrow and dumb"]().stdout.decode()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "FAILED  " in text


def test_a_pipe_gets_colour_only_by_force(endings: dict[str, Ending]) -> None:
    """No escape goes into a pipe unless FORCE_COLOR is set, and then only colours."""
    assert b"\x1b" not in endings["passes"]().stdout
    coloured = endings["colour in a pipe"]().stdout.decode()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert plain != coloured
    lines = [line.rstrip() for line in plain.splitlines()]
    assert lines == endings["passes"]().stdout.decode().splitlines()


@pytest.mark.parametrize(
    ("variables", "colour"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
    ],
)
def test_a_terminal_gets_colour_unless_it_cannot_or_must_not(
    variables: dict[str, str], colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR beats FORCE_COLOR, which beats what the terminal says of itself."""
    for name in ("TERM", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert stdout_style().colour is colour


def test_columns_are_asked_for_and_eighty_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe has no width: COLUMNS gives one."""
    monkeypatch.setenv("COLUMNS", "123")
    assert stdout_style().width == 123


STANDARD = os.fspath(FIXTURES / "standard_cnn.pt")
USAGE = {
    "no command": ([], "no command"),
    "no such command": (["chekc"], "chekc"),
    "no model": (["check"], "MODEL"),
    "an empty model": (["check", ""], "MODEL is empty"),
    "too many models": (["check", STANDARD, "another.pt"], "another.pt"),
    "no such option": (["check", STANDARD, "--nonsense"], "--nonsense"),
    "an option that steers the terminal": (["check", STANDARD, "--\x1b[31m\udcff"], r"--\x1b[31m\udcff"),
    "an option without its value": (["check", STANDARD, "--json"], "--json"),
    "source without a factory": (["check", __file__], "say which factory"),
    "source with no name of a factory": (["check", f"{__file__}:not a name"], "names no factory"),
    "a module without a factory": (["check", "package.module:"], "names no factory"),
    "a factory without a module": (["check", ":factory"], "names no factory"),
    "an argument without a name": (["check", f"{__file__}:f", "--arg", "3"], "name=value"),
    "an argument with a bad name": (["check", f"{__file__}:f", "--arg", "a b=3"], "name=value"),
    "an argument for a file": (["check", STANDARD, "--arg", "a=3"], "--arg"),
    "no such group": (["check", STANDARD, "--group", "X4"], "X4"),
    "a group with a line break": (["check", STANDARD, "--group", "C4\nC2"], r"C4\nC2"),
    "a group that is too fine": (["check", STANDARD, "--group", "C361"], "C361"),
    "a limit that is nan": (["check", STANDARD, "--max-error", "nan"], "--max-error nan"),
    "a negative limit": (["check", STANDARD, "--max-error", "-1"], "--max-error -1"),
    "an infinite limit": (["check", STANDARD, "--max-error", "inf"], "--max-error inf"),
    "a limit that is no number": (["check", STANDARD, "--max-error", "much"], "--max-error"),
    "a timeout that is nan": (["check", STANDARD, "--timeout", "nan"], "--timeout"),
    "a negative timeout": (["check", STANDARD, "--timeout", "-1"], "--timeout"),
    "an infinite timeout": (["check", STANDARD, "--timeout", "inf"], "--timeout inf"),
    "a negative seed": (["check", STANDARD, "--seed", "-1"], "--seed"),
    "a huge seed": (["check", STANDARD, "--seed", "9" * 30], "--seed"),
    "a broken seed": (["check", STANDARD, "--seed", "1.5"], "--seed"),
    "empty batches": (["check", STANDARD, "--batch-size", "0"], "--batch-size"),
    "fewer than no samples": (["check", STANDARD, "--samples", "-1"], "--samples"),
    "a shape of rubbish": (["check", STANDARD, "--input-shape", "rubbish"], "--input-shape 'rubbish'"),
    "a shape of two": (["check", STANDARD, "--input-shape", "3,224"], "3 positive integers"),
    "a shape with a zero": (["layers", STANDARD, "--input-shape", "3,0,8"], "3 positive integers"),
    "a size of one": (["check", STANDARD, "--resize", "8"], "2 positive integers"),
    "a mean that is nan": (["check", STANDARD, "--mean", "nan"], "--mean 'nan'"),
    "a deviation of zero": (["check", STANDARD, "--std", "1,0,1"], "--std '1,0,1'"),
    "means and deviations that differ": (["check", STANDARD, "--mean", "1,2", "--std", "1,2,3"], "2 values"),
    "no such kind of device": (["layers", STANDARD, "--device", "gpu"], "gpu"),
    "no such built-in images": (["check", STANDARD, "--data", "builtin:cats"], "builtin:cats"),
    "empty data": (["check", STANDARD, "--data", ""], "--data is empty"),
    "a report without a name": (["check", STANDARD, "--json", ""], "--json is empty"),
    "pictures nowhere": (["check", STANDARD, "--plots", ""], "--plots is empty"),
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], tuple[int, str, str]]:
    """Return a function that runs the command line in this process: code, stdout, stderr."""

    def main(arguments: list[str]) -> tuple[int, str, str]:
        code = cli.main(arguments)
        return code, *capsys.readouterr()

    return main


@pytest.fixture
def no_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure that nothing is measured: a mistake in the command is found before."""
    for module, name in ((cli.audits, "run_audit"), (cli.layers, "run_layers")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("the audit was started"))


@pytest.mark.usefixtures("no_audit")
@pytest.mark.parametrize("name", USAGE)
def test_a_mistake_in_the_command_is_found_before_anything_is_measured(name: str, run: Run) -> None:
    """Code 2, one line that shows the mistake, one that says what to do; no traceback."""
    arguments, says = USAGE[name]
    code, stdout, stderr = run(arguments)
    assert code == ExitCode.USAGE
    assert bool(stdout) == (not arguments)
    error, hint = stderr.splitlines()
    assert error.startswith("error: ")
    assert says in error
    assert hint.startswith("  ")
    assert (error + hint).isprintable()


@pytest.mark.usefixtures("no_audit")
@pytest.mark.parametrize(
    "place", ["missing/report.json", "folder", "models.py/report.json", "models.py", "pipe"]
)
def test_a_report_that_cannot_be_written_is_found_before_anything_is_measured(
    place: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing folder, a folder, a file for a folder, the model itself, a pipe: code 2, nothing touched."""
    monkeypatch.chdir(tmp_path)
    Path("models.py").write_text(TINY_MODELS)
    Path("folder").mkdir()
    os.mkfifo("pipe")
    code, stdout, stderr = run(["check", "models.py:Mean", "--json", place])
    assert (code, stdout) == (ExitCode.USAGE, "")
    assert place in stderr
    assert {path.name for path in tmp_path.iterdir()} == {"models.py", "folder", "pipe"}
    assert Path("models.py").read_text() == TINY_MODELS


@pytest.mark.usefixtures("no_audit")
@pytest.mark.parametrize("how", ["name", "link", "hard link"])
def test_the_model_file_is_never_overwritten(
    how: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever name the model goes by, a report is not written over it; nor over the images."""
    monkeypatch.chdir(tmp_path)
    content = (FIXTURES / "exact_c4.pt").read_bytes()
    Path("name").write_bytes(content)
    Path("link").symlink_to("name")
    Path("hard link").hardlink_to("name")
    for arguments in (["name", "--json", how], [STANDARD, "--data", "name", "--json", how]):
        code, _, stderr = run(["check", *arguments])
        assert code == ExitCode.USAGE
        assert "would be overwritten" in stderr
    assert Path("name").read_bytes() == content


def test_a_folder_without_permission_is_found_before_anything_is_measured(tmp_path: Path) -> None:
    """Read-only folders are refused; root, who may write everywhere, is refused by the kernel's own."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        folder = Path("/proc/self")
    with pytest.raises(UsageError, match="cannot be written"):
        check_output(os.fspath(folder / "report.json"), ())


def test_checking_an_output_leaves_an_old_file_alone(tmp_path: Path) -> None:
    """The check writes nothing: not into the old file, and no other file stays."""
    report = tmp_path / "report.json"
    report.write_text("old")
    check_output(os.fspath(report), (STANDARD,))
    assert report.read_text() == "old"
    assert list(tmp_path.iterdir()) == [report]


def test_a_link_is_followed_when_a_report_is_written(tmp_path: Path) -> None:
    """A link to a report stays a link, and its target is renewed."""
    (tmp_path / "link").symlink_to(tmp_path / "report.json")
    write_file(os.fspath(tmp_path / "link"), b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "report.json").read_bytes() == b"new"


class Stopped(BaseException):
    """Stands for anything that stops a program between two lines."""


def test_a_write_that_is_stopped_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the new file is complete the old one stands, and what was begun is removed."""
    report = tmp_path / "report.json"
    report.write_text("old")

    def stop(_descriptor: int) -> None:
        raise Stopped

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(Stopped):
        write_file(os.fspath(report), b"new")
    assert report.read_text() == "old"
    assert list(tmp_path.iterdir()) == [report]


@pytest.mark.parametrize("error", [RuntimeError("no \udcff idea"), InternalError("Traceback of the child")])
def test_a_bug_of_ours_is_code_4_with_all_that_a_report_needs(
    error: Exception, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only error with a traceback: it says that it is ours, which version, and what to send."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli.audits, "run_audit", fail)
    code, stdout, stderr = run(["check", STANDARD])
    assert (code, stdout) == (ExitCode.INTERNAL, "")
    assert "Traceback" in stderr
    assert f"error: this is a bug of eqaudit {__version__} (Python " in stderr
    assert "please report it" in stderr


def test_foreign_text_in_an_error_is_escaped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Message and hint of an error may hold what a model said; each stays one harmless line."""

    def fail(*_: object) -> None:
        raise EqauditError("no\nluck \x1b[31m[red]x[/red]", "try\r\u202e again")

    monkeypatch.setattr(cli.audits, "run_audit", fail)
    code, _, stderr = run(["check", STANDARD])
    assert code == ExitCode.CANNOT_RUN
    assert stderr == "error: no\\x0aluck \\x1b[31m[red]x[/red]\n  try\\x0d\\u202e again\n"


def test_a_command_given_in_python_is_read_from_its_arguments(run: Run) -> None:
    """The entry takes arguments, and an empty list is not those of the process."""
    assert run(["--version"]) == (ExitCode.PASSED, f"eqaudit {__version__}\n", "")


@pytest.mark.parametrize("name", ["", "check", "compare", "features", "layers", "sweep-angles"])
def test_help_shows_an_example(name: str, run: Run) -> None:
    """Every page of help holds a command to copy."""
    code, stdout, stderr = run([*name.split(), "--help"])
    assert (code, stderr) == (ExitCode.PASSED, "")
    assert "Example" in stdout
    assert f"eqaudit {name or 'check'} model" in stdout


@pytest.mark.parametrize("arguments", ["--help", "check --help", "--version"])
@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("| head -c 1; exit ${PIPESTATUS[0]}", ExitCode.PASSED),
        ("> /dev/full", ExitCode.CANNOT_RUN),
        (">&-", ExitCode.USAGE),
    ],
)
def test_help_that_cannot_be_written_is_no_bug(
    arguments: str, where: str, code: ExitCode, shell: Run, tmp_path: Path, told: Callable[..., str]
) -> None:
    """A closed pipe ends quietly, a full disk is told, and a closed stream is refused."""
    ended = shell(f"$EQAUDIT {arguments} {where}", tmp_path)
    assert ended.returncode == code
    if code == ExitCode.PASSED:
        assert ended.stderr == b""
    else:
        assert "standard output" in told(ended)


@pytest.mark.parametrize("options", ["", "--json -", "--json report.json"])
def test_a_closed_stdout_is_refused_before_anything_is_measured(
    options: str, shell: Run, tmp_path: Path, told: Callable[..., str]
) -> None:
    """A verdict that nobody could see is not measured at all."""
    ended = shell(f"$EQAUDIT check {STANDARD} {options} >&-", tmp_path)
    assert ended.returncode == ExitCode.USAGE
    assert "closed" in told(ended)
    assert not list(tmp_path.iterdir())


def test_an_error_that_nobody_can_read_keeps_its_code(shell: Run, tmp_path: Path) -> None:
    """Standard error closed, or full: the code still says what happened."""
    for where in ("2>&-", "2>/dev/full"):
        assert shell(f"$EQAUDIT check nowhere.pt {where}", tmp_path).returncode == ExitCode.CANNOT_RUN
