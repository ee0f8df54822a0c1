"""What must be true of every end, whatever the input was."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

from eqaudit.cli.files import TEMPORARY_PREFIX
from eqaudit.errors import ExitCode

from . import special
from .bases import OLD
from .cases import Case
from .warm import Ended

CODES = {int(code) for code in ExitCode} - {int(ExitCode.INTERNAL)}
MEASURED = {0, 1, 5}
REFUSED = {2, 3}
SECONDS = 10.0
MEMORY = 1536 << 20
REPORT = "out/r.json"


def broken(case: Case, ended: Ended, clean: Ended | None, folder: Path) -> list[str]:
    """Return what is wrong with an end; ``clean`` is that of the whole input, where one is to be compared."""
    return [*_end(ended), *_said(case, ended), *_kept(case, ended, clean), *_files(case, ended, folder)]


def _end(ended: Ended) -> list[str]:
    found = {
        f"exit code {ended.code}": ended.code not in CODES,
        f"{ended.seconds:.1f} s": ended.seconds > SECONDS,
        f"{ended.memory >> 20} MiB": ended.memory > MEMORY,
        f"{ended.left} processes left": bool(ended.left),
    }
    return [what for what, is_so in found.items() if is_so]


def _said(case: Case, ended: Ended) -> list[str]:
    """Judge what was written for people and programs."""
    found = []
    streams = {"stdout": ended.stdout, "stderr": ended.stderr}
    for name, content in streams.items():
        try:
            lines = content.decode().split("\n")
        except UnicodeDecodeError:
            found.append(f"{name} is no UTF-8")
            continue
        found += [f"{name} holds {line[:99]!r}" for line in lines if not line.isprintable()]
        found += [f"{name} holds a traceback"] * ("Traceback (most recent call last):" in lines)
    errors = sum(line.startswith(b"error: ") for line in ended.stderr.splitlines())
    configured = case.base.configured and ended.code in REFUSED and bool(ended.stdout) and not errors
    if errors != (ended.code in REFUSED) and not configured:
        found.append(f"{errors} error lines with exit code {ended.code}")
    # `init` writes its options down for later.
    if case.arguments[-2:] == ("--json", "-") and "init" not in case.arguments:
        found += _json(ended.stdout, ended.code in MEASURED)
    return found


def _json(content: bytes, expected: bool) -> list[str]:
    if bool(content) != expected:
        return ["there is no report" if expected else "there is a report of nothing"]
    try:
        json.loads(content or b"null", parse_constant=_refuse)
    except ValueError as error:
        return [f"the report is no JSON: {error}"]
    return []


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _kept(case: Case, ended: Ended, clean: Ended | None) -> list[str]:
    """Judge whether damage passed for content."""
    if clean is None or ended.code not in MEASURED:
        return []
    was = ended.stdout
    for name, content in case.files.items():
        old = case.base.files.get(name, content)
        was = was.replace(_digest(content), _digest(old))
    return [] if was == clean.stdout else ["a damaged file gave another report than the whole one"]


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _files(case: Case, ended: Ended, folder: Path) -> list[str]:
    """Judge what lies in the folders of the command."""
    beside = [path for name in ("home", "tmp") for path in (folder / name).iterdir()]
    lying = lying_in(folder)
    expected = {name: special.seen(content) for name, content in (case.files | {REPORT: OLD}).items()}
    found = [f"{path} is left" for path in beside]
    found += [f"{name!r} is gone" for name in expected.keys() - lying.keys()]
    written = ended.code in MEASURED or "--report" in case.arguments or case.base.configured
    asked = [name for word in case.arguments for name in (word, word.partition("=")[2])]
    words = {name.partition("/")[0] for name in asked}
    words |= {"eqaudit.toml"} if "init" in case.arguments else set()
    for name, content in lying.items():
        named = name not in expected and (case.base.configured or name.partition("/")[0] in words)
        inside = named or name.startswith("out/") or name in case.base.writes
        if name.rpartition("/")[2].startswith(TEMPORARY_PREFIX):
            found.append(f"a temporary file is left: {name!r}")
        elif content != expected.get(name) and not (inside and written):
            found.append(f"{name!r} was {'changed' if name in expected else 'written'}")
        elif name == REPORT and content != OLD and ("--json", REPORT) in pairwise(case.arguments):
            found += _json(content, expected=True)
        elif name == REPORT and case.arguments[-2:] == ("--json", REPORT) and ended.code in MEASURED:
            found.append("the report is lost")
    return found


def lying_in(folder: Path) -> dict[str, bytes]:
    """Return what lies in the folder that a command ran in, by name, but for bytecode of Python's."""
    work = folder / "work"
    files = [path for path in work.rglob("*") if not path.is_dir() and path.parent.name != "__pycache__"]
    return {path.relative_to(work).as_posix(): special.lies(path) for path in files}
