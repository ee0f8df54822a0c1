"""What reporters share: names and classes of layers put in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from eqaudit.groups import Group
from eqaudit.holding import full_name, turns_channels
from eqaudit.plan import AUTO
from eqaudit.report import HOLDING, ElementError, GateCheck, Layer, Outcome, Report
from eqaudit.reporters.escape import brief

SEVERITY = ("exact", "at the floor", "approximate", "unresolved", "degenerate", "broken")
NOT_PLAIN = "not plain"
Result = Literal["passed", "failed", "undecided", "could not run"]

Rows = Sequence[tuple[Layer, frozenset[str]]]
"""Layers, then outputs, each with the elements at which it is excused; see `layer_rows`."""


def layer_name(layer: Layer) -> str:
    """Return the name of a layer; later calls of the same module are numbered: ``conv1#1``.

    What is too long for any table is cut in the middle.
    """
    return brief(full_name(layer))


def is_judged(report: Report) -> bool:
    """Return whether a failed gate fails the command; ``--no-gate`` asks for numbers only."""
    return report.gate is None or report.gate.judged


def check_result(check: GateCheck) -> Result:
    """Return how one limit ended."""
    return "passed" if check.passed else "undecided" if check.undecided else "failed"


def outcome_result(outcome: Outcome) -> Result:
    """Return how one check ended: undecided where no limit failed for certain."""
    if outcome.report is None:
        return "could not run"
    results = {check_result(check) for check in gate_checks(outcome.report)} - {"passed"}
    return "failed" if "failed" in results else "undecided" if results else "passed"


def gate_checks(report: Report) -> list[GateCheck]:
    """Return every limit that was compared; none where nothing was judged."""
    return report.gate.checks if report.gate is not None else []


def describe_asked(report: Report) -> str:
    """Return the group that was asked for; in words where ``auto`` tried several."""
    return "every group tried" if report.group.name == AUTO else report.group.name


def describe_measured(report: Report) -> list[str]:
    """Say, in one line or none, that errors are not those of plain maps."""
    layers = [*report.layers, *report.outputs]
    turning = sum(turns_channels(layer) for layer in layers)
    return (
        [f"channels of {turning} of {len(layers)} rows turn: errors are under their action"]
        if turning
        else []
    )


def worst_error(layer: Layer) -> ElementError | None:
    """Return the element at which the layer fails most; None when nothing was measured."""
    return max(
        layer.errors, key=lambda error: (SEVERITY.index(error.class_), error.error or 0.0), default=None
    )


def layer_rows(report: Report) -> Rows:
    """Return every layer and output, in order of execution, for `shown_class`.

    Beside a layer are the elements at which something later holds, less those at which the layer's own
    action was found: an error under that is the layer's own.
    """
    layers = zip(report.layers, later_exact(report), strict=True)
    rows = [(layer, later - _acted_on(layer)) for layer, later in layers]
    return [*rows, *((output, frozenset[str]()) for output in report.outputs)]


def _acted_on(layer: Layer) -> frozenset[str]:
    found = layer.representation
    if found is None or not turns_channels(layer):
        return frozenset()
    if found.group.startswith("{"):
        return frozenset(found.group.strip("{}").split(", "))
    return frozenset(str(element) for element in Group.named(found.group).elements)


def later_exact(report: Report) -> list[frozenset[str]]:
    """Return, for each layer, the elements at which some later layer or the output holds."""
    held: frozenset[str] = frozenset()
    for output in report.outputs:
        held |= _holding(output)
    found: list[frozenset[str]] = []
    for layer in reversed(report.layers):
        found.append(held)
        held |= _holding(layer)
    return found[::-1]


def shown_class(error: ElementError, later: frozenset[str]) -> str:
    """Return the class to show: *not plain* for a layer that fails before one that holds.

    Its channels turn in a way that was not found, so that read as plain maps they seem to break.
    """
    failed = error.class_ in {"broken", "approximate"}
    return NOT_PLAIN if failed and error.element in later else error.class_


def first_breaking_layer(report: Report) -> Layer | None:
    """Return the first layer that fails at an element and after which nothing holds at it."""
    for layer, later in zip(report.layers, later_exact(report), strict=True):
        if any(shown_class(error, later) in {"broken", "approximate"} for error in layer.errors):
            return layer
    return None


def _holding(layer: Layer) -> frozenset[str]:
    return frozenset(error.element for error in layer.errors if error.class_ in HOLDING)
