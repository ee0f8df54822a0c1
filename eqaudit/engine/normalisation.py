"""Whether the images look like those that the model was trained on."""

from __future__ import annotations

import torch

from eqaudit.engine.base import Setting, run_on
from eqaudit.loader import AuditModel, Feature

LARGEST_VALUE = 20.0
SMALLEST_SPREAD, LARGEST_SPREAD = 0.4, 2.5
LARGEST_SHIFT = 1.0


def suspect_normalisation(model: AuditModel, images: torch.Tensor, setting: Setting) -> str | None:
    """Return a warning when the first batch does not look as the model expects, else None.

    A batch normalisation in eval mode remembers the features of the training images: on images prepared in
    the same way its output has, channel by channel, about its bias as mean and its weight as spread. The
    first such layer is asked. Without one, only values far beyond any usual normalisation are suspect.
    """
    largest = float(images.abs().max())
    if largest > LARGEST_VALUE:
        return (
            f"values up to {largest:.3g} reach the model: most models expect 0 to 1, or mean 0 and spread 1"
        )
    found = _first_batch_norm(model, images, setting)
    if found is None:
        return None
    name, spread, shift = found
    if SMALLEST_SPREAD <= spread <= LARGEST_SPREAD and shift <= LARGEST_SHIFT:
        return None
    return (
        f"the images look unlike the training images: at {name} features have {spread:.2g} times the spread "
        f"that it was trained on, their mean is off by {shift:.2g} (are --mean and --std missing?)"
    )


def _first_batch_norm(
    model: AuditModel, images: torch.Tensor, setting: Setting
) -> tuple[str, float, float] | None:
    tensors = model.runner.tensors()
    if not any(name.endswith("running_mean") for name in tensors):
        return None  # nothing is remembered, so no pass is spent on it
    features: list[Feature] = []

    def keep_first(feature: Feature) -> None:
        if not features and feature.type.startswith("BatchNorm") and feature.value is not None:
            features.append(feature.replace(feature.value.clone()))

    run_on(model, images, setting, keep_first)
    if not features or features[0].value is None:
        return None
    weight, bias = (tensors.get(f"{features[0].name}.{part}") for part in ("weight", "bias"))
    value = features[0].value.double().transpose(0, 1).flatten(1)
    mean, variance = (tensors.get(f"{features[0].name}.running_{part}") for part in ("mean", "var"))
    if weight is None or bias is None or mean is None or variance is None or len(weight) != len(value):
        return None
    if not mean.any() and (variance == 1).all():
        return None  # it was never trained
    scale = weight.double().abs().clamp_min(1e-12)
    spread = (value.std(dim=1) / scale).median()
    shift = ((value.mean(dim=1) - bias.double()).abs() / scale).median()
    return features[0].name, float(spread), float(shift)
