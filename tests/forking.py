"""The command in processes forked from one that has imported torch: to import it is most of a small audit.

A fork has what a command started anew has: a process, a folder, an environment and streams of its own. Only
variables that Python, glibc or OpenMP read when they start do nothing.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Self

FIRST_FREE = 3  # descriptor after those of the standard streams
POLL_SECONDS = 0.02


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
        self, arguments: tuple[str, ...], cwd: Path, given: bytes, patience: float
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command to its end, as `subprocess.run` does; after so many seconds it is killed."""
        with self._lock, tempfile.TemporaryDirectory() as folder:
            streams = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
            streams[0].write_bytes(given)
            request = {"arguments": arguments, "cwd": str(cwd), "streams": [str(path) for path in streams]}
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
    from eqaudit import cli, diagnosis, engine, worker  # noqa: F401, PLC0415

    worker.subprocess = _Subprocess  # type: ignore[attr-defined, assignment]
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


def _command(arguments: list[str], cwd: str, streams: list[str]) -> None:
    from eqaudit.__main__ import main  # noqa: PLC0415

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


class _Forked:
    """The measuring process as a fork: what `eqaudit.worker` uses of `subprocess.Popen`."""

    def __init__(
        self, _command: list[str], *, pass_fds: tuple[int], env: dict[str, str], **_streams: Any
    ) -> None:
        given, self._given = os.pipe()
        self._printed, printed = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            _measure(given, printed, pass_fds[0], env)
        os.close(given)
        os.close(printed)
        self.stdin, self.stdout = open(self._given, "wb", buffering=0), open(self._printed, "rb", buffering=0)  # noqa: PTH123, SIM115
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return how the process ended."""
        start = time.monotonic()
        while self.returncode is None:
            ended, status = os.waitpid(self.pid, 0 if timeout is None else os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif timeout is not None and time.monotonic() > start + timeout:
                raise subprocess.TimeoutExpired("the measuring process", timeout)
            else:
                time.sleep(POLL_SECONDS)
        return self.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdin.close()
        self.stdout.close()
        self.wait()


def _measure(given: int, printed: int, events: int, environment: dict[str, str]) -> None:
    from eqaudit import worker  # noqa: PLC0415

    try:
        os.setsid()
        for old, new in ((given, 0), (printed, 1), (printed, 2)):
            os.dup2(old, new)
        os.closerange(FIRST_FREE, events)
        os.closerange(events + 1, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(environment)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        worker.main([str(events)])
    except BaseException:  # noqa: BLE001 - nothing of the command may run in this process
        traceback.print_exc()
    os._exit(1)


class _Subprocess:
    """What `eqaudit.worker` uses of the module."""

    PIPE, STDOUT = subprocess.PIPE, subprocess.STDOUT
    TimeoutExpired, Popen = subprocess.TimeoutExpired, _Forked


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
