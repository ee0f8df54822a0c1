"""The command in processes forked from one that has imported torch: to import it is most of a small audit.

A fork has what a command started anew has: a process, a folder, an environment and streams of its own. Only
variables that Python, glibc or OpenMP read when they start do nothing (see `read_late`).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, Self

READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "OMP_", "MKL_", "CUDA_")


def read_late(variables: Iterable[str]) -> bool:
    """Tell whether a process that runs already heeds all of these variables of the environment."""
    return not any(name.startswith(READ_AT_START) for name in variables)


class Forker:
    """A process with torch in memory that runs one command after the other, each in a fork of it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._lock = threading.Lock()
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
            )
        self._stream = self._channel.makefile("rw")

    def run(
        self,
        arguments: tuple[str, ...],
        cwd: Path,
        given: bytes,
        patience: float,
        variables: Mapping[str, str],
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command to its end, as `subprocess.run` does; after so many seconds it is killed.

        ``variables`` join the environment.
        """
        with self._lock, tempfile.TemporaryDirectory() as folder:
            streams = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
            streams[0].write_bytes(given)
            request = {
                "arguments": arguments,
                "cwd": str(cwd),
                "streams": [str(path) for path in streams],
                "variables": dict(variables),
            }
            self._stream.write(json.dumps(request) + "\n")
            self._stream.flush()
            process = int(self._stream.readline())
            timer = threading.Timer(patience, os.kill, (process, signal.SIGKILL))
            timer.start()
            code = int(self._stream.readline())
            timer.cancel()
            return subprocess.CompletedProcess(
                arguments, code, streams[1].read_bytes(), streams[2].read_bytes()
            )

    def end(self) -> None:
        """End the process."""
        self._stream.close()
        self._channel.close()
        self._process.kill()
        self._process.wait()


def _serve(connection: int) -> None:
    """Answer requests, each in a fork, until the other end is closed."""
    # What the command and the measuring process import.
    from eqaudit import cli, diagnosis, engine  # noqa: F401, PLC0415

    fork_measuring()
    # A fork copies what a collection touches.
    gc.freeze()
    with socket.socket(fileno=connection) as channel, channel.makefile("rw") as stream:
        for line in stream:
            process = os.fork()
            if not process:
                _command(**json.loads(line))
            stream.write(f"{process}\n")
            stream.flush()
            stream.write(f"{os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}\n")
            stream.flush()


def _command(arguments: list[str], cwd: str, streams: list[str], variables: dict[str, str]) -> NoReturn:
    from eqaudit.__main__ import main  # noqa: PLC0415

    os.environ |= variables
    os.chdir(cwd)
    for descriptor, path in enumerate(streams):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = ["eqaudit", *arguments]
    code = main()
    sys.stdout.flush()
    # The end of an interpreter with torch takes longer than some commands.
    os._exit(code)


def fork_measuring() -> None:
    """Let the command of this process fork its measuring process instead of starting an interpreter."""
    worker: Any = importlib.import_module("eqaudit.worker")
    worker.subprocess = SimpleNamespace(
        Popen=_Measuring,
        PIPE=subprocess.PIPE,
        STDOUT=subprocess.STDOUT,
        TimeoutExpired=subprocess.TimeoutExpired,
    )


class _Measuring:
    """What `eqaudit.worker` asks of a process that it starts: a fork has the modules already."""

    def __init__(self, command: Sequence[str], *, env: dict[str, str], **_options: Any) -> None:
        plan, self_plan = os.pipe()
        self_said, said = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _measure(command[-1], plan, said, env)
        os.close(plan)
        os.close(said)
        self.stdin, self.stdout = os.fdopen(self_plan, "wb", 0), os.fdopen(self_said, "rb", 0)
        self._code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code or -signal; raises TimeoutExpired."""
        if self._code is None:
            handle = os.pidfd_open(self.pid)
            ended = select.select([handle], [], [], timeout)[0]
            os.close(handle)
            if not ended:
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stdout.close()
        self.stdin.close()
        self.wait()


def _measure(events: str, plan: int, said: int, environment: dict[str, str]) -> NoReturn:
    try:
        os.setsid()
        for number, pipe in enumerate((plan, said, said)):
            os.dup2(pipe, number)
        os.closerange(3, int(events))
        os.closerange(int(events) + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        os.environ.clear()
        os.environ |= environment
        importlib.import_module("eqaudit.worker").main([events])
    except BaseException:  # noqa: BLE001 - as an interpreter ends
        traceback.print_exc()
    finally:
        os._exit(1)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
