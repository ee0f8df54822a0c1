"""The measuring process: what reaches it, what comes back, and that it is gone when it should be."""

import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eqaudit import allocator
from eqaudit.allocator import ENVIRONMENT, KEPT_BYTES, KEPT_IN_LOOP
from eqaudit.errors import ExitCode, WorkerError
from eqaudit.plan import AuditPlan, InputOptions, LayersPlan, PythonObject, RunOptions
from eqaudit.report import Listing, Report
from eqaudit.worker import InternalError, Progress, run_audit, run_layers

Ending = Callable[[], Any]

PATIENCE = 60.0  # seconds for the start of a process on a busy machine
ALLOWED = 10.0  # seconds: enough to start on a busy machine, and spent while other tests run
SOON = 2.0  # seconds in which an interrupted command must be gone

MODELS = '''
import os
import platform
import subprocess
import sys
import time

import torch
from torch import nn

SPOKEN = "Größe 大きさ \\U0001f4a5\\n" * 20_000


class Reporting(nn.Module):
    """Writes down what it finds around itself."""

    def __init__(self, folder, **arguments):
        super().__init__()
        self.pool = nn.AvgPool2d(3, 1, 1)
        with open(os.path.join(folder, "arguments"), "w", encoding="ascii") as file:
            file.write(ascii(arguments))
        with open(os.path.join(folder, "environment"), "wb") as file:
            file.write(b"\\0".join(k + b"=" + v for k, v in os.environb.items()))
        with open(os.path.join(folder, "standard_input"), "w") as file:
            file.write(repr(sys.stdin.read()))
        sys.stdout.flush()
        os.write(1, SPOKEN.encode())
        os.write(2, b"on standard error\\n")

    def forward(self, x):
        return self.pool(x).mean((2, 3))


class Endless(nn.Module):
    """Starts a process of its own, says so, and never returns."""

    def __init__(self, folder, busy=True):
        super().__init__()
        self.folder = folder
        self.busy = busy

    def forward(self, x):
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        with open(os.path.join(self.folder, "part"), "w") as file:
            file.write(f"{os.getpid()} {helper.pid}")
        os.rename(os.path.join(self.folder, "part"), os.path.join(self.folder, "processes"))
        while True:
            if not self.busy:
                time.sleep(1)


def leave_a_helper(folder):
    """End, but for a process that holds on to standard output."""
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    with open(os.path.join(folder, "processes"), "w") as file:
        file.write(str(helper.pid))
    os._exit(9)
'''


@dataclass
class Observed:
    """One audit, seen from both sides."""

    report: Report
    events: list[Progress]
    printed: str
    folder: Path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of models."""
    path = tmp_path_factory.mktemp("models") / "models.py"
    path.write_text(MODELS)
    return path


ARGUMENTS = {
    "a_tuple": (1, 2),
    "some_bytes": b"\xff",
    "a_set": {1},
    "no_utf8": "\udcff",
    "infinite": math.inf,
    "complex_": 1j,
    "large": 10**30,
}


@pytest.fixture(scope="module")
def observed(
    models: Path, tmp_path_factory: pytest.TempPathFactory, overdue: tuple[Path, Ending]
) -> Observed:
    """Audit a model that writes down what it finds around itself."""
    assert overdue
    folder = tmp_path_factory.mktemp("found")
    events: list[Progress] = []
    printed: list[str] = []
    audited = run_audit(
        plan(models, "Reporting", folder=os.fspath(folder), **ARGUMENTS),
        PATIENCE,
        events.append,
        printed.append,
    )
    assert audited is not None
    return Observed(audited.report, events, "".join(printed), folder)


def plan(models: Path, name: str, **arguments: Any) -> AuditPlan:
    """Plan a small audit."""
    return AuditPlan(
        PythonObject(os.fspath(models), name, is_file=True, arguments=arguments),
        InputOptions(input_shape=(3, 8, 8), samples=6, batch_size=4),
        RunOptions(threads=1),
        "C4",
    )


def ignore(_event: object) -> None:
    """Take an event or a text, and do nothing."""


def test_arguments_reach_the_factory_unchanged(observed: Observed) -> None:
    """What ``--arg`` gives arrives as it was written, also what JSON does not know."""
    assert (observed.folder / "arguments").read_text() == ascii(ARGUMENTS)


def test_the_environment_is_set_before_torch_is_imported(observed: Observed) -> None:
    """Allocator thresholds, safe loading and threads are there when the process starts."""
    found = set((observed.folder / "environment").read_bytes().split(b"\0"))
    expected = ENVIRONMENT | {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "OMP_NUM_THREADS": "1"}
    assert {f"{name}={value}".encode() for name, value in expected.items()} <= found
    assert observed.report.tool.threads == 1


def test_the_report_names_what_was_set_of_the_allocator(observed: Observed) -> None:
    """Where it is glibc's; a process that was started without has its own settings left alone."""
    said = observed.report.tool.allocator
    assert (said is not None) == (platform.libc_ver()[0] == "glibc")
    assert said is None or all(str(size) in said for size in (KEPT_BYTES, KEPT_IN_LOOP))
    assert allocator.describe() is None
    with allocator.large_blocks_kept():
        assert not allocator.is_set()


