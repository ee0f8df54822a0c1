"""Audit vision models for equivariance to rotations and reflections.

>>> import eqaudit
>>> report = eqaudit.audit("fixtures/models/exact_c4.pt", group="C4", samples=16, input_shape=(3, 32, 32))
>>> report.verdict.holds
'C4'
"""

from typing import TYPE_CHECKING, Any

from eqaudit.version import __version__

if TYPE_CHECKING:
    from eqaudit.api import assert_equivariant, audit, compare
    from eqaudit.comparison import Comparison
    from eqaudit.errors import EqauditError
    from eqaudit.report import Report

__all__ = ["Comparison", "EqauditError", "Report", "__version__", "assert_equivariant", "audit", "compare"]

_HOMES = {
    "assert_equivariant": "eqaudit.api",
    "audit": "eqaudit.api",
    "compare": "eqaudit.api",
    "Comparison": "eqaudit.comparison",
    "EqauditError": "eqaudit.errors",
    "Report": "eqaudit.report",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import eqaudit` itself loads nothing heavy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'eqaudit' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - lazy, as all of this is

    return getattr(import_module(_HOMES[name]), name)
