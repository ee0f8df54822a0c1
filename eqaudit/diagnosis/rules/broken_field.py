"""`broken-field`: an operation that does not treat all channels of one field alike."""

from collections.abc import Iterator

import torch

from eqaudit.diagnosis.base import (
    JOINS,
    Rule,
    Scene,
    Suspect,
    asymmetry,
    constants_of,
    is_uniform,
    over_channels,
)
from eqaudit.diagnosis.steps import Step
from eqaudit.loader import Operation
from eqaudit.representations import Orthogonal

PER_CHANNEL = JOINS | {
    "batch_norm",
    "native_batch_norm",
    "instance_norm",
    "group_norm",
    "layer_norm",
    "prelu",
}
POINTWISE = frozenset({"relu", "leaky_relu", "gelu", "silu", "elu", "sigmoid", "tanh", "hardswish", "relu6"})


def find(scene: Scene) -> Iterator[Suspect]:
    """Look for weights of single channels, and for nonlinearities where channels mix."""
    for step in scene.network.breaking:
        action = None if step.action is None else step.action.at(scene.element, 0)
        if action is None:
            continue
        for operation in step.operations:
            if operation.name in POINTWISE and isinstance(action, Orthogonal):
                yield Suspect(f"{operation.name} acts on single channels, which turns mix", step)
            if operation.name in PER_CHANNEL:
                errors = [
                    _asymmetry(constant, operation, step, scene) for constant in constants_of(operation)
                ]
                largest = max(errors, default=0.0)
                if largest > scene.network.limit:
                    differ = f"differ by {largest:.2g} between channels of one field"
                    yield Suspect(f"{operation.name}: its weights {differ}", step)
                else:
                    evidence = f"{operation.name}: channels that turn into each other are not treated alike"
                    yield Suspect(evidence, step, likely=True)


def _asymmetry(constant: torch.Tensor, operation: Operation, step: Step, scene: Scene) -> float:
    """Return how much numbers of single channels differ within fields; 0 of what is no such number."""
    joined = operation.name in JOINS
    spread = constant if joined else over_channels(constant, step)
    error = None if spread is None else asymmetry(spread, step, scene.setting, scene.element)
    varies = joined and error is not None and step.layout.spatial and not is_uniform(constant, step)
    return 0.0 if error is None or varies else error


RULE = Rule(
    "broken-field", "share the weights of such an operation within each field, as group layers do", find
)
