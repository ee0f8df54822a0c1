"""Directional derivatives of features: one run in forward mode, along a direction of the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from eqaudit.loader.base import OnEnter, OnValue, Runner, WrappedRunner, tensors_of

Direction = Callable[[torch.Tensor], torch.Tensor]


class TangentRunner(WrappedRunner):
    """Another runner that hands over ``J_F(x) v`` where that would hand over ``F(x)``.

    ``direction`` returns v for a batch x, of its shape.
    """

    def __init__(self, runner: Runner, direction: Direction) -> None:
        super().__init__(runner)
        self.direction = direction

    def run(self, batch: torch.Tensor, on_value: OnValue | None, on_enter: OnEnter | None = None) -> object:
        """Call the model once; raises what torch raises where an operator has no forward mode."""
        deliver = None if on_value is None else lambda tap, value: on_value(tap, _tangents(value))
        with _differentiable(), forward_ad.dual_level():
            dual = forward_ad.make_dual(batch, self.direction(batch))  # type: ignore[no-untyped-call]
            return _tangents(self.runner.run(dual, deliver, on_enter))


@contextmanager
def _differentiable() -> Iterator[None]:
    """Keep attention to operators that have a forward mode: fused ones have none."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _tangents(value: object) -> dict[str, torch.Tensor]:
    """Return the tangents of all tensors in a structure, by the names that its parts have as features."""
    return {".".join(path): _tangent(tensor) for path, tensor in tensors_of(value)}


def _tangent(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tangent of a tensor, zeros of one that does not depend on the input."""
    tangent: torch.Tensor | None = forward_ad.unpack_dual(tensor).tangent  # type: ignore[no-untyped-call]
    return torch.zeros_like(tensor) if tangent is None else tangent