def test_the_environment_of_the_parent_stays(observed: Observed) -> None:
    """What is set for the measuring process is set for it alone."""
    assert observed.report.tool.version
    assert not ENVIRONMENT.keys() & os.environ.keys()


def test_a_model_that_reads_finds_nothing(observed: Observed) -> None:
    """Standard input of the measuring process is empty, not the plan and not the terminal."""
    assert (observed.folder / "standard_input").read_text() == "''"


def test_printed_text_arrives_whole(observed: Observed) -> None:
    """No character is torn where a chunk ends, and both streams are caught."""
    assert observed.printed == "Größe 大きさ \U0001f4a5\n" * 20_000 + "on standard error\n"


def test_progress_counts_the_images(observed: Observed) -> None:
    """Stages come in their order, and measuring goes from none to all: six images at three elements."""
    stages = list(dict.fromkeys(event.stage for event in observed.events))
    stages_in_order = [
        "loading",
        "finding the input shape",
        "fitting how channels turn",
        "measuring",
        "float64 rerun",
    ]
    assert stages == stages_in_order
    measuring = [(event.done, event.total) for event in observed.events if event.stage == "measuring"]
    assert measuring[0] == (0, 18)
    assert measuring[-1] == (18, 18)
    assert measuring == sorted(measuring)


def test_layers_are_listed_in_the_same_way(models: Path, tmp_path: Path) -> None:
    """The other kind of plan brings the other kind of result."""
    asked = plan(models, "Reporting", folder=os.fspath(tmp_path))
    listing = run_layers(LayersPlan(asked.model, asked.inputs, asked.run), PATIENCE, ignore, ignore)
    assert isinstance(listing, Listing)
    assert [layer.name for layer in listing.layers] == ["pool"]


def test_a_bug_of_ours_comes_back_with_its_traceback(models: Path, tmp_path: Path) -> None:
    """A plan that no command line lets through breaks the engine, and the parent learns where."""
    asked = plan(models, "Reporting", folder=os.fspath(tmp_path))
    broken = AuditPlan(asked.model, asked.inputs, RunOptions("no device"), "C4")
    with pytest.raises(InternalError, match="Traceback") as caught:
        run_audit(broken, PATIENCE, ignore, ignore)
    assert "choose_device" in str(caught.value)


