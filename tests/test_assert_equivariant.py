"""The gate inside of an ordinary pytest suite: a real one, in a folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import eqaudit

ROOT = Path(__file__).parents[1]
SUITE = """
import eqaudit
import torch
from torch import nn

torch.manual_seed(0)
IMAGES = torch.rand(16, 1, 8, 8)


def test_blur_turns_with_its_input():
    report = eqaudit.assert_equivariant(nn.AvgPool2d(3, stride=1, padding=1), IMAGES, group="C4")
    assert report.verdict.holds == "C4"


def test_plain_network_does_not():
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    eqaudit.assert_equivariant(network, IMAGES, group="C4", max_error=0.001)
"""


def plain_network() -> nn.Module:
    """Return a network that respects no turn."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def images() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return images of noise."""
    return np.random.default_rng(0).random((16, 1, 8, 8), dtype=np.float32)


@pytest.mark.parametrize("flags", [(), ("-O",)])
def test_a_pytest_suite_passes_and_fails_by_it(flags: tuple[str, ...], tmp_path: Path) -> None:
    """One test passes; the other fails with the verdict, the limit and the first layer that breaks."""
    (tmp_path / "test_symmetry.py").write_text(SUITE)
    ended = subprocess.run(
        [sys.executable, *flags, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.fspath(ROOT), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "1 failed, 1 passed" in ended.stdout
    said = "\n".join(line[1:].strip() for line in ended.stdout.splitlines() if line.startswith("E "))
    assert "Not equivariant: none of the 3 turns holds" in said
    assert "First layer that breaks: 0" in said
    assert re.search(r"FAILED  output\.error <= 0\.001: \S+ \(output at r\d+\)", said)
    assert re.search(r"^layer +element +error +of chance +class$", said, re.MULTILINE)
    assert re.search(r"^0 +r\d+ +\S+ +\S+ % +\w+$", said, re.MULTILINE)
    assert re.search(r"^output +r\d+ +\S+ +\S+ % +\w+$", said, re.MULTILINE)
    # The trace ends at the line of the test, not inside of this package.
    assert "api.py" not in ended.stdout


def test_limits_and_options_are_those_of_an_audit() -> None:
    """A limit that is wide enough passes, and the report comes back."""
    report = eqaudit.assert_equivariant(plain_network(), images(), group="C4", max_error=2.0)
    assert report.gate is not None
    assert report.gate.passed
    assert report.group.name == "C4"


def test_nothing_is_written_and_the_model_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file appears, also in a job of GitHub Actions, and the training mode comes back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", os.fspath(tmp_path / "summary.md"))
    network = plain_network().train()
    with pytest.raises(AssertionError, match="Not equivariant"):
        eqaudit.assert_equivariant(network, images())
    assert network.training
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_audited_is_no_failed_assertion() -> None:
    """Code that raises is another kind of trouble than a number that is too large."""
    with pytest.raises(eqaudit.EqauditError, match="RuntimeError"):
        eqaudit.assert_equivariant(nn.Conv2d(3, 1, 3), images(), group="C4")


def test_the_message_is_short_and_cannot_steer_a_terminal() -> None:
    """Many elements are counted, not listed, and names are escaped."""
    network = nn.Sequential()
    network.add_module("es\x1b[31mc", nn.Conv2d(1, 2, 3, padding=1, bias=False))
    with pytest.raises(AssertionError) as caught:
        eqaudit.assert_equivariant(network, images(), group="D8")
    text = str(caught.value)
    assert "\x1b" not in text
    assert r"es\x1b[31mc" in text
    assert len(text.splitlines()) < 25
    assert re.search(r"^and \d+ more$", text, re.MULTILINE)
