"""What a machine can do to an audit: rows E01 to E24 of the list of hostile inputs, by the real command.

The identifier of a row is in the name of its tests. An old report stands where the new one would be
written; unless a whole new one takes its place it must survive, byte for byte.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_ranks import _children, _launch, _wait_for_rank
from test_ranks import _environment as rank_environment

from eqaudit.cli import files
from eqaudit.cli.files import TEMPORARY_PREFIX, check_folder, check_output, write_file
from eqaudit.cli.streams import require_stdout
from eqaudit.errors import ExitCode, UsageError
from eqaudit.job import current_job
from eqaudit.report import from_json
from eqaudit.requirements import PACKAGES

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0  # seconds for a process to come so far on a busy machine
SOON = 2.0  # seconds in which an interrupted command must be gone
LOST = 30.0  # seconds in which a job must end that has lost a rank
OLD_REPORT = b"an old report\n"
STRAY = f"{TEMPORARY_PREFIX}*"
Run = Callable[..., Any]

NOT_MADE = {
    "E05 quota": "needs a file system mounted with quotas; a write fails there as on a full disk",
    "E18 NumPy 1": "is no fault: 1.26 is allowed, and an environment of its own would have to be installed",
    "E19 full GPU": "needs a GPU",
    "E23 setgid command": "a script cannot be setgid; of folders the kernel sets the group",
}
"""Parts of rows that have no test, and why."""

IS_ROOT = os.geteuid() == 0
UNSHARE = shutil.which("unshare") or "unshare"
STRACE = shutil.which("strace")
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root may do this")
needs_namespaces = pytest.mark.skipif(
    not IS_ROOT or subprocess.run([UNSHARE, "-mn", "true"], check=False).returncode != 0,
    reason="needs namespaces of its own, as root",
)

MODELS = '''
import os
import pathlib
import time

import torch

MARK = os.environ.get("MARK")


def stand_still(here):
    if MARK == here:
        pathlib.Path("mark").touch()
        time.sleep(3600)


class Mean(torch.nn.Module):
    """Exactly invariant."""

    def __init__(self):
        super().__init__()
        stand_still("loading")

    def forward(self, x):
        stand_still("measuring")
        return x.mean((2, 3))


class Corner(torch.nn.Module):
    def forward(self, x):
        return x[:, :, 0, 0]


class Eats(torch.nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) + torch.ones(1 << 30).sum()


class OfRank(Mean):
    """The second rank does what it is told; the first needs a while."""

    def forward(self, x):
        time.sleep(0.05)
        if os.environ["RANK"] == "1":
            if os.environ.get("DOES") == "raise":
                raise ValueError("no luck")
            if os.environ.get("DOES") == "leave":
                os._exit(0)
        return super().forward(x)
'''
SHAPE = ("--input-shape", "3,8,8", "--samples", "4")
AUDIT = ("check", "models.py:Mean", *SHAPE)
TO_STDOUT = (*AUDIT, "--json", "-")
TO_FILE = (*AUDIT, "--quiet", "--json", "r.json")
# The moment in which a report is written is too short to be hit: here it takes half a second.
SLOW_DISK = """
import os, sys, time
fsync = os.fsync
os.fsync = lambda descriptor: (time.sleep(0.5), fsync(descriptor))
from eqaudit.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def eqaudit(started: Run) -> Run:
    """Start every command anew: here its environment is what is tested."""
    return started


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of small models."""
    path = tmp_path_factory.mktemp("models") / "models.py"
    path.write_text(MODELS)
    return path


@pytest.fixture
def workshop(models: Path, tmp_path: Path) -> Path:
    """Return a folder with the models and an old report."""
    shutil.copy(models, tmp_path)
    (tmp_path / "r.json").write_bytes(OLD_REPORT)
    return tmp_path


@pytest.fixture(scope="module")
def clean(models: Path, eqaudit: Run) -> bytes:
    """Return the report of an audit in quiet surroundings."""
    ended = eqaudit(*TO_STDOUT, cwd=models.parent)
    assert (ended.returncode, ended.stderr) == (ExitCode.PASSED, b"")
    return bytes(ended.stdout)


@pytest.fixture(scope="module")
def saved(clean: bytes, models: Path) -> str:
    """Return the file of that report: to show it takes no torch."""
    path = models.parent / "saved.json"
    path.write_bytes(clean)
    return os.fspath(path)


@contextlib.contextmanager
def started(command: list[str], cwd: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command whose signals are as in a shell's foreground, and make sure that it ends."""
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(found: Callable[[], Any], process: subprocess.Popen[bytes]) -> None:
    """Wait until there is what a process makes."""
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_untouched(folder: Path) -> bool:
    """Return whether the old report is there and nothing else was left."""
    names = {path.name for path in folder.iterdir()} - {"mark", "__pycache__"}
    return names == {"models.py", "r.json"} and (folder / "r.json").read_bytes() == OLD_REPORT


