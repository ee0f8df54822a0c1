"""The measuring engine: a plan in, a report out."""

from eqaudit.engine.audit import Explain, Run, audit, check, choose_device, list_layers
from eqaudit.engine.timing import time_loaded, time_models

__all__ = ["Explain", "Run", "audit", "check", "choose_device", "list_layers", "time_loaded", "time_models"]
