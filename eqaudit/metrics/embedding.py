"""Vectors that describe an image: cosine similarity between poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from eqaudit.metrics.base import Observed, Scene, as_floats, finite_images, spreads
from eqaudit.report import ElementCosine, Embedding
from eqaudit.statistics import Floats


@dataclass(frozen=True, slots=True)
class EmbeddingValues:
    """Cosine similarity of each image's vector with that of the unmoved image, (B,)."""

    finite: NDArray[np.bool_]
    cosine: Floats


@dataclass(frozen=True, slots=True)
class EmbeddingTask:
    """Vectors (B, D)."""

    output: str
    reason: str

    def compare(self, still: torch.Tensor, moved: torch.Tensor, scene: Scene) -> EmbeddingValues:
        """Compare the vectors of moved images with those of the unmoved ones."""
        del scene
        cosine = functional.cosine_similarity(moved.double().flatten(1), still.double().flatten(1), dim=1)
        return EmbeddingValues(finite_images(still, moved).cpu().numpy(), as_floats(cosine))

    def misfit(self, targets: NDArray[np.int64]) -> tuple[int, str] | None:
        """Truth plays no part in it."""
        del targets
        return None

    def summarise(self, observed: Observed[EmbeddingValues]) -> Embedding | None:
        """Return the record of the images that are finite at every pose; None when there is none."""
        observed = observed.finite()
        if not observed.names:
            return None
        found = spreads([values.cosine for _, values in observed.poses], observed.names, observed.seed)
        return Embedding(
            output=self.output,
            images=len(observed.names),
            reason=self.reason,
            by_element=[
                ElementCosine(name, spread) for (name, _), spread in zip(observed.poses, found, strict=True)
            ],
        )
