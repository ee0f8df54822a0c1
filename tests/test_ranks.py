"""Audits that torchrun shares among processes: the same report, and no hang when one of them dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
LENET = ROOT / "fixtures" / "models" / "lenet5.pt"
SLOW = """
import time
import torch


class Slow(torch.nn.Module):
    def forward(self, x):
        time.sleep(0.3)
        return x.mean((2, 3))
"""
ASKED = ("--angles", "0,30,90", "--samples", "13", "--batch-size", "3", "--threads", "1", "--quiet")


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.fspath(ROOT), "OMP_NUM_THREADS": "1"}


def _launch(ranks: int, *arguments: str) -> list[str]:
    if ranks == 1:
        return [sys.executable, "-m", "eqaudit", *arguments]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return [*launcher, "-m", "eqaudit", *arguments]


def _run(ranks: int, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _launch(ranks, *arguments),
        cwd=cwd,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def _report(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text())
    report["tool"].pop("command")
    return report


def test_every_number_of_ranks_gives_the_same_report(tmp_path: Path) -> None:
    """Also more ranks than the last units need; standard output is that of one process."""
    ended = {
        ranks: _run(ranks, tmp_path, "sweep-angles", os.fspath(LENET), *ASKED, "--json", f"{ranks}.json")
        for ranks in (1, 2, 4)
    }
    assert {result.returncode for result in ended.values()} == {0}
    for ranks in (2, 4):
        assert ended[ranks].stdout == ended[1].stdout
        assert _report(tmp_path / f"{ranks}.json") == _report(tmp_path / "1.json")


def test_unreadable_images_are_counted_whoever_met_them(tmp_path: Path) -> None:
    """What one rank could not read is in the report of the first."""
    folder = tmp_path / "images"
    folder.mkdir()
    for place, picture in enumerate(sorted((ROOT / "fixtures" / "blobs" / "images").glob("*.png"))[:9]):
        content = picture.read_bytes()
        (folder / f"{place}.png").write_bytes(content[: len(content) // 2] if place in {2, 7} else content)
    model = os.fspath(ROOT / "fixtures" / "models" / "unet_plain.pt")
    asked = ("check", model, "--data", "images", "--layers", "none", "--batch-size", "2", "--threads", "1")
    for ranks in (1, 2):
        assert _run(ranks, tmp_path, *asked, "--no-gate", "--json", f"{ranks}.json").returncode == 0
    one, two = (_report(tmp_path / f"{ranks}.json") for ranks in (1, 2))
    assert [skipped["name"] for skipped in two["inputs"]["skipped"]] == ["2.png", "7.png"]
    assert one == two


def test_ranks_that_were_asked_for_different_things_say_so(tmp_path: Path) -> None:
    """Every rank sees its own list of images: nothing is folded."""
    (tmp_path / "own.py").write_text(
        "import os\nimport numpy as np\n\n\n"
        "def images():\n    return np.ones((6 + int(os.environ['RANK']), 1, 28, 28)) / 2\n"
    )
    ended = _run(2, tmp_path, "check", os.fspath(LENET), "--data", "own.py:images", "--json", "r.json")
    assert ended.returncode != 0
    assert "on rank 0 and" in ended.stderr
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("whom", ["the command", "its measuring process"])
def test_a_rank_that_is_killed_ends_the_job(whom: str, tmp_path: Path) -> None:
    """Soon, with a code that is not 0, and with the old report as it was."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "r.json").write_text("old")
    asked = ("check", "slow.py:Slow", "--input-shape", "3,16,16", "--batch-size", "1", "--json", "r.json")
    with subprocess.Popen(
        _launch(2, *asked),
        cwd=tmp_path,
        env=_environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as job:
        try:
            victim = _wait_for_rank(job.pid, measuring=whom != "the command")
            os.kill(victim, signal.SIGKILL)
            start = time.monotonic()
            assert job.wait(60) != 0
            assert time.monotonic() - start < 30
        finally:
            with _ignored():
                os.killpg(job.pid, signal.SIGKILL)
    assert (tmp_path / "r.json").read_text() == "old"
    assert not list(tmp_path.glob(".eqaudit-*"))


class _ignored:  # noqa: N801 - reads as a word
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
        return kind is ProcessLookupError


def _wait_for_rank(job: int, *, measuring: bool) -> int:
    """Return the process of the second rank, or its measuring child, once it has run for a while."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        commands = [pid for pid in _children(job) if _rank_of(pid) == "1"]
        workers = [child for pid in commands for child in _children(pid)]
        if workers:
            time.sleep(8)
            return workers[0] if measuring else commands[0]
        time.sleep(0.2)
    raise TimeoutError("the second rank did not start")


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return found


def _rank_of(pid: int) -> str | None:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((value[5:].decode() for value in variables if value.startswith(b"RANK=")), None)