# Signals, kills, memory, disks -----------------------------------------------------------------------


def interrupt(
    moment: str, sent: signal.Signals, times: int, workshop: Path, ends: Callable[..., bool]
) -> None:
    """Send a signal at a moment, and again in a fifth of a second; everything must be tidy at once."""
    start = ["-c", SLOW_DISK] if moment == "writing" else ["-m", "eqaudit"]
    with started([sys.executable, "-P", *start, *TO_FILE], workshop, MARK=moment) as process:
        wait_for(lambda: [*workshop.glob("mark"), *_written(workshop)], process)
        children = _children(process.pid)
        begun = time.monotonic()
        for _ in range(times):
            process.send_signal(sent)
            time.sleep(0.05)
        stdout, stderr = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - begun < SOON
    assert process.returncode == ExitCode.INTERRUPTED
    assert (stdout, stderr) == (b"", b"interrupted: no file is left half-written\n")
    assert all(ends(child, SOON) for child in children)
    assert is_untouched(workshop)


def _written(folder: Path) -> list[Path]:
    # Before the audit a file is made as well, to see whether one can be: that one is empty.
    return [path for path in folder.glob(STRAY) if path.stat().st_size]


@pytest.mark.parametrize("moment", ["loading", "measuring", "writing"])
def test_e01_ctrl_c_twice(moment: str, workshop: Path, ends: Callable[..., bool]) -> None:
    """Code 130 in under 2 seconds, no process left, no partial file."""
    interrupt(moment, signal.SIGINT, 2, workshop, ends)


@pytest.mark.parametrize(
    ("sent", "moment"),
    [(signal.SIGTERM, "writing"), (signal.SIGHUP, "measuring")],
)
def test_e02_other_signals(
    sent: signal.Signals, moment: str, workshop: Path, ends: Callable[..., bool]
) -> None:
    """As tidy as after Ctrl-C."""
    # Under nohup it is ignored, and stays so.
    before = signal.signal(sent, signal.SIG_DFL)
    try:
        interrupt(moment, sent, 2, workshop, ends)
    finally:
        signal.signal(sent, before)


def test_e02_nohup(workshop: Path, shell: Run) -> None:
    """A signal that is ignored stays ignored."""
    line = "trap '' HUP; $EQAUDIT check models.py:Mean --input-shape 3,8,8 --samples 4 --quiet & sleep 0.5; "
    assert shell(line + "kill -HUP $!; wait $!", workshop).returncode == ExitCode.PASSED


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.long)])
def test_e03_killed_at_random_moments(kills: int, workshop: Path, eqaudit: Run) -> None:
    """The old report is whole after each kill; the next run removes what was left, and is as ever."""
    command = [sys.executable, "-P", "-c", SLOW_DISK, *TO_FILE]
    begun = time.monotonic()
    with started(command, workshop) as process:
        wait_for(lambda: _written(workshop), process)
        whole = time.monotonic() - begun + 0.5
        process.kill()
    assert _written(workshop)
    assert (workshop / "r.json").read_bytes() == OLD_REPORT
    moments = random.Random(0)  # noqa: S311 - no secret
    for _ in range(kills - 1):
        with started(command, workshop) as process:
            time.sleep(moments.uniform(0, whole))
            process.kill()
            process.wait()
        if (workshop / "r.json").read_bytes() != OLD_REPORT:
            # It had come to its end: only that may change the report.
            from_json((workshop / "r.json").read_bytes())
            (workshop / "r.json").write_bytes(OLD_REPORT)
    assert eqaudit(*TO_FILE, cwd=workshop).returncode == ExitCode.PASSED
    assert from_json((workshop / "r.json").read_bytes()).gate is not None
    assert not list(workshop.glob(STRAY))


