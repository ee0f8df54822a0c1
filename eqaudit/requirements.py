"""The packages that must be installed, and what to tell when one is missing, too old or broken."""

from __future__ import annotations

import re
import sys
from typing import Final

from eqaudit.errors import EqauditError

PACKAGES: Final = {
    "torch": "torch>=2.10",
    "typer": "typer>=0.15",
    "rich": "rich>=13.7",
    "numpy": "numpy>=1.26",
    "scipy": "scipy>=1.11",
    "matplotlib": "matplotlib>=3.8",
    "skimage": "scikit-image>=0.22",
    "PIL": "pillow>=10.3",
    "tifffile": "tifffile>=2024.1",
    "msgspec": "msgspec>=0.19",
}
"""What to install, by the name that is imported."""


def require_version(name: str, version: str) -> None:
    """Raise EqauditError when a package is older than what is required, by its two leading numbers."""
    required = PACKAGES[name]
    if _leading(version) < _leading(required.partition(">=")[2]):
        raise EqauditError(f"{name} {version} is too old: eqaudit needs {required}", _install(required))


def import_failure(error: Exception) -> EqauditError:
    """Return what to tell when a package, or what it needs itself, cannot be imported."""
    name = (getattr(error, "name", None) or "").partition(".")[0]
    said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    if name in PACKAGES:
        return EqauditError(f"{name} is missing, too old or broken: {said}", _install(PACKAGES[name]))
    return EqauditError(
        f"a package that eqaudit needs cannot be imported: {said}",
        "see whether Python can: python -c 'import torch, numpy, scipy, skimage, matplotlib'",
    )


def _install(required: str) -> str:
    return f"{sys.executable} -m pip install '{required}'"


def _leading(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", version)[:2])
