"""Matplotlib as it comes: its settings and its cache are neither taken from around us nor left there."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from eqaudit.errors import UsageError


def load_matplotlib() -> None:
    """Import what draws, before anything is measured: it may be missing.

    A ``matplotlibrc`` of the current folder, or of the user, would change the pictures or stop the import.

    Raises
    ------
    ImportError
        Matplotlib is missing or broken.
    UsageError
        There is no temporary folder.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="eqaudit-") as folder, _settings_in(folder):
            import_module("eqaudit.reporters.figures")
    except OSError as error:
        raise UsageError(
            f"pictures need a temporary folder: {error.strerror}", "name one with TMPDIR=FOLDER"
        ) from error


@contextlib.contextmanager
def _settings_in(folder: str) -> Iterator[None]:
    # Where many fonts are installed it takes long to list them; a list that is there already is taken.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expandvars("$HOME/.cache")) / "matplotlib"
    for fonts in cache.glob("fontlist-*.json"):
        shutil.copy(fonts, folder)
    before = {name: os.environ.pop(name, None) for name in ("MPLCONFIGDIR", "MATPLOTLIBRC")}
    os.environ["MPLCONFIGDIR"] = folder
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        del os.environ["MPLCONFIGDIR"]
        os.environ.update({name: value for name, value in before.items() if value is not None})
