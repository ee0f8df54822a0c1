"""What several tests share: the command as a user starts it, and what every error looks like."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from forking import Forker, read_late
from hypothesis import settings

from eqaudit import cli, worker
from eqaudit.cli import audits
from eqaudit.errors import ExitCode
from eqaudit.plan import Plan
from eqaudit.report import Audited

# Tests run beside each other, and torch reads this when it is imported: threads of theirs would only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# How long an example takes says what the machine does beside it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

Ended = subprocess.CompletedProcess[bytes]

# An audit is mostly the import of torch, on one core: two at once use both cores of a small machine.
AT_ONCE = 2
PATIENCE = 120.0  # seconds; a hanging command must not hang the tests
LOOKS = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONHASHSEED")


@pytest.fixture(scope="session")
def command() -> list[str]:
    """Return the command of this checkout, without what stands in the current folder."""
    return [sys.executable, "-P", "-m", "eqaudit"]


@pytest.fixture(scope="session")
def surroundings() -> dict[str, str]:
    """Return the environment without what changes how output looks."""
    return {name: value for name, value in os.environ.items() if name not in LOOKS}


@pytest.fixture(scope="session")
def eqaudit(surroundings: dict[str, str], started: Callable[..., Ended]) -> Iterator[Callable[..., Ended]]:
    """Return a function that runs the command to its end: in a fork, unless variables are read at a start."""
    forker = Forker(surroundings)

    def run(*arguments: str, cwd: Path, env: dict[str, str] | None = None, given: bytes = b"") -> Ended:
        if not read_late(env or {}):
            return started(*arguments, cwd=cwd, env=env, given=given)
        return forker.run(arguments, cwd, given, PATIENCE, env or {})

    yield run
    forker.end()


@pytest.fixture(scope="session")
def started(command: list[str], surroundings: dict[str, str]) -> Callable[..., Ended]:
    """Return a function that starts the command anew and runs it to its end."""

    def run(*arguments: str, cwd: Path, env: dict[str, str] | None = None, given: bytes = b"") -> Ended:
        return subprocess.run(
            [*command, *arguments],
            cwd=cwd,
            env=surroundings | (env or {}),
            input=given,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def shell(command: list[str], surroundings: dict[str, str]) -> Callable[..., Ended]:
    """Return a function that runs a line of bash in which ``$EQAUDIT`` is the command."""

    def run(line: str, cwd: Path, **env: str) -> Ended:
        return subprocess.run(
            ["/bin/bash", "-c", line],
            cwd=cwd,
            env=surroundings | {"EQAUDIT": " ".join(command)} | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def in_background() -> Iterator[Callable[..., Callable[[], Any]]]:
    """Return a function that starts a call beside others and returns how to get its result.

    Whoever asks for a call that still waits in the queue makes it at once; calls that nobody asked
    for are dropped.
    """
    pool = ThreadPoolExecutor(AT_ONCE)

    def start(call: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[], Any]:
        future = pool.submit(call, *arguments, **options)

        @cache
        def result() -> Any:
            return call(*arguments, **options) if future.cancel() else future.result()

        return result

    yield start
    pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def told() -> Callable[[Ended], str]:
    """Return a function that checks the form of an error (one line and a hint) and returns its text."""

    def check(ended: Ended) -> str:
        text = ended.stderr.decode()
        lines = text.splitlines()
        assert "Traceback" not in text
        assert [line.startswith("error: ") for line in lines] == [True, False], text
        assert lines[0] != "error: "
        assert lines[1].startswith("  ")
        assert all(line.isprintable() for line in lines)
        return text

    return check


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


@pytest.fixture
def measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command measure in this process: importing torch again and again is most of an audit."""

    def run(plan: Plan, *_: Any) -> Audited | None:
        match msgspec.json.decode(worker._measure(plan, lambda *_: None), type=worker.Event):
            case worker.Finished(result):
                return msgspec.json.decode(result, type=Audited | None)
            case worker.Failed(message, hint, code, trace):
                assert not trace, trace
                raise worker._rebuild(message, hint, code)
            case event:
                raise AssertionError(event)

    monkeypatch.setattr(audits, "run_audit", run)


@pytest.fixture(scope="session")
def ends() -> Callable[[int], bool]:
    """Return a function that waits for a process, which may be nobody's child, to be gone."""

    def wait(process: int, seconds: float = 5.0) -> bool:
        deadline = time.monotonic() + seconds
        while _runs(process):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    return wait


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    # Where nobody collects orphans they stay as zombies, which hold nothing and do nothing.
    return state not in "ZX"
