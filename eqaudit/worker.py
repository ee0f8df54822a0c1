"""The measuring stack in a child process: a plan in, progress and a report out.

The parent imports no torch. A model that crashes, loops, exits, prints or eats memory does so in the
child, whose standard streams are a pipe; events come back as lines of JSON on a pipe of their own, and
whatever else stands there is an error of the model.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import os
import pickle
import select
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import IO, assert_never, cast

import msgspec

from eqaudit import allocator
from eqaudit.comparison import Timings
from eqaudit.errors import EqauditError, ExitCode, WorkerError, is_out_of_memory
from eqaudit.job import current_job
from eqaudit.plan import AuditPlan, LayersPlan, Plan, TimingPlan
from eqaudit.report import Audited, Listing, encode
from eqaudit.requirements import import_failure, require_version

CHUNK = 1 << 16
KEPT_OUTPUT = 1 << 20
GRACE_SECONDS = 2.0
STARTING = "starting"
STOPPED_SECONDS = 10.0
"""How long the command of a rank may be stopped (SIGSTOP) before the job counts it as lost."""

# Hooks triple the frames of a call, and what runs without them must run with them.
RECURSION_LIMIT = 5_000
SAFE_LOADING = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How many of how many image poses a stage has done; ``total`` 0 when it cannot be counted."""

    stage: str
    done: int
    total: int


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The result, which is sent as it is and received as JSON."""

    result: msgspec.Raw


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The audit cannot be done; ``traceback`` is empty but for errors of ours."""

    message: str
    hint: str
    exit_code: ExitCode
    traceback: str = ""


Event = Progress | Finished | Failed
OnProgress = Callable[[Progress], None]
OnOutput = Callable[[str], None]


class InternalError(Exception):
    """A bug of ours in the measuring process; the text is its traceback."""


def run_audit(
    plan: AuditPlan, timeout: float, on_progress: OnProgress, on_output: OnOutput
) -> Audited | None:
    """Run an audit in a child process; None where another rank of a torchrun job has the report.

    Parameters
    ----------
    plan
        What is asked.
    timeout
        Seconds after which the child is ended; 0 for no limit.
    on_progress
        Called with each progress event.
    on_output
        Called with what the model printed, undecoded bytes replaced, not escaped.

    Raises
    ------
    EqauditError
        The child reported one, died, or ran out of time.
    InternalError
        The child met a bug of ours.
    """
    return msgspec.json.decode(_run(plan, timeout, on_progress, on_output), type=Audited | None)


def run_layers(plan: LayersPlan, timeout: float, on_progress: OnProgress, on_output: OnOutput) -> Listing:
    """List the layers of a model in a child process; parameters and errors as in `run_audit`."""
    return msgspec.json.decode(_run(plan, timeout, on_progress, on_output), type=Listing)


def run_timing(plan: TimingPlan, timeout: float, on_progress: OnProgress, on_output: OnOutput) -> Timings:
    """Time several models in one child process, in turn; parameters and errors as in `run_audit`."""
    return msgspec.json.decode(_run(plan, timeout, on_progress, on_output), type=Timings)


def _run(plan: Plan, timeout: float, on_progress: OnProgress, on_output: OnOutput) -> bytes:
    with _child(plan) as child:
        return _Conversation(child, timeout, on_progress, on_output).result()


