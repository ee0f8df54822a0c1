"""What is imported when: help, version and the reading stack must not wait for torch."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "numpy", "matplotlib", "skimage", "scipy", "PIL", "tifffile"}
LIGHT = {
    "help": ["-m", "eqaudit", "--help"],
    "help of check": ["-m", "eqaudit", "check", "--help"],
    "help of compare": ["-m", "eqaudit", "compare", "--help"],
    "the table of a comparison": ["-c", "import eqaudit.comparison, eqaudit.reporters.comparison"],
    "version": ["-m", "eqaudit", "--version"],
    "a usage error": ["-m", "eqaudit", "check", "model.pt", "--group", "X3"],
    "the package": ["-c", "import eqaudit"],
    "its exceptions and report": ["-c", "import eqaudit; eqaudit.EqauditError; eqaudit.Report"],
    "the report": ["-c", "import eqaudit.report"],
    "the gate": ["-c", "import eqaudit.gate"],
    "the table": ["-c", "import eqaudit.reporters.terminal"],
    "reports for CI": [
        "-c",
        "import eqaudit.reporters.junit, eqaudit.reporters.markdown, eqaudit.cli.github",
    ],
    "the listing": ["-c", "import eqaudit.reporters.listing"],
    "the command line": ["-c", "import eqaudit.cli"],
    "the parent of the worker": ["-c", "import eqaudit.worker"],
}


def imported(arguments: list[str], cwd: Path) -> set[str]:
    """Run Python and return the top-level packages that it imported, as the interpreter counts them."""
    ended = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("what", LIGHT)
def test_nothing_heavy_is_imported_for(what: str, tmp_path: Path) -> None:
    """What only parses, reads or shows starts without torch and without what reads images."""
    found = imported(LIGHT[what], tmp_path)
    assert "eqaudit" in found
    assert found.isdisjoint(HEAVY)


@pytest.mark.parametrize("package", ["numpy", "matplotlib", "skimage"])
def test_the_check_sees_an_import_that_happens(package: str, tmp_path: Path) -> None:
    """The check above can fail: a program that does import a heavy package is caught."""
    assert package in imported(["-c", f"import eqaudit, {package}"], tmp_path)


def test_the_check_sees_an_import_inside_of_a_function(tmp_path: Path) -> None:
    """A late import counts too: the Python interface brings torch when it is first used."""
    assert {"torch", "numpy"} <= imported(["-c", "import eqaudit; eqaudit.audit"], tmp_path)
