"""The campaign of broken inputs itself: it runs, it is repeatable, and each of its rules can be broken."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import bases, oracles, special
from fuzz.bases import Base
from fuzz.cases import NEAR_EVERY, Case, make_case
from fuzz.reasons import mark, places, unreached
from fuzz.warm import Ended

ROOT = Path(__file__).parents[1]
FEW = 30
PATIENCE = 600.0
WHOLE = Ended(0, b'{"a": 1}\n', b"", 0.1, 1, 0)
REFUSAL = Ended(3, b"", b"error: damaged\n  copy it again\n", 0.1, 1, 0)


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the campaign."""
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.long
def test_a_short_campaign_breaks_no_rule(tmp_path: Path) -> None:
    """Some inputs of every kind, one of them by a new process too; the table counts each of them."""
    ended = fuzz("--seed", "7", "--inputs", str(FEW), "--keep", os.fspath(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{FEW} inputs in " in ended.stdout
    assert "0 broke a rule" in ended.stdout
    assert "eqaudit.loader.zipped: " in ended.stdout
    assert not list(tmp_path.iterdir())


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Return an input, laid out, whose report is compared."""
    base = Base("model", {"m.pt": b"whole"}, ("check", "m.pt", "--json", "-"), ("m.pt",))
    case = Case("bytes", base, {"m.pt": b"broken"}, base.arguments, same=True)
    bases.lay_out(case.files, tmp_path)
    return case


@pytest.mark.parametrize("ended", [WHOLE, REFUSAL])
def test_good_ends_break_no_rule(ended: Ended, case: Case, tmp_path: Path) -> None:
    """A report like that of the whole file, and a refusal."""
    assert oracles.broken(case, ended, WHOLE, tmp_path) == []


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (dataclasses.replace(REFUSAL, code=4), "exit code 4"),
        (dataclasses.replace(REFUSAL, code=-11), "exit code -11"),
        (dataclasses.replace(WHOLE, seconds=11.0), "11.0 s"),
        (dataclasses.replace(WHOLE, memory=2 << 30), "2048 MiB"),
        (dataclasses.replace(WHOLE, left=1), "1 processes left"),
        (dataclasses.replace(REFUSAL, stderr=b""), "0 error lines"),
        (dataclasses.replace(REFUSAL, stderr=REFUSAL.stderr * 2), "2 error lines"),
        (dataclasses.replace(REFUSAL, stderr=b"error: \x1b[2J\n"), "stderr holds"),
        (dataclasses.replace(REFUSAL, stderr=b"error: \xff\n"), "no UTF-8"),
        (dataclasses.replace(REFUSAL, stderr=b"Traceback (most recent call last):\nerror: x\n"), "traceback"),
        (dataclasses.replace(REFUSAL, stdout=b"{}"), "a report of nothing"),
        (dataclasses.replace(WHOLE, stdout=b""), "no report"),
        (dataclasses.replace(WHOLE, stdout=b'{"a": NaN}'), "no JSON"),
        (dataclasses.replace(WHOLE, stdout=b'{"a": 2}'), "another report than the whole one"),
    ],
)
def test_each_rule_of_an_end_can_be_broken(ended: Ended, expected: str, case: Case, tmp_path: Path) -> None:
    """What is wrong is said."""
    assert expected in "; ".join(oracles.broken(case, ended, WHOLE, tmp_path))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("work/m.pt", "'m.pt' was changed"),
        ("work/out/r.json", "'out/r.json' was changed"),
        ("work/PWNED", "'PWNED' was written"),
        ("work/out/.eqaudit-1", "a temporary file"),
        ("tmp/x", "tmp/x is left"),
        ("home/.cache", ".cache is left"),
    ],
)
def test_each_rule_of_files_can_be_broken(path: str, expected: str, case: Case, tmp_path: Path) -> None:
    """A file where none may be, or another content."""
    (tmp_path / path).write_bytes(b"x")
    assert expected in "; ".join(oracles.broken(case, REFUSAL, WHOLE, tmp_path))


@pytest.mark.parametrize(
    "content", [*special.KINDS, special.LINK + b"x", special.giant(1 << 21, b"head", b"tail"), b""]
)
def test_what_is_no_file_is_laid_out_and_found_as_such(content: bytes, tmp_path: Path) -> None:
    """A FIFO, a socket, links, and a file of nearly nothing but zeros."""
    special.lay(tmp_path / "x", content)
    assert special.lies(tmp_path / "x") == special.seen(content)


def test_a_giant_has_its_head_its_tail_and_no_weight(tmp_path: Path) -> None:
    """Between them are zeros that take no place on the disk."""
    special.lay(tmp_path / "x", special.giant(1 << 21, b"he d", b"ta l"))
    content = (tmp_path / "x").read_bytes()
    assert (content[:4], content[-4:], len(content)) == (b"he d", b"ta l", 1 << 21)
    assert (tmp_path / "x").stat().st_blocks * 512 < 1 << 17


def test_near_misses_come_in_turn_whatever_the_seed(case: Case) -> None:
    """Every third input is the next one, and none comes twice."""
    near = [dataclasses.replace(case, family=f"near misses: {number}") for number in range(2)]
    assert [make_case(seed, NEAR_EVERY * at, [], {}, near) for seed in (1, 2) for at in (0, 1)] == near * 2


@pytest.mark.parametrize(
    ("error", "caught", "counted"),
    [("ValueError", False, 1), ("ValueError", True, 2), ("DataError", False, 2)],
)
def test_a_reason_answers_an_input(error: str, caught: bool, counted: int) -> None:
    """A built-in exception is one where the module catches it; a bug never is."""
    source = (
        "def refuse(text):\n"
        "    if not text: raise DataError('empty')\n"
        "    if text == 'a': raise InternalError('a bug')\n"
        f"    raise {error}('a mistake of a programmer, or damage')\n"
    )
    source += f"try: refuse('x')\nexcept {error}: raise\n" * caught
    assert len(mark("eqaudit.x", source.encode())[1]) == counted
    assert not mark("eqaudit.api", source.encode())[1]


def test_each_reason_that_is_said_not_to_be_given_is_one_place() -> None:
    """What is left out of the promise is there, once, and says why."""
    found = unreached(places())
    assert found
    assert all(found.values())
