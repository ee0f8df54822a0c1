"""`kernel`: a convolution or linear layer of fitting geometry that still breaks has weights that do."""

from collections.abc import Iterator

import torch

from eqaudit.diagnosis.base import MAP_RANK, Rule, Scene, Suspect, constants_of, flattened, window_of
from eqaudit.diagnosis.steps import relative_error
from eqaudit.groups import Element
from eqaudit.transforms import move_exactly

WEIGHTED = frozenset({"addmm", "bmm", "conv2d", "conv_transpose2d", "einsum", "linear", "matmul", "mm"})


def find(scene: Scene) -> Iterator[Suspect]:
    """Look for weights in breaking steps: seen to be asymmetric, or with nothing else to explain it."""
    for step in scene.network.breaking:
        if flattened(step) is not None:
            continue
        plain = step.action is None and (step.before is None or step.before.action is None)
        for operation in step.operations:
            # A bias has one dimension.
            weight = max(constants_of(operation), key=torch.Tensor.dim, default=None)
            window = window_of(operation)
            if operation.name not in WEIGHTED or weight is None:
                continue
            differs = _asymmetry(weight, scene.element) if plain and weight.ndim == MAP_RANK else None
            if differs is not None and differs > scene.network.limit:
                moved = f"the kernel differs from itself moved by {scene.element} by {differs:.2g}"
                yield Suspect(f"{operation.name}: {moved}", step)
            elif window is None or window.fits:
                evidence = f"{operation.name}: its weights do not commute with the action found"
                yield Suspect(evidence, step, likely=True)


def _asymmetry(weight: torch.Tensor, element: Element) -> float | None:
    """Return how far kernels are from their moved selves; None where a side changes."""
    moved = move_exactly(weight, element.quarter_turns, mirrored=element.mirrored)
    return relative_error(weight, moved) if moved.shape == weight.shape else None


RULE = Rule(
    "kernel", "use a group convolution, or train with moved images; averaging the output is exact", find
)
