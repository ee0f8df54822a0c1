"""`eqaudit init`: what it writes passes today, and fails when the model gets worse."""

import shutil
import tomllib
from pathlib import Path

import pytest

from eqaudit import cli
from eqaudit.cli.init import _round_up, _toml
from eqaudit.errors import ExitCode, UsageError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "models"
pytestmark = pytest.mark.usefixtures("measured_here")
SMALL = ("--samples", "8", "--layers", "none")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_group_that_holds_today_must_hold_tomorrow(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first check passes; a worse model under the same name does not; nothing is written over."""
    model = folder / "model.pt"
    shutil.copy(FIXTURES / "exact_c4.pt", model)
    assert cli.main(["init", "model.pt", "--input-shape", "3,32,32", *SMALL]) == ExitCode.PASSED
    written = (folder / "eqaudit.toml").read_text()
    assert tomllib.loads(written)["check"]["model"] == {
        "model": "model.pt",
        "input-shape": "3,32,32",
        "samples": 8,
        "layers": ["none"],
        "limits": ["verdict >= C4"],
    }
    assert cli.main(["check"]) == ExitCode.PASSED
    shutil.copy(FIXTURES / "broken_at_layer2.pt", model)
    assert cli.main(["check"]) == ExitCode.GATE_FAILED
    assert "verdict >= C4: C1 holds" in capsys.readouterr().out
    assert cli.main(["init", "model.pt"]) == ExitCode.USAGE
    assert "--force" in capsys.readouterr().err
    assert (folder / "eqaudit.toml").read_text() == written


def test_where_no_group_holds_the_error_may_not_grow(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The limit is above today's interval, and today's number stands beside it."""
    shutil.copy(FIXTURES / "lenet5.pt", folder / "le net.pt")
    (folder / "eqaudit.toml").write_text("old")
    assert cli.main(["init", "--force", *SMALL, "le net.pt"]) == ExitCode.PASSED
    text = (folder / "eqaudit.toml").read_text()
    (limit,) = tomllib.loads(text)["check"]["le-net"]["limits"]
    assert limit.startswith("output.error < 1.")
    assert "  # today " in text
    assert cli.main(["check"]) == ExitCode.PASSED
    capsys.readouterr()


def test_nothing_is_written_where_nothing_could_be_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A constant output passes no limit, and one image gives none."""
    shutil.copy(FIXTURES / "constant_output.pt", folder / "model.pt")
    assert cli.main(["init", "model.pt", *SMALL]) == ExitCode.GATE_FAILED
    assert "is not written" in capsys.readouterr().out
    shutil.copy(FIXTURES / "lenet5.pt", folder / "model.pt")
    assert cli.main(["init", "model.pt", "--samples", "1"]) == ExitCode.USAGE
    assert "no interval" in capsys.readouterr().err
    assert not (folder / "eqaudit.toml").exists()


@pytest.mark.parametrize("arguments", [[], ["--sampls", "3", "model.pt"], ["model.pt", "--only", "a"]])
def test_its_options_are_those_of_check(
    arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read by the same parser."""
    assert cli.main(["init", *arguments]) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("error: ")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("value", "text"), [(1.4151, "1.42"), (1.0, "1"), (0.0123456, "0.0124"), (3.001e-7, "3.01e-07"), (0, "0")]
)
def test_limits_are_rounded_up(value: float, text: str) -> None:
    """To three digits, never below what was measured."""
    assert _round_up(value) == text
    assert float(text) >= value


@pytest.mark.parametrize("value", ['a"b\\c\x7f\n\x1b', "größe \u202e", 3, 1e-7, True, ["a", "b"]])
def test_every_value_is_read_back_as_it_was(value: object) -> None:
    """Whatever a path holds; only what is no UTF-8 is refused."""
    assert tomllib.loads(f"x = {_toml(value)}")["x"] == value
    with pytest.raises(UsageError, match="no UTF-8"):
        _toml("\udcff")
