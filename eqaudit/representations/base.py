"""How the channels of one layer are moved: permutations and orthogonal matrices, which compose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Permutation:
    """Channel c becomes what channel ``source[c]`` was: (rho x)[c] = x[source[c]]."""

    source: Integers

    @classmethod
    def identity(cls, channels: int) -> Permutation:
        """Return the permutation that leaves every channel where it is."""
        return cls(np.arange(channels))

    @property
    def channels(self) -> int:
        """How many channels are moved."""
        return len(self.source)

    def __matmul__(self, other: Action) -> Action:
        """Return the action of ``other`` first, then this one."""
        if isinstance(other, Permutation):
            return Permutation(other.source[self.source])
        return Orthogonal(other.matrix[self.source])

    def __invert__(self) -> Permutation:
        return Permutation(np.argsort(self.source))

    @property
    def matrix(self) -> Floats:
        """The action as a matrix, (C, C)."""
        return np.eye(len(self.source))[self.source]

    def on_samples(self, samples: Floats) -> Floats:
        """Act on samples (N, C)."""
        return samples[:, self.source]

    def on_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Act on a feature (B, C, ...)."""
        return tensor[:, torch.from_numpy(self.source).to(tensor.device)]


@dataclass(frozen=True, slots=True, eq=False)
class Orthogonal:
    """An orthogonal matrix (C, C), which mixes channels: rho x = matrix x."""

    matrix: Floats

    @property
    def channels(self) -> int:
        """How many channels are mixed."""
        return len(self.matrix)

    def __matmul__(self, other: Action) -> Action:
        """Return the action of ``other`` first, then this one."""
        if isinstance(other, Permutation):
            return Orthogonal(self.matrix[:, np.argsort(other.source)])
        return Orthogonal(self.matrix @ other.matrix)

    def __invert__(self) -> Orthogonal:
        return Orthogonal(self.matrix.T)

    def on_samples(self, samples: Floats) -> Floats:
        """Act on samples (N, C)."""
        return samples @ self.matrix.T

    def on_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Act on a feature (B, C, ...)."""
        matrix = torch.from_numpy(self.matrix).to(tensor)
        return torch.einsum("dc,bc...->bd...", matrix, tensor)


Action = Permutation | Orthogonal


def power(action: Action, exponent: int) -> Action:
    """Return an action applied ``exponent`` times; negative ones undo it."""
    base = action if exponent >= 0 else ~action
    result: Action = Permutation.identity(action.channels)
    for _ in range(abs(exponent)):
        result = base @ result
    return result
