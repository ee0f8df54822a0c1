"""Something that the user names in Python code: imported here, with its errors made into ours."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from eqaudit.errors import EqauditError
from eqaudit.failures import explain
from eqaudit.plan import PythonObject

MESSAGE_LIMIT = 300


def one_line(exception: BaseException) -> str:
    """Say an exception in one line: its type and the first line of its message."""
    try:
        lines = str(exception).strip().splitlines()
    except Exception:  # noqa: BLE001 - the __str__ of foreign code can raise anything
        lines = []
    name = type(exception).__name__
    return f"{name}: {lines[0]}"[:MESSAGE_LIMIT] if lines else name


@contextmanager
def user_code(spec: PythonObject | str, error: type[EqauditError]) -> Iterator[None]:
    """Turn whatever the code of ``spec`` raises into one ``error``; KeyboardInterrupt passes."""
    try:
        yield
    except (Exception, SystemExit) as exception:
        folders = [Path.cwd()]
        if isinstance(spec, PythonObject) and spec.is_file:
            folders.insert(0, Path(spec.source).resolve().parent)
        cause, hint = explain(exception, folders) or (
            exception,
            "run that code by itself to see where it fails",
        )
        said = one_line(exception) + ("" if cause is exception else f" ({one_line(cause)})")
        raise error(f"in {spec}: {said}", hint) from exception


def import_object(spec: PythonObject, error: type[EqauditError]) -> Any:
    """Import the module that ``spec`` names and return the attribute, uncalled.

    The current folder (for a file, its own folder) is added at the *end* of ``sys.path``, so that
    nothing in it can stand in for an installed package. A file is run once in a process.

    Raises
    ------
    error
        The module does not exist, raises or exits while it is imported, or lacks the attribute.
    """
    with user_code(spec, error):
        module = _import_file(Path(spec.source)) if spec.is_file else _import_dotted(spec.source)
    try:
        with user_code(spec, error):
            return reduce(getattr, spec.attribute.split("."), module)
    except error as exception:
        if not isinstance(exception.__cause__, AttributeError):
            raise
        raise error(
            f"{spec.source} has no {spec.attribute}", "check the name after the colon"
        ) from exception.__cause__


def _import_dotted(name: str) -> ModuleType:
    _append_to_path(Path.cwd())
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    path = path.resolve(strict=True)
    # A private name: a file called numpy.py or json.py must not replace the real one.
    name = "_eqaudit_" + re.sub(r"\W", "_", str(path))
    if name in sys.modules:
        return sys.modules[name]
    _append_to_path(path.parent)
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise ImportError(f"{path.name} is no Python source file")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _append_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
