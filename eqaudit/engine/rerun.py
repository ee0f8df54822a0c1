"""The float64 rerun, which tells an error of the model from the rounding of float32."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import reduce

import torch

from eqaudit.engine.base import Key, Setting, stream
from eqaudit.engine.channels import Fitting
from eqaudit.engine.measure import TapSums, Unit, measure_batch
from eqaudit.engine.references import Batch
from eqaudit.errors import EqauditError
from eqaudit.groups import Pose
from eqaudit.loader import AuditModel, Feature, describe
from eqaudit.metrics import Rerun

WEIGHT_ROUNDING = 2.0**-24


@dataclass(frozen=True, slots=True)
class RerunResult:
    """The rerun of each tensor by key, one for each of ``poses``; ``reason`` says why there is none."""

    images: int
    poses: tuple[Pose, ...]
    by_key: dict[Key, list[Rerun]]
    reason: str | None

    def at(self, key: Key, pose: Pose) -> Rerun | None:
        """Return the rerun of a tensor at one pose; None where there is none."""
        runs = self.by_key.get(key)
        return runs[self.poses.index(pose)] if runs and pose in self.poses else None


def rerun_in_float64(
    model: AuditModel,
    images: torch.Tensor,
    names: tuple[str, ...],
    setting: Setting,
    fitting: Fitting | None = None,
) -> RerunResult:
    """Measure a few images again with a float64 copy of the model.

    Orthogonal actions are fitted again with it, because a matrix is known only as well as the features are.

    Tensors that the copy still computes in another precision are left out. ``weight_rounding`` of a
    tensor is its relative change when u 2^-24 of the largest weight of its filter, |u| <= 1, is added to each
    weight: what the rounding of the stored float32 weights alone can do. (Filters that a library sums up from
    a basis are rounded as the terms are, not as what is left of them.) A model without parameters has its
    input rounded.
    """
    try:
        twin = model.twin()
        if fitting is not None:
            setting = dataclasses.replace(setting, channels=fitting.refine(twin, setting))
        size = setting.fixed_batch or min(len(images), setting.batch_size)
        parts = torch.split(images.double(), size)
        unit = reduce(
            Unit.merge,
            [_measure(twin, part, place * size, names, setting) for place, part in enumerate(parts)],
        )
        changes = _weight_rounding(twin, parts[0], setting)
    except (EqauditError, RuntimeError) as error:
        return RerunResult(0, (), {}, f"the model has no float64: {describe(error)}")
    by_key = {
        key: _by_element(sums, changes[key], len(setting.poses))
        for key, sums in unit.taps.items()
        if key in changes
    }
    casts = sum(1 for key, sums in unit.taps.items() if sums.skipped is None and key not in by_key)
    return RerunResult(
        len(names), setting.poses, by_key, f"{casts} tensors are cast back from float64" if casts else None
    )


def _measure(
    model: AuditModel, images: torch.Tensor, first: int, names: tuple[str, ...], setting: Setting
) -> Unit:
    places = tuple(range(first, first + len(images)))
    return measure_batch(model, Batch(images, tuple(names[place] for place in places), places), setting)


def _by_element(sums: TapSums, weight_rounding: float, elements: int) -> list[Rerun]:
    if sums.skipped is not None:
        return []
    return [Rerun(sums.measured(place), weight_rounding) for place in range(elements)]


def _weight_rounding(model: AuditModel, images: torch.Tensor, setting: Setting) -> dict[Key, float]:
    """Round the weights; return the relative change of each tensor of float64."""
    before: dict[Key, torch.Tensor] = {}
    changes: dict[Key, float] = {}

    def keep(key: Key, feature: Feature) -> None:
        if feature.value is not None and feature.value.dtype == torch.float64 and setting.keep(key):
            before[key] = feature.value.clone()

    def compare(key: Key, feature: Feature) -> None:
        if feature.value is not None and key in before:
            changes[key] = _relative_change(before.pop(key), feature.value)

    stream(model, images, setting, keep)
    stream(model, _perturb(model, images, setting.seed), setting, compare)
    return changes


def _perturb(model: AuditModel, images: torch.Tensor, seed: int) -> torch.Tensor:
    """Round the weights of a model in place, or the images where it has none; return the images to use."""
    generator = torch.Generator().manual_seed(seed)
    weights = list(model.runner.weights())
    with torch.no_grad():
        for weight in weights:
            weight.add_(_rounding(weight, generator))
    return images if weights else images + _rounding(images, generator)


def _rounding(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return random rounding errors of a weight (filters, ...): of each filter as of its largest value."""
    signs = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) * 2 - 1
    if tensor.ndim <= 1 or not tensor.numel():
        return WEIGHT_ROUNDING * signs.to(tensor.device) * tensor.abs()
    largest = tensor.abs().flatten(1).amax(dim=1).reshape(-1, *[1] * (tensor.ndim - 1))
    return WEIGHT_ROUNDING * signs.to(tensor.device) * largest


def _relative_change(one: torch.Tensor, other: torch.Tensor) -> float:
    size = float(torch.linalg.vector_norm(one))
    if one.shape != other.shape or not size:
        return 0.0
    return float(torch.linalg.vector_norm(one - other)) / size
