"""The real command in forks of one process that has imported everything: 0.1 s where a new one takes 5.

Only how processes start is another: the command runs `eqaudit.cli.main`, and where it would start an
interpreter on `eqaudit.worker` it gets a fork that runs `eqaudit.worker.main`, in a session of its own,
behind the same pipes and with the same environment. `run` can take the way of a user as well, for comparison.
"""

import contextlib
import ctypes
import importlib
import io
import os
import pkgutil
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import typer
from forking import fork_measuring

from eqaudit import allocator
from eqaudit.worker import SAFE_LOADING

PATIENCE = 60.0
"""Seconds after which a command is ended; what counts is the time that it computes."""
GRACE = 2.0
"""Seconds in which whatever a command started must be gone after it."""
ADDRESSES = 4 << 30
"""Bytes that a command may ask for beside those of the warm process: nothing harms the machine."""
LARGEST_FILE = 64 << 20
PR_SET_CHILD_SUBREAPER = 36
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONPATH": str(Path(__file__).parents[2]),
    **allocator.ENVIRONMENT,
    **SAFE_LOADING,
}
"""Set before torch is imported; files of models are written in the order of sets, and new processes must run
the same source."""
COLD = [
    sys.executable,
    "-P",
    "-c",
    "import sys; sys.argv[0] = 'eqaudit'; import eqaudit.cli as c; sys.exit(c.main())",
]
"""What the script does that the package installs."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: exit code or -signal, output, seconds of computing, peak bytes, who was left."""

    code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    memory: int
    left: int


def warm_up() -> None:
    """Import all that commands import, so that forks need not."""
    package = importlib.import_module("eqaudit")
    for module in pkgutil.walk_packages(package.__path__, "eqaudit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("PIL.PngImagePlugin", "PIL.JpegImagePlugin", "tifffile", "skimage.data", "torch.export"):
        importlib.import_module(name)
    _build_options()


def _build_options() -> None:
    """Make the commands and their options once: typer makes them for every call, which takes 0.07 s."""
    cli: Any = importlib.import_module("eqaudit.cli")
    cli.app = typer.main.get_command(cli.app)
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")):
        for command in cli.app.commands:
            cli.main([command, "--help"])


def adopt_orphans() -> None:
    """Make this process the parent of what its descendants leave behind, so that it is noticed."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(arguments: Sequence[str], place: Path, *, cold: bool = False) -> Ended:
    """Run a command in ``place/work``, with home and temporary files beside it."""
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        raise RuntimeError(f"{threads} threads: a fork would be no whole process")
    start = time.monotonic()
    process = os.fork()
    if process == 0:
        _be_command(arguments, place, cold)
    handle = os.pidfd_open(process)
    overdue = not select.select([handle], [], [], PATIENCE)[0]
    os.close(handle)
    if overdue:
        os.kill(process, signal.SIGKILL)
    _, status, usage = os.wait4(process, 0)
    seconds = time.monotonic() - start if overdue else usage.ru_utime + usage.ru_stime
    return Ended(
        os.waitstatus_to_exitcode(status),
        (place / "stdout").read_bytes(),
        (place / "stderr").read_bytes(),
        seconds,
        usage.ru_maxrss << 10,
        _end_orphans(),
    )


def _end_orphans() -> int:
    """Wait for orphans to end; end those that do not, and return their number."""
    deadline = time.monotonic() + GRACE
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.005)
        left = [int(one) for one in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
        for process in left:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        return len(left)
    return 0


def _be_command(arguments: Sequence[str], place: Path, cold: bool) -> NoReturn:
    code = 1
    try:
        os.chdir(place / "work")
        for number, name, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, place / "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, place / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            os.dup2(os.open(name, flags), number)
        own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (own + ADDRESSES, own + ADDRESSES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
        os.environ |= {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp")}
        if cold:
            os.execv(COLD[0], [*COLD, *arguments])  # noqa: S606 - our own module
        code = _run_warm(arguments)
    except BaseException:  # noqa: BLE001 - as an interpreter ends
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run_warm(arguments: Sequence[str]) -> int:
    sys.argv, sys.modules["__main__"] = ["eqaudit", *arguments], ModuleType("__main__")
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - a descriptor, for the whole process
    sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
    tempfile.tempdir = None
    fork_measuring()
    code: int = importlib.import_module("eqaudit.cli").main(list(arguments))
    return code
