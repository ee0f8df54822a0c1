"""What the parts of the engine share: the setting of an audit and its progress."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eqaudit.groups import Element, Group
from eqaudit.loader import AuditModel, Feature

Progress = Callable[[str, int, int], None]
Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Setting:
    """How the model is called in this audit.

    ``fixed_batch`` is the only batch size that the model runs at, or None when it takes any.
    ``keep`` says which tensors are measured, by key: (``layer`` or ``output``, name, call).
    """

    group: Group
    seed: int
    batch_size: int
    fixed_batch: int | None
    keep: Callable[[Key], bool]

    @property
    def elements(self) -> tuple[Element, ...]:
        """The elements that are compared: all but the identity, which C1 alone compares with itself."""
        return self.group.moving or self.group.elements

    @property
    def swaps_sides(self) -> bool:
        """Whether some element turns by 90 degrees, which needs square images and maps."""
        return any(element.quarter_turns % 2 for element in self.group.elements)


def run_on(
    model: AuditModel,
    images: torch.Tensor,
    setting: Setting,
    on_feature: Callable[[Feature], None] | None = None,
) -> list[Feature]:
    """Run the model on images (B, C, H, W); a model of one batch size gets padding, which never counts."""
    real = len(images)
    if setting.fixed_batch is None or setting.fixed_batch == real:
        return model.run(images, on_feature)
    padded = torch.cat([images, images[-1:].expand(setting.fixed_batch - real, *images.shape[1:])])

    def without_padding(feature: Feature) -> Feature:
        if feature.value is None or feature.value.shape[0] != setting.fixed_batch:
            return feature
        return feature.replace(feature.value[:real])

    hook = None if on_feature is None else lambda feature: on_feature(without_padding(feature))
    return [without_padding(feature) for feature in model.run(padded, hook)]


def stream(
    model: AuditModel, images: torch.Tensor, setting: Setting, receive: Callable[[Key, Feature], None]
) -> None:
    """Run the model and hand over the feature of each tap, then each output tensor, with its key."""
    outputs = run_on(
        model, images, setting, lambda feature: receive(("layer", feature.name, feature.call), feature)
    )
    for output in outputs:
        receive(("output", output.name, output.call), output)


def as_tensor(images: NDArray[np.float32]) -> torch.Tensor:
    """Return a batch as a tensor of its own memory."""
    return torch.from_numpy(np.ascontiguousarray(images))


def finite_or_none(value: float) -> float | None:
    """Return a number as the report may hold it: None instead of NaN or infinity."""
    return float(value) if math.isfinite(value) else None
