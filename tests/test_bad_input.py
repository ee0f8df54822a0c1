"""Models and images that cannot be audited: one message, the code of the contract, nothing written.

Every case runs the real command. An old report stands where the new one would be written, and must
survive; nothing of what the models try to leave behind may appear.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eqaudit.cli.files import TEMPORARY_PREFIX
from eqaudit.errors import ExitCode

FIXTURES = Path(__file__).parents[1] / "fixtures" / "models"
SHAPE = ("--input-shape", "3,8,8", "--samples", "4")
STANDARD = os.fspath(FIXTURES / "standard_cnn.pt")
Ending = Callable[[], Any]
OLD_REPORT = b"an old report\n"

BAD_MODELS = '''
import ctypes
import os
import resource
import signal
import sys
import time

import torch
from torch import nn


def module(act):
    """Make a module that does something when it is called."""

    class Acting(nn.Module):
        def forward(self, x):
            return act(x)

    return Acting


def factory(act):
    """Make a factory that does something and returns no module."""
    return lambda: act()


def limit_memory():
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), used + (1 << 28)))


def eat():
    limit_memory()
    eaten = []
    while True:
        eaten.append(bytearray(1 << 24))


def write_junk():
    for descriptor in range(3, 30):
        try:
            os.write(descriptor, b"{junk}\\n")
        except OSError:
            pass
    return nn.Identity()


def close_everything():
    os.closerange(0, 100)
    time.sleep(3600)


def say_and_leave():
    print("a \\x1b[31mlast\\x1b[0m word", flush=True)
    os._exit(0)


def interrupt():
    raise KeyboardInterrupt


def recurse(x):
    return recurse(x)


raises = factory(lambda: {}["no such key"])
returns_none = factory(lambda: None)
exits = factory(lambda: sys.exit(0))
exits_hard = factory(say_and_leave)
interrupts = factory(interrupt)
never_returns = factory(lambda: time.sleep(3600))
RaisesWhenCalled = module(lambda x: x / {}["no such key"])
ExitsWhenCalled = module(lambda x: sys.exit(0))
ReadsNull = module(lambda x: ctypes.string_at(0))
Segfaults = module(lambda x: os.kill(os.getpid(), signal.SIGSEGV))
IsKilled = module(lambda x: os.kill(os.getpid(), signal.SIGKILL))
Recurses = module(recurse)
Eats = module(lambda x: eat())
Sleeps = module(lambda x: time.sleep(3600))
ReturnsText = module(lambda x: "text")
Good = module(lambda x: x.mean((2, 3)))
'''


@dataclass(frozen=True)
class Case:
    """What is given, and what the message says."""

    arguments: tuple[str, ...]
    says: tuple[str, ...]
    code: ExitCode = ExitCode.CANNOT_RUN


def from_python(name: str, *says: str, options: tuple[str, ...] = SHAPE) -> Case:
    """Audit something of the file of bad models."""
    return Case((f"bad.py:{name}", *options), says)


def from_file(name: str, *says: str) -> Case:
    """Audit a file, which the message names."""
    return Case((name,), (*says, name))


def from_data(name: str, *says: str) -> Case:
    """Audit a good model on bad images."""
    return Case(("bad.py:Good", "--data", name), says)


CASES = {
    "no such model": from_file("nowhere.pt", "no such model file"),
    "no such Python file": Case(("nowhere.py:make",), ("no such file: nowhere.py",)),
    "module not importable": Case(("no_such_package_of_anyone:make",), ("no_such_package_of_anyone",)),
    "attribute missing": from_python("Nothing", "has no Nothing"),
    "syntax error": Case(("wrong.py:make",), ("SyntaxError", "wrong.py")),
    "exits when imported": Case(("leaves.py:make",), ("leaves.py", "SystemExit")),
    "factory raises": from_python("raises", "KeyError", "no such key"),
    "factory returns None": from_python("returns_none", "returns NoneType", "torch.nn.Module"),
    "factory exits": from_python("exits", "SystemExit"),
    "factory exits hard": from_python("exits_hard", "exit code 0", "loading", r"a \x1b[31mlast\x1b[0m word"),
    "factory raises KeyboardInterrupt": from_python("interrupts", "KeyboardInterrupt"),
    "factory never returns": from_python("never_returns", "time is up", options=("--timeout", "5")),
    "model raises": from_python("RaisesWhenCalled", "KeyError", "no such key"),
    "model exits": from_python("ExitsWhenCalled", "SystemExit"),
    "model reads address 0": from_python("ReadsNull", "SIGSEGV"),
    "model segfaults": from_python("Segfaults", "SIGSEGV"),
    "model is killed": from_python("IsKilled", "SIGKILL", "memory"),
    "model recurses": from_python("Recurses", "RecursionError"),
    "model eats memory": from_python("Eats", "MemoryError"),
    "model sleeps": from_python("Sleeps", "time is up", options=(*SHAPE, "--timeout", "5")),
    "model returns text": from_python("ReturnsText", "output", "str"),
    "model writes where events are expected": from_python("write_junk", "no event"),
    "model closes everything": from_python("close_everything", "closed its pipe"),
    "size that the model refuses": Case((STANDARD, "--input-shape", "3,30,30"), ("refuses 3x30x30",)),
    "wrong channel count": Case((STANDARD, "--data", "five_channels.npy"), ("refuses 5x32x32", "3 channels")),
    "no square": Case(("bad.py:Good", "--data", "oblong.npy"), ("D4", "squares", "3x8x12", "--group D2")),
    "no such data": from_data("nowhere", "no such data"),
    "empty folder of images": from_data("empty_folder", "no image"),
    "folder without images": from_data("texts", "no image"),
    "no such device": Case(("bad.py:Good", "--device", "cuda:99"), ("cuda:99",)),
    "pattern that matches no layer": Case(
        (STANDARD, "--layers", "nothing*", "--input-shape", "3,32,32"),
        ("nothing*", "matches no layer"),
        ExitCode.USAGE,
    ),
    "no such output": Case(
        ("bad.py:Good", *SHAPE, "--output", "nothing"), ("--output 'nothing'", "output"), ExitCode.USAGE
    ),
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with every bad file."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "bad.py").write_text(BAD_MODELS)
    (folder / "wrong.py").write_text("def make(:\n")
    (folder / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    np.save(folder / "five_channels.npy", np.zeros((4, 5, 32, 32), np.float32))
    np.save(folder / "oblong.npy", np.zeros((4, 3, 8, 12), np.float32))
    (folder / "empty_folder").mkdir()
    (folder / "texts").mkdir()
    (folder / "texts" / "letter.txt").write_text("dear reader")
    return folder


@pytest.fixture(scope="module")
def endings(
    request: pytest.FixtureRequest,
    workshop: Path,
    eqaudit: Callable[..., Any],
    in_background: Callable[..., Ending],
) -> dict[str, Ending]:
    """Start the cases that are selected, two at a time; each writes over an old report of its own."""
    started = {}
    for name in selected_cases(request.session):
        report = report_of(workshop, name)
        report.write_bytes(OLD_REPORT)
        started[name] = in_background(
            eqaudit, "check", *CASES[name].arguments, "--json", os.fspath(report), cwd=workshop
        )
    return started


def selected_cases(session: pytest.Session) -> list[str]:
    """Return the names of the cases that are tested in this session."""
    parameters = [getattr(item, "callspec", None) for item in session.items]
    names = [found.params.get("name") for found in parameters if found is not None]
    return [name for name in CASES if name in names]


def report_of(folder: Path, name: str) -> Path:
    """Return where a case writes its report."""
    return folder / f"{name.replace(' ', '_')}.json"


@pytest.mark.parametrize("name", CASES)
def test_bad_input_ends_in_one_message_and_its_code(
    name: str, workshop: Path, endings: dict[str, Ending], told: Callable[..., str]
) -> None:
    """The message says what is wrong and what to do; the old report stays, byte for byte."""
    ended = endings[name]()
    message = told(ended)
    assert ended.returncode == CASES[name].code, message
    for words in CASES[name].says:
        assert words in message
    assert ended.stdout == b""
    assert report_of(workshop, name).read_bytes() == OLD_REPORT


@pytest.fixture(scope="module")
def aftermath(workshop: Path, endings: dict[str, Ending]) -> set[str]:
    """Wait for every case and return the names of what is left in the folder."""
    for ending in endings.values():
        ending()
    return {path.name for path in workshop.iterdir()}


def test_no_temporary_file_is_left(aftermath: set[str]) -> None:
    """No half-written report lies about."""
    assert "bad.py" in aftermath
    assert not [name for name in aftermath if name.startswith(TEMPORARY_PREFIX)]
