"""`kernel`: a convolution or linear layer of fitting geometry that still breaks has weights that do."""

from collections.abc import Iterator

import torch

from eqaudit.diagnosis.base import MAP_RANK, Rule, Scene, Suspect, flattened, window_of
from eqaudit.diagnosis.network import relative_error
from eqaudit.groups import Element
from eqaudit.loader import Operation
from eqaudit.transforms import move_exactly

WEIGHTED = frozenset({"addmm", "conv2d", "conv_transpose2d", "linear", "matmul", "mm"})


def find(scene: Scene) -> Iterator[Suspect]:
    """Look for weights in breaking steps of which nothing else explains that they break."""
    for step in scene.network.breaking:
        if flattened(step) is not None:
            continue
        for operation in step.operations:
            weight = operation.arguments.get("weight", operation.arguments.get("mat2"))
            window = window_of(operation)
            if operation.name not in WEIGHTED or not isinstance(weight, torch.Tensor):
                continue
            if window is None or window.fits:
                yield Suspect(_evidence(operation, weight, scene.element, plain=step.action is None), step)


def _evidence(operation: Operation, weight: torch.Tensor, element: Element, *, plain: bool) -> str:
    if not plain or weight.ndim < MAP_RANK:
        return f"{operation.name}: its weights do not commute with the action of its channels"
    moved = move_exactly(weight, element.quarter_turns, mirrored=element.mirrored)
    error = relative_error(weight, moved) if moved.shape == weight.shape else 2.0
    return f"{operation.name}: the kernel differs from itself moved by {element} by {error:.2g}"


RULE = Rule(
    "kernel", "use a group convolution, or train with moved images; averaging the output is exact", find
)