@pytest.mark.parametrize(("kilobytes", "model"), [(2_500_000, "Eats"), (400_000, "Mean")])
def test_e04_out_of_memory(
    kilobytes: int, model: str, workshop: Path, shell: Run, told: Callable[..., str]
) -> None:
    """Too little for the model, or for torch itself: code 3, and the word."""
    line = f"ulimit -v {kilobytes}; $EQAUDIT check models.py:{model} {' '.join(SHAPE)} --json r.json"
    ended = shell(line, workshop)
    assert "memory" in told(ended)
    assert (ended.returncode, ended.stdout) == (ExitCode.CANNOT_RUN, b"")
    assert is_untouched(workshop)


def test_e05_limit_on_the_size_of_files(workshop: Path, shell: Run, told: Callable[..., str]) -> None:
    """Where SIGXFSZ would end others, one message; the old report stays."""
    ended = shell(f"ulimit -f 1; $EQAUDIT {' '.join(TO_FILE)}", workshop)
    assert ended.returncode == ExitCode.CANNOT_RUN
    assert "r.json cannot be written: File too large" in told(ended)
    assert is_untouched(workshop)


@needs_namespaces
def test_e05_full_disk(workshop: Path, told: Callable[..., str], command: list[str]) -> None:
    """On a file system of 64 KiB: no room for the new report, and the old one as it was."""
    script = """
    mkdir small && mount -t tmpfs -o size=64k none small && cp r.json small/ || exit 99
    head -c 60000 /dev/zero > small/full 2>/dev/null
    "$@"; code=$?
    cmp r.json small/r.json && [ "$(ls -A small)" = "$(printf 'full\\nr.json')" ] || exit 98
    exit $code
    """
    asked = [*command, *AUDIT, "--quiet", "--json", "small/r.json"]
    ended = subprocess.run(
        [UNSHARE, "-m", "bash", "-c", script, "-", *asked], cwd=workshop, capture_output=True, check=False
    )
    assert ended.returncode == ExitCode.CANNOT_RUN, ended
    assert "small/r.json cannot be written: No space left on device" in told(ended)


# Standard streams, locale, terminal -------------------------------------------------------------------


@pytest.mark.parametrize("options", ["", "--json -"])
def test_e06_full_stdout(
    options: str, workshop: Path, saved: str, shell: Run, told: Callable[..., str]
) -> None:
    """Code 3, not the 1 of Python, which reads "gate failed"."""
    what = f"{' '.join(AUDIT)} {options}" if options else f"render {saved}"
    ended = shell(f"$EQAUDIT {what} > /dev/full", workshop)
    assert ended.returncode == ExitCode.CANNOT_RUN
    assert "standard output cannot be written: No space left on device" in told(ended)


def test_e07_reader_that_has_seen_enough(workshop: Path, shell: Run) -> None:
    """Quiet, with the code that the audit earned."""
    line = "$EQAUDIT check models.py:Corner " + " ".join(SHAPE)
    ended = shell(f"{line} | head -1; exit ${{PIPESTATUS[0]}}", workshop)
    assert (ended.returncode, ended.stderr) == (ExitCode.GATE_FAILED, b"")
    assert len(ended.stdout.splitlines()) == 1


def test_e08_closed_stdout(workshop: Path, saved: str, shell: Run, told: Callable[..., str]) -> None:
    """Nothing is measured for nobody."""
    for arguments in (" ".join(TO_FILE), f"render {saved}", "layers models.py:Mean"):
        ended = shell(f"$EQAUDIT {arguments} >&-", workshop)
        assert ended.returncode == ExitCode.USAGE
        assert "nowhere to write" in told(ended)
    assert is_untouched(workshop)


@pytest.mark.parametrize(
    "given", ["< /dev/zero", "<&- 2>&-", pytest.param("< /dev/ptmx", marks=pytest.mark.slow)]
)
def test_e09_standard_input_is_not_read(given: str, workshop: Path, shell: Run, clean: bytes) -> None:
    """Closed, without end or a terminal: the same report."""
    ended = shell(f"$EQAUDIT {' '.join(TO_STDOUT)} {given}", workshop)
    assert (ended.returncode, ended.stdout, ended.stderr) == (ExitCode.PASSED, clean, b"")


def test_e10_ascii(workshop: Path, eqaudit: Run) -> None:
    """The same code in ASCII alone."""
    variables = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ended = eqaudit("check", "models.py:Corner", *SHAPE, cwd=workshop, env=variables)
    assert (ended.returncode, ended.stderr) == (ExitCode.GATE_FAILED, b"")
    assert "FAILED" in ended.stdout.decode("ascii")


