"""All rules, one file each: every module of this folder has a ``RULE``."""

from importlib import import_module
from pkgutil import iter_modules

from eqaudit.diagnosis.base import Rule

RULES: tuple[Rule, ...] = tuple(
    import_module(f"{__name__}.{module.name}").RULE for module in iter_modules(__path__)
)
