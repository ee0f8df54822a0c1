"""`position-embedding`: a constant that is not the same at every place is added or multiplied."""

import math
from collections.abc import Iterator

import torch

from eqaudit.diagnosis.base import JOINS, Rule, Scene, Suspect, asymmetry, constants_of, is_uniform
from eqaudit.diagnosis.steps import Step, relative_error
from eqaudit.groups import Element
from eqaudit.transforms import move_exactly

ATTENTION = frozenset({"add", "scaled_dot_product_attention"})
LEAST_SIDE = 2


def find(scene: Scene) -> Iterator[Suspect]:
    """Look for constants that vary over space, and not as their own moved copies do."""
    for step in scene.network.breaking:
        for operation in step.operations:
            for constant in constants_of(operation):
                error = None
                if operation.name in JOINS:
                    error = _over_space(constant, step, scene)
                if error is None and operation.name in ATTENTION:
                    error = _between_tokens(constant, scene.element)
                if error is not None and error > scene.network.limit:
                    what = "x".join(map(str, constant.shape))
                    moved = f"differs from itself moved by {scene.element} by {error:.2g}"
                    yield Suspect(f"a constant of {what} {moved}", step)


def _over_space(constant: torch.Tensor, step: Step, scene: Scene) -> float | None:
    """Return the asymmetry of a constant that is joined to a step's tensor; None where it is uniform."""
    error = asymmetry(constant, step, scene.setting, scene.element) if step.layout.spatial else None
    return None if error is None or is_uniform(constant, step) else error


def _between_tokens(constant: torch.Tensor, element: Element) -> float | None:
    """Return the asymmetry of a bias on attention, (..., N, N) for N tokens of a square grid or window."""
    side = math.isqrt(constant.shape[-1]) if constant.ndim > 1 else 0
    if side < LEAST_SIDE or not side**2 == constant.shape[-1] == constant.shape[-2]:
        return None
    moved = bias = constant.double().reshape(-1, side, side, side, side)
    for _ in range(2):
        turned = move_exactly(moved, element.quarter_turns, mirrored=element.mirrored)
        moved = turned.movedim((-2, -1), (1, 2))
    return relative_error(moved, bias)


RULE = Rule("position-embedding", "use relative positions, or average the embedding over the group", find)