@pytest.mark.parametrize(
    "variables",
    [
        {"COLUMNS": "1"},
        {"COLUMNS": "20", "TERM": "dumb"},
        {"COLUMNS": "10000", "CI": "1"},
        {"COLUMNS": "-5", "NO_COLOR": "1", "FORCE_COLOR": "1"},
        {"COLUMNS": "x", "LINES": "0"},
        {"COLUMNS": "99999999999999999999", "TERM": ""},
    ],
)
def test_e11_terminal_variables(variables: dict[str, str], saved: str, eqaudit: Run, tmp_path: Path) -> None:
    """Any width: every line, no colour in a pipe, no bar, no crash."""
    ended = eqaudit("render", saved, cwd=tmp_path, env=variables)
    assert (ended.returncode, ended.stderr) == (ExitCode.PASSED, b"")
    text = ended.stdout.decode()
    assert "\x1b" not in text
    assert re.search(r"^PASSED\s", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) < 100


# Folders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("surroundings_of", ["no home", "home that cannot be written", "new home"])
def test_e12_home_and_temporary_folder(surroundings_of: str, saved: str, shell: Run, workshop: Path) -> None:
    """Pictures are drawn without a word, and nothing is left in the home or the temporary folder."""
    folders = {name: workshop / name for name in ("home", "temporary")}
    for folder in folders.values():
        folder.mkdir()
    before = {
        "no home": "unset HOME; TMPDIR=/nowhere",
        "home that cannot be written": f"HOME=/proc TMPDIR={folders['temporary']}",
        "new home": f"HOME={folders['home']} TMPDIR={folders['temporary']}",
    }[surroundings_of]
    ended = shell(f"{before} $EQAUDIT render {saved} --quiet --plots pictures", workshop)
    assert (ended.returncode, ended.stderr) == (ExitCode.PASSED, b"")
    assert list((workshop / "pictures").glob("*.png"))
    assert [list(folder.iterdir()) for folder in folders.values()] == [[], []]


def test_e12_settings_of_matplotlib_in_the_current_folder(saved: str, eqaudit: Run, tmp_path: Path) -> None:
    """Pictures do not obey a file that lies about."""
    drawn = []
    for settings in ("", "text.usetex: True\nbackend: nosuch\n"):
        (tmp_path / "matplotlibrc").write_text(settings)
        ended = eqaudit("render", saved, "--quiet", "--plots", "pictures", cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (ExitCode.PASSED, b"")
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / "pictures").iterdir()})
    assert drawn[0]
    assert drawn[0] == drawn[1]


def test_e12_current_folder_that_is_gone(
    models: Path, shell: Run, workshop: Path, told: Callable[..., str]
) -> None:
    """An error that does not blame the model."""
    line = f"mkdir gone; cd gone; rmdir ../gone; $EQAUDIT check {models}:Mean {' '.join(SHAPE)}"
    ended = shell(line, workshop)
    assert ended.returncode in {ExitCode.CANNOT_RUN, ExitCode.USAGE}
    assert "model" not in told(ended)


@needs_namespaces
def test_e12_read_only_and_noexec(workshop: Path, command: list[str], clean: bytes) -> None:
    """From a folder that nobody can write, with a temporary folder that runs nothing: as ever."""
    script = """
    mkdir temporary && mount -t tmpfs -o noexec none temporary || exit 99
    mount --bind . . && mount -o remount,ro,bind . && cd . || exit 99
    cd "$PWD" && ! touch x 2>/dev/null || exit 98
    TMPDIR=$PWD/temporary exec "$@"
    """
    ended = subprocess.run(
        [UNSHARE, "-m", "bash", "-c", script, "-", *command, *TO_STDOUT],
        cwd=workshop,
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (ExitCode.PASSED, clean, b"")


def test_e13_outputs_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing folder, a file for a folder, a loop of links, somebody else's file: before the audit."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("missing/r.json")
    for path in ("missing/r.json", "file/r.json", "loop", "dangling", "n" * 300, "a\0b", "/proc/r.json"):
        with pytest.raises(UsageError, match="cannot be written"):
            check_output(path, ())
    for path in ("missing/pictures", "file", "loop", "n" * 300, "/proc/pictures"):
        with pytest.raises(UsageError):
            check_folder(path)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "loop", "dangling"}


