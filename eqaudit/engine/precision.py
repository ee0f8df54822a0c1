"""In which precision the model runs: conversion, TF32, and what an unsupported operation is called."""

from __future__ import annotations

from typing import get_args

import torch

from eqaudit.data import Images
from eqaudit.engine.shapes import BATCHES, Choice, choose_shape
from eqaudit.errors import ModelError
from eqaudit.loader import AuditModel, Feature
from eqaudit.plan import InputOptions, Precision, RunOptions

HALVES = (torch.float16, torch.bfloat16)


def set_tf32(options: RunOptions) -> None:
    """Allow TF32 on CUDA devices or forbid it, also in convolutions, where torch allows it by itself."""
    torch.backends.cuda.matmul.allow_tf32 = options.tf32
    torch.backends.cudnn.allow_tf32 = options.tf32


def uses_tf32(device: torch.device) -> bool:
    """Whether some float32 operations of this device round their factors to 10 bits."""
    allowed = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
    return device.type == "cuda" and allowed


def is_coarse(model: AuditModel) -> bool:
    """Whether the model's own rounding hides or makes errors of 1e-3, so that only a rerun tells."""
    return model.dtype in HALVES or (model.dtype != torch.float64 and uses_tf32(model.device))


def convert(
    model: AuditModel, images: Images | None, inputs: InputOptions, options: RunOptions
) -> tuple[AuditModel, Choice]:
    """Return the model in the precision that is asked for, else in its own, and the input shape.

    The shape of a model in half precision is found in float32, so that an operation that has no half
    precision is not taken for a shape that the model refuses.

    Raises
    ------
    DataError
        The model refuses the shape.
    ModelError
        The model cannot be converted, or has an operation that does not exist in that precision.
    """
    name = options.dtype or _own_precision(model)
    if name is None:
        return model, choose_shape(model, images, inputs)
    dtype = getattr(torch, name)
    plain = model.cast(torch.float32 if dtype in HALVES else dtype)
    choice = choose_shape(plain, images, inputs)
    if dtype not in HALVES:
        return plain, choice
    converted = model.cast(dtype)
    _try(converted, choice, name)
    return converted, choice


def _own_precision(model: AuditModel) -> Precision | None:
    """Return what all weights are stored in where it is not float32; images in float32 would not fit them."""
    found = {str(weight.dtype).removeprefix("torch.") for weight in model.runner.weights()} or {"float32"}
    return next((name for name in get_args(Precision) if found == {name} and name != "float32"), None)


def _try(model: AuditModel, choice: Choice, name: str) -> None:
    seen: list[str] = []

    def on_feature(feature: Feature) -> None:
        seen.append(feature.name)

    generator = torch.Generator().manual_seed(0)
    batch = torch.rand((choice.fixed_batch or BATCHES[0], *choice.shape), generator=generator)
    try:
        model.run(batch, on_feature)
    except ModelError as error:
        place = f"after layer {seen[-1]}" if seen else "before any layer is done"
        raise ModelError(
            f"the model does not run in {name} on {model.device}, {place}: {error.message}",
            "run it with --dtype float32, or on another --device",
        ) from error
