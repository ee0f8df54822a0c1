"""Audits of the networks of studies, on a few built-in photographs."""

from pathlib import Path

from torch import nn

import eqaudit
from eqaudit.report import Layer, Report

STUDIES = Path(__file__).parents[1] / "fixtures" / "studies"
FEW = 8


def parameters(model: nn.Module) -> int:
    """Return how many numbers a model learns."""
    return sum(parameter.numel() for parameter in model.parameters())


def audited(model: nn.Module, group: str, shape: tuple[int, int, int]) -> Report:
    """Return the audit on a few built-in photographs."""
    return eqaudit.audit(model, group=group, samples=FEW, input_shape=shape)


def holds(report: Report) -> str:
    """Return the largest group that holds."""
    assert report.verdict is not None
    return report.verdict.holds


def layer_of(report: Report, name: str) -> Layer:
    """Return a layer by name."""
    return next(layer for layer in report.layers if layer.name == name)