@dataclass(frozen=True, slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    events: IO[bytes]


@contextlib.contextmanager
def _child(plan: Plan) -> Iterator[_Child]:
    """Start the child with the plan on its standard input, which stays open as a sign that we live."""
    read_end, write_end = os.pipe()
    threads = plan.run.threads
    environment = os.environ | allocator.ENVIRONMENT | SAFE_LOADING
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with open(read_end, "rb") as events:  # noqa: PTH123 - a descriptor, not a path
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module, by this interpreter
                [sys.executable, "-P", "-m", "eqaudit.worker", str(write_end)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(write_end,),
                start_new_session=True,
                env=environment,
                bufsize=0,
            )
        except OSError as error:
            raise WorkerError(
                f"the measuring process cannot be started: {error.strerror}",
                "are there too many processes, or too many open files?",
            ) from error
        finally:
            os.close(write_end)
        with process:
            try:
                _send(process, plan)
                yield _Child(process, events)
            finally:
                _end(process)


def _send(process: subprocess.Popen[bytes], plan: Plan) -> None:
    # JSON cannot hold a file name that is no UTF-8, nor the tuples and bytes that --arg takes.
    # A child that died already says why on its other pipes.
    with contextlib.suppress(BrokenPipeError):
        if process.stdin is not None:
            process.stdin.write(pickle.dumps(plan))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(slots=True)
class _Conversation:
    """Reads events and output until the child is done, the time is up, or it dies."""

    child: _Child
    timeout: float
    on_progress: OnProgress
    on_output: OnOutput
    stage: str = STARTING
    tail: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT_OUTPUT // CHUNK))
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )
    _buffer: bytes = b""
    _answer: bytes | None = None

    def result(self) -> bytes:
        """Return the encoded result of the child."""
        deadline = time.monotonic() + self.timeout if self.timeout else None
        with selectors.DefaultSelector() as selector:
            for pipe in (self.child.events, self.child.process.stdout):
                if pipe is not None:
                    os.set_blocking(pipe.fileno(), False)
                    selector.register(pipe, selectors.EVENT_READ)
            while self._answer is None and selector.get_map():
                self._step(selector, deadline)
        if self._answer is None:
            raise self._death()
        return self._answer

    def _step(self, selector: selectors.BaseSelector, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise WorkerError(
                f"no result after {self.timeout:g} s, while {self.stage}: the time is up",
                "allow more with --timeout SECONDS, or measure fewer images with --samples",
            )
        for ready, _ in selector.select(left):
            chunk = os.read(ready.fd, CHUNK)
            if not chunk:
                selector.unregister(ready.fileobj)
                if ready.fileobj is self.child.events:
                    self._stop_listening(selector)
                    return
            elif ready.fileobj is self.child.events:
                self._read_events(chunk)
            else:
                self.tail.append(chunk)
                self.on_output(self._decoder.decode(chunk))

    def _stop_listening(self, selector: selectors.BaseSelector) -> None:
        # Without events there is nothing to wait for: a grandchild may hold the output pipe open for ever.
        for ready in list(selector.get_map().values()):
            selector.unregister(ready.fileobj)

    def _read_events(self, chunk: bytes) -> None:
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            match _decode(line):
                case Progress() as progress:
                    self.stage = progress.stage
                    self.on_progress(progress)
                case Finished(result):
                    self._answer = bytes(result)
                case Failed(message, hint, code, trace):
                    if code == ExitCode.INTERNAL:
                        raise InternalError(trace)
                    raise _rebuild(message, hint, code)
                case unreachable:
                    assert_never(unreachable)

    def _death(self) -> EqauditError:
        try:
            code = self.child.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return WorkerError(f"the measuring process closed its pipe while {self.stage}", _BLAME)
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            memory = "; was the memory used up?" if -code == signal.SIGKILL else ""
            return WorkerError(
                f"the measuring process was ended by {name} while {self.stage}{memory}", _BLAME
            )
        if self.stage == STARTING:
            return WorkerError(
                f"the measuring process cannot start and ended with exit code {code}{self._last_words()}",
                "see whether Python can import torch here, and has the memory and threads for it",
            )
        return WorkerError(
            f"the model ended its process with exit code {code} while {self.stage}{self._last_words()}",
            _BLAME,
        )

    def _last_words(self) -> str:
        lines = b"".join(self.tail).decode("utf-8", "replace").strip().splitlines()
        return f"; it last printed: {lines[-1][:200]}" if lines else ""


_BLAME = "the model's own code did this: run it alone, or with --verbose to see what it prints"


def _decode(line: bytes) -> Event:
    try:
        event: Event = msgspec.json.decode(line, type=Event)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WorkerError("the measuring process sent what is no event", _BLAME) from error
    return event


def _rebuild(message: str, hint: str, code: ExitCode) -> EqauditError:
    error = EqauditError(message, hint)
    error.exit_code = code
    return error


def main(arguments: list[str]) -> None:
    """Run one plan: the entry of the child process."""
    events = open(int(arguments[0]), "wb", buffering=0)  # noqa: PTH123, SIM115 - lives as long as the process
    os.set_inheritable(events.fileno(), False)
    plan: Plan = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by our parent, see _send
    threading.Thread(target=_die_with_parent, args=[_take_standard_input()], daemon=True).start()

    sys.setrecursionlimit(RECURSION_LIMIT)

    def send(event: bytes) -> None:
        for part in (event, b"\n"):
            rest = memoryview(part)
            while rest:
                rest = rest[events.write(rest) :]

    send(_measure(plan, lambda stage, done, total: send(encode(Progress(stage, done, total)))))
    sys.stdout.flush()
    # The model may have left threads or exit handlers behind; nothing of theirs is wanted.
    os._exit(0)


def _measure(plan: Plan, progress: Callable[[str, int, int], None]) -> bytes:
    """Return the last event as JSON, of which there is one copy: a report may be large."""
    try:
        diagnosis, engine = _import_measuring()
        result: msgspec.Struct | None
        match plan:
            case AuditPlan():
                result = engine.check(plan, progress, diagnosis.explain if plan.diagnose else None)
            case LayersPlan():
                result = engine.list_layers(plan, progress)
            case TimingPlan():
                result = engine.time_models(plan, progress)
            case unreachable:
                assert_never(unreachable)
        return encode(Finished(cast("msgspec.Raw", result)))
    except EqauditError as error:
        failed = Failed(error.message, error.hint, error.exit_code)
    except (KeyboardInterrupt, SystemExit) as error:
        # Ctrl-C does not reach this process: the model's code raised it.
        failed = Failed(f"the model raises {type(error).__name__}", _BLAME, ExitCode.CANNOT_RUN)
    except Exception as error:  # noqa: BLE001 - a bug of ours is reported as such, with its traceback
        if isinstance(error, MemoryError) or is_out_of_memory(str(error)):
            failed = Failed("not enough memory", "use a smaller --batch-size", ExitCode.CANNOT_RUN)
        else:
            failed = Failed("internal error", "", ExitCode.INTERNAL, traceback.format_exc())
    return encode(failed)


def _import_measuring() -> tuple[ModuleType, ModuleType]:
    """Import torch, here alone, and all that measures; what fails in other packages is no bug of ours."""
    # Nearly all of what is imported stays: to look for garbage in it takes a tenth of the time.
    gc.disable()
    try:
        import torch  # noqa: PLC0415

        require_version("torch", torch.__version__)
        from eqaudit import diagnosis, engine  # noqa: PLC0415
    except (EqauditError, MemoryError):
        raise
    except Exception as error:
        if is_out_of_memory(str(error)):
            raise
        raise import_failure(error) from error
    finally:
        gc.freeze()
        gc.enable()
    return diagnosis, engine


def _take_standard_input() -> int:
    """Leave the model an empty standard input; return the parent's pipe."""
    parent = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return parent


def _die_with_parent(parent: int) -> None:
    """End this process when the command ends, and both when the command of a torchrun job stands still."""
    command, running = os.getppid(), time.monotonic()
    alone = current_job().size == 1
    while not select.select([parent], [], [], None if alone else 1.0)[0]:
        if not _is_stopped(command):
            running = time.monotonic()
        elif time.monotonic() - running > STOPPED_SECONDS:
            os.kill(command, signal.SIGKILL)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _is_stopped(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        # Gone, or a system without /proc.
        return False


if __name__ == "__main__":
    main(sys.argv[1:])