def test_e13_links(tmp_path: Path) -> None:
    """A symbolic link is followed, also out of the folder; of hard links the other keeps the old content."""
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    for place in (outside, folder):
        place.mkdir()
    (folder / "link").symlink_to(outside / "r.json")
    (folder / "one").write_bytes(OLD_REPORT)
    (folder / "other").hardlink_to(folder / "one")
    for name in ("link", "one"):
        check_output(os.fspath(folder / name), ())
        write_file(os.fspath(folder / name), b"new")
    assert (folder / "link").is_symlink()
    assert (outside / "r.json").read_bytes() == b"new"
    assert ((folder / "one").read_bytes(), (folder / "other").read_bytes()) == (b"new", OLD_REPORT)


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_e13_other_owner(mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sticky folder, as /tmp is, only its owner may replace a file: that is found before the audit."""
    report = tmp_path / "r.json"
    report.write_bytes(OLD_REPORT)
    tmp_path.chmod(mode)
    check_output(os.fspath(report), ())
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4242)
    sticky = pytest.raises(UsageError, match="belongs to somebody else")
    with sticky if mode & stat.S_ISVTX else contextlib.nullcontext():
        check_output(os.fspath(report), ())


def test_e14_two_runs_to_one_output(workshop: Path) -> None:
    """Each makes its own report, the later one stays, whole; neither sweeps what the other writes."""
    command = [sys.executable, "-P", "-c", SLOW_DISK]
    one, two = (*AUDIT, "--quiet", "--json", "r.json"), (*AUDIT, "--quiet", "--seed", "1", "--json", "r.json")
    with started([*command, *one], workshop) as first, started([*command, *two], workshop) as second:
        assert [process.communicate(timeout=PATIENCE)[1] for process in (first, second)] == [b"", b""]
    assert (first.returncode, second.returncode) == (ExitCode.PASSED, ExitCode.PASSED)
    assert from_json((workshop / "r.json").read_bytes()).tool.command[1:] in [list(one), list(two)]
    assert not list(workshop.glob(STRAY))


def test_e14_files_in_use_are_not_swept(tmp_path: Path) -> None:
    """Only what is called as ours are and is locked by nobody is removed; a pipe stops nobody."""
    mine = tmp_path / f"{TEMPORARY_PREFIX}notes.json"
    mine.write_text("mine")
    (tmp_path / f"{TEMPORARY_PREFIX}abcdefgh.tmp").write_text("left by a run that was killed")
    (tmp_path / f"{TEMPORARY_PREFIX}linklink.tmp").symlink_to(mine)
    os.mkfifo(tmp_path / f"{TEMPORARY_PREFIX}fifofifo.tmp")
    with files._temporary(tmp_path) as (_, in_use):
        check_output(os.fspath(tmp_path / "r.json"), ())
        assert Path(in_use).exists()
    assert {path.name for path in tmp_path.iterdir()} >= {mine.name, f"{TEMPORARY_PREFIX}linklink.tmp"}
    assert not (tmp_path / f"{TEMPORARY_PREFIX}abcdefgh.tmp").exists()
    assert mine.read_text() == "mine"


# Clock, threads, interpreter --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clock", "variables"),
    [
        ("a - 3600 * next(n)", {"TZ": "Nowhere/Odd:99"}),
        ("4102444800 + next(n)", {"SOURCE_DATE_EPOCH": "0"}),
    ],
)
def test_e15_clock(clock: str, variables: dict[str, str], workshop: Path, eqaudit: Run, clean: bytes) -> None:
    """A clock that runs backwards, or is in the year 2100: the same report."""
    (workshop / "clock").mkdir()
    (workshop / "clock" / "sitecustomize.py").write_text(
        f"import itertools, time\nn, a = itertools.count(), time.time()\ntime.time = lambda: {clock}\n"
    )
    path = os.pathsep.join([os.fspath(workshop / "clock"), os.environ.get("PYTHONPATH", "")])
    ended = eqaudit(*TO_STDOUT, cwd=workshop, env=variables | {"PYTHONPATH": path})
    assert (ended.returncode, ended.stdout, ended.stderr) == (ExitCode.PASSED, clean, b"")


@pytest.mark.parametrize(
    "variables",
    [{"OMP_NUM_THREADS": "0", "MKL_NUM_THREADS": "x"}, {"OMP_NUM_THREADS": "999"}],
)
def test_e16_threads(variables: dict[str, str], workshop: Path, eqaudit: Run, clean: bytes) -> None:
    """The same verdict with any number of threads, which the report records."""
    ended = eqaudit(*TO_STDOUT, cwd=workshop, env=variables)
    report, usual = from_json(ended.stdout), from_json(clean)
    assert (ended.returncode, ended.stderr) == (ExitCode.PASSED, b"")
    assert report.tool.threads >= 1
    assert report.verdict is not None
    assert usual.verdict is not None
    assert (report.verdict.holds, report.gate) == (usual.verdict.holds, usual.gate)


def test_e16_one_core(workshop: Path, shell: Run, clean: bytes) -> None:
    """Bound to one core, with the same number of threads: the same bytes."""
    core = min(os.sched_getaffinity(0))
    ended = shell(f"taskset -c {core} $EQAUDIT {' '.join(TO_STDOUT)}", workshop)
    assert (ended.returncode, ended.stdout) == (ExitCode.PASSED, clean)


ISOLATED = f"import sys; sys.path.insert(0, {os.fspath(ROOT)!r}); from eqaudit.__main__ import main; "


@pytest.mark.parametrize(
    ("seed", "flags"),
    [
        ("1", ["-O", "-m", "eqaudit"]),
        ("2", ["-W", "error", "-m", "eqaudit"]),
        ("3", ["-X", "dev", "-m", "eqaudit"]),
        ("5", ["-I", "-c", ISOLATED + "sys.exit(main())"]),
        *[
            pytest.param(str(seed), ["-m", "eqaudit"], marks=pytest.mark.slow)
            for seed in (0, 4, *range(6, 10))
        ],
    ],
)
def test_e17_interpreter(seed: str, flags: list[str], workshop: Path, clean: bytes) -> None:
    """Hash seed, optimisation, strict warnings, development mode, isolation: the same bytes."""
    ended = subprocess.run(
        [sys.executable, *flags, *TO_STDOUT],
        cwd=workshop,
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (ExitCode.PASSED, clean, b"")


# Packages and devices ---------------------------------------------------------------------------------


MISSING = "raise ModuleNotFoundError(\"No module named '{0}'\", name='{0}')"


@pytest.mark.parametrize(
    ("package", "content", "options"),
    [
        ("torch", MISSING, ()),
        ("torch", "__version__ = '2.5.1+cpu'", ()),
        ("torch", "__version__ = '2.9.0'; nn = None", ()),
        ("torch", "raise ImportError('cannot import name', name='torch._C')", ()),
        ("skimage", MISSING, ()),
        ("matplotlib", MISSING, ("--plots", "pictures")),
        ("typer", MISSING, ()),
        ("msgspec", MISSING.replace("{0}'\"", "{0}'\\n\\x1b[2J\""), ()),
    ],
)
def test_e18_package_that_is_missing_or_old(
    package: str,
    content: str,
    options: tuple[str, ...],
    workshop: Path,
    eqaudit: Run,
    told: Callable[..., str],
) -> None:
    """One line, and the command that installs it; not a bug of ours, and never code 1."""
    (workshop / "stubs" / package).mkdir(parents=True)
    (workshop / "stubs" / package / "__init__.py").write_text(content.format(package))
    path = os.pathsep.join([os.fspath(workshop / "stubs"), os.environ.get("PYTHONPATH", "")])
    ended = eqaudit(*TO_FILE, *options, cwd=workshop, env={"PYTHONPATH": path})
    assert ended.returncode == ExitCode.CANNOT_RUN
    message = told(ended)
    assert f"error: {package} " in message
    assert f"-m pip install '{PACKAGES[package]}'" in message
    shutil.rmtree(workshop / "stubs")
    assert is_untouched(workshop)


def test_e18_packages_are_those_of_the_project() -> None:
    """What is told to be installed is what the project declares."""
    declared = re.search(
        r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    assert declared is not None
    assert re.findall(r'"(.*)"', declared[1]) == list(PACKAGES.values())


@pytest.mark.parametrize(
    ("row", "seen", "device"), [("e18", None, "cuda:99"), ("e19", "", "cuda"), ("e19", "99", "cuda:0")]
)
def test_e18_e19_device_that_is_not_there(
    row: str, seen: str | None, device: str, workshop: Path, eqaudit: Run, told: Callable[..., str]
) -> None:
    """Refused, in one line; never a silent fall-back to the CPU."""
    assert row in {"e18", "e19"}
    variables = {} if seen is None else {"CUDA_VISIBLE_DEVICES": seen}
    ended = eqaudit(*TO_FILE, "--device", device, cwd=workshop, env=variables)
    assert ended.returncode == ExitCode.CANNOT_RUN
    assert f"no device {device}" in told(ended)
    assert is_untouched(workshop)


def test_e19_variables_of_a_device_that_is_not_used(workshop: Path, eqaudit: Run, clean: bytes) -> None:
    """On the CPU they change nothing."""
    variables = {
        "CUDA_VISIBLE_DEVICES": "-1",
        "NVIDIA_TF32_OVERRIDE": "1",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    }
    ended = eqaudit(*TO_STDOUT, cwd=workshop, env=variables)
    assert (ended.returncode, ended.stdout, ended.stderr) == (ExitCode.PASSED, clean, b"")


# Jobs of several ranks --------------------------------------------------------------------------------


OF_RANKS = ("check", "models.py:OfRank", "--input-shape", "3,8,8", "--batch-size", "1", "--json", "r.json")


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["command", "measuring process"])
def test_e20_rank_that_is_stopped(whom: str, workshop: Path) -> None:
    """SIGSTOP is not seen as an end: whoever waits counts the silence. SIGKILL is in test_ranks."""
    with subprocess.Popen(
        _launch(2, *OF_RANKS),
        cwd=workshop,
        env=rank_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as job:
        try:
            victim = _wait_for_rank(job.pid, measuring=whom == "measuring process")
            os.kill(victim, signal.SIGSTOP)
            begun = time.monotonic()
            assert job.wait(PATIENCE) != 0
            assert time.monotonic() - begun < LOST
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
    assert is_untouched(workshop)


@pytest.mark.parametrize("does", ["raise", pytest.param("leave", marks=pytest.mark.slow)])
def test_e20_rank_that_fails_alone(does: str, workshop: Path) -> None:
    """It raises, or ends as if all were well: the job ends, with a code that is not 0."""
    ended = subprocess.run(
        _launch(2, *OF_RANKS),
        cwd=workshop,
        env=rank_environment() | {"DOES": does},
        capture_output=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert ended.returncode != 0
    assert b"error: " in ended.stderr
    assert is_untouched(workshop)


@pytest.mark.parametrize(
    "variables",
    [
        {"WORLD_SIZE": "x"},
        {"WORLD_SIZE": "0"},
        {"WORLD_SIZE": "1", "RANK": "1"},
        {"WORLD_SIZE": "2", "RANK": "-1"},
        {"WORLD_SIZE": "2", "RANK": "one"},
        {"WORLD_SIZE": "3", "RANK": "0", "ROLE_WORLD_SIZE": "2"},
    ],
)
def test_e20_world_that_is_no_world(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that is none is refused before anything is measured; without a job RANK means nothing."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="no place in a job"):
        require_stdout()
    for name in variables:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RANK", "1")
    assert current_job().rank == 0


@pytest.mark.slow
def test_e20_world_that_is_larger_than_told(workshop: Path, eqaudit: Run, told: Callable[..., str]) -> None:
    """A rank that does not exist is not waited for."""
    lie = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    begun = time.monotonic()
    ended = eqaudit(*TO_FILE, cwd=workshop, env=lie)
    assert time.monotonic() - begun < LOST
    assert ended.returncode == ExitCode.CANNOT_RUN
    assert "the other ranks cannot be reached" in told(ended)
    assert is_untouched(workshop)


# Network, limits, users, imports ----------------------------------------------------------------------


@pytest.mark.skipif(STRACE is None, reason="needs strace")
def test_e21_what_the_kernel_saw(workshop: Path, command: list[str]) -> None:
    """No socket at all, and no file made, written or removed but the report, under its two names."""
    watched = "socket,connect,open,openat,openat2,creat,mknod,mknodat,mkdir,mkdirat,rename,renameat,renameat2"
    watched += ",link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,truncate,chmod,fchmodat,execve"
    home = workshop / "home"
    home.mkdir()
    subprocess.run(
        [str(STRACE), "-f", "-qq", "-s", "4096", "-o", "trace", "-e", f"trace={watched}", *command, *TO_FILE],
        cwd=workshop,
        env=os.environ | {"HOME": os.fspath(home), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=True,
    )
    calls = [line.partition(" ")[2].strip() for line in (workshop / "trace").read_text().splitlines()]
    started = [call for call in calls if call.startswith("execve(")]
    assert any("eqaudit.worker" in call for call in started)
    assert not [call for call in calls if re.match(r"(socket|connect)\(", call)]
    changing = [
        call
        for call in calls
        if not call.startswith("execve(")
        and "= -1 " not in call
        and (not call.startswith("open") or re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", call))
    ]
    written = {path for call in changing for path in re.findall('"([^"]*)"', call)} - {os.devnull}
    assert os.fspath(workshop / "r.json") in written
    assert all(
        re.fullmatch(re.escape(os.fspath(workshop)) + rf"/(r\.json|{TEMPORARY_PREFIX}\w{{8}}\.tmp)", path)
        for path in written
    ), written
    assert not list(home.iterdir())


@needs_namespaces
def test_e21_without_a_network(workshop: Path, command: list[str], clean: bytes) -> None:
    """Where there is no network at all: the same bytes."""
    ended = subprocess.run(
        [UNSHARE, "-n", *command, *TO_STDOUT], cwd=workshop, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (ExitCode.PASSED, clean, b"")


@pytest.mark.parametrize("limit", ["-n 16", "-n 8", "-s 256", "-t 1"])
def test_e22_limits_of_the_shell(limit: str, workshop: Path, shell: Run) -> None:
    """Few open files, a small stack, a second of time: a report or one error, and no hang."""
    ended = shell(f"ulimit {limit}; $EQAUDIT {' '.join(TO_FILE)}", workshop)
    assert ended.returncode in {ExitCode.PASSED, ExitCode.CANNOT_RUN}, ended.stderr
    assert b"Traceback" not in ended.stderr
    if ended.returncode:
        assert ended.stderr.startswith(b"error: ")
        assert is_untouched(workshop)


def as_user(number: int, command: list[str]) -> list[str]:
    """Return a command as another user runs it, who may read the interpreter of whoever tests."""
    may_read = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    return ["setpriv", "--reuid", str(number), "--regid", str(number), "--clear-groups", *may_read, *command]


@needs_root
def test_e22_no_more_processes(workshop: Path, command: list[str], told: Callable[..., str]) -> None:
    """A user who may start none is told so."""
    ended = subprocess.run(
        as_user(65_534, ["bash", "-c", 'ulimit -u 1; exec "$@"', "-", *command, *AUDIT]),
        cwd=workshop,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == ExitCode.CANNOT_RUN, ended.stderr
    assert "process" in told(ended)


@needs_root
@pytest.mark.parametrize("number", [4_242, pytest.param(65_534, marks=pytest.mark.slow)])
def test_e23_other_users(number: int, workshop: Path, command: list[str]) -> None:
    """As nobody, and as a number that no list of users has: a report of their own, in their folder."""
    place = workshop / "place"
    place.mkdir()
    os.chown(place, number, number)
    workshop.chmod(0o755)
    ended = subprocess.run(
        as_user(number, [*command, *AUDIT, "--quiet", "--json", "place/r.json", "--plots", "place/pictures"]),
        cwd=workshop,
        env={name: value for name, value in os.environ.items() if name not in {"HOME", "USER", "LOGNAME"}},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (ExitCode.PASSED, b"")
    assert (place / "r.json").stat().st_uid == number


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o000, 0o666), (0o022, 0o644)])
def test_e23_umask(mask: int, mode: int, tmp_path: Path) -> None:
    """The mode of a report is that of any new file, also where an old one had another."""
    report = tmp_path / "r.json"
    report.write_bytes(OLD_REPORT)
    report.chmod(0o640)
    before = os.umask(mask)
    try:
        write_file(os.fspath(report), b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(report.stat().st_mode) == mode


def test_e24_modules_that_lie_about(workshop: Path, clean: bytes) -> None:
    """No package is taken from the current folder, where python -m would look first."""
    for name in (
        "torch",
        "numpy",
        "typer",
        "rich",
        "msgspec",
        "skimage",
        "PIL",
        "sitecustomize",
        "usercustomize",
    ):
        (workshop / f"{name}.py").write_text(f"raise RuntimeError('{name} of the folder')")
    (workshop / "evil.pth").write_text("import sys; sys.exit(77)\n")
    shutil.make_archive(os.fspath(workshop / "eqaudit"), "zip", workshop, "torch.py")
    ended = subprocess.run(
        [sys.executable, "-m", "eqaudit", *TO_STDOUT],
        cwd=workshop,
        env=os.environ | {"PYTHONSTARTUP": os.fspath(workshop / "torch.py")},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (ExitCode.PASSED, clean, b"")


def test_every_row_has_a_test() -> None:
    """The list has rows E01 to E24; of some a part is missing, with its reason."""
    rows = {row for name in globals() if name.startswith("test_") for row in re.findall(r"_e(\d\d)", name)}
    assert rows == {f"{number:02}" for number in range(1, 25)}
    assert all(name[:3] in {f"E{row}" for row in rows} and reason for name, reason in NOT_MADE.items())
