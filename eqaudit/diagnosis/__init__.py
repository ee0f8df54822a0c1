"""Where and why equivariance breaks: local errors, causes proven by experiment, what repairs do."""

from eqaudit.diagnosis.explain import explain

__all__ = ["explain"]