def test_a_process_that_cannot_be_started_is_no_bug(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without room for another process is named as such."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(WorkerError, match=r"cannot be started: No such file") as caught:
        run_audit(plan(models, "Reporting"), PATIENCE, ignore, ignore)
    assert caught.value.exit_code == ExitCode.CANNOT_RUN


def test_a_helper_of_the_model_keeps_nobody_waiting(
    models: Path, tmp_path: Path, ends: Callable[..., bool]
) -> None:
    """The end of the model's process is the end, whoever else holds its output open; helpers go too."""
    with pytest.raises(WorkerError, match="exit code 9"):
        run_audit(plan(models, "leave_a_helper", folder=os.fspath(tmp_path)), PATIENCE, ignore, ignore)
    assert ends(int((tmp_path / "processes").read_text()))


@pytest.fixture(scope="module")
def overdue(
    models: Path, tmp_path_factory: pytest.TempPathFactory, in_background: Callable[..., Ending]
) -> tuple[Path, Ending]:
    """Start an audit that will be out of time, before the other tests of this module."""
    folder = tmp_path_factory.mktemp("overdue")
    asked = plan(models, "Endless", folder=os.fspath(folder), busy=False)

    def wait() -> float:
        started = time.monotonic()
        with pytest.raises(WorkerError, match=rf"no result after {ALLOWED:g} s, while .*: the time is up"):
            run_audit(asked, ALLOWED, ignore, ignore)
        return time.monotonic() - started

    return folder, in_background(wait)


def test_when_the_time_is_up_the_process_is_gone(
    overdue: tuple[Path, Ending], ends: Callable[..., bool]
) -> None:
    """A model that never returns is ended after the time allowed, with all that it started."""
    folder, waited = overdue
    assert ALLOWED <= waited() < ALLOWED + SOON
    assert all(ends(process) for process in processes_in(folder))


def processes_in(folder: Path) -> list[int]:
    """Return the processes that a model in there has named."""
    return [int(word) for word in (folder / "processes").read_text().split()]


@contextmanager
def endless(
    models: Path, folder: Path, command: list[str], *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command on a model that loops, and wait until it does."""
    asked = ["check", f"{models}:Endless", "--arg", f"folder={folder}", "--input-shape", "3,8,8", *options]
    with subprocess.Popen(
        [*command, *asked],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Tests that run in the background of a shell ignore Ctrl-C, and hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    ) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not (folder / "processes").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("sent", "times"),
    [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 2)],
)
def test_a_signal_ends_everything_at_once(
    sent: signal.Signals,
    times: int,
    models: Path,
    tmp_path: Path,
    command: list[str],
    ends: Callable[..., bool],
) -> None:
    """Interrupted once, or again by an impatient hand: code 130, no process left, nothing written."""
    report = tmp_path / "report.json"
    report.write_bytes(b"old")
    with endless(models, tmp_path, command, "--json", os.fspath(report)) as process:
        started = time.monotonic()
        for _ in range(times):
            process.send_signal(sent)
            time.sleep(0.01)
        stdout, stderr = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - started < SOON
    assert process.returncode == ExitCode.INTERRUPTED
    assert (stdout, stderr) == (b"", b"interrupted: no file is left half-written\n")
    assert all(ends(number, SOON) for number in processes_in(tmp_path))
    assert report.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"processes", "report.json"}


def test_the_measuring_process_dies_with_the_command(
    models: Path, tmp_path: Path, command: list[str], ends: Callable[..., bool]
) -> None:
    """Even what cannot be caught leaves nobody behind to compute."""
    with endless(models, tmp_path, command) as process:
        process.send_signal(signal.SIGKILL)
        assert process.communicate(timeout=PATIENCE) == (b"", b"")
    assert process.returncode == -signal.SIGKILL
    assert all(ends(number) for number in processes_in(tmp_path))


def test_the_child_takes_no_module_from_the_current_folder(models: Path, tmp_path: Path) -> None:
    """The command that starts the child forbids it, for a model may be audited in any folder."""
    for name in ("torch", "numpy", "json", "eqaudit", "msgspec"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(77)")
    code = (
        "import json, sys\n"
        "from eqaudit.worker import run_layers\n"
        "from eqaudit.parsing import parse_model\n"
        "from eqaudit.plan import LayersPlan\n"
        "model = parse_model(sys.argv[1], ['folder=' + sys.argv[2]])\n"
        "listing = run_layers(LayersPlan(model), 60.0, lambda event: None, lambda text: None)\n"
        "print(json.dumps([layer.name for layer in listing.layers]))"
    )
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code, f"{models}:Reporting", os.fspath(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert json.loads(ended.stdout) == ["pool"]
