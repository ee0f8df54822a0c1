"""The float64 rerun, which tells an error of the model from the rounding of float32."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch

from eqaudit.engine.arena import Arena
from eqaudit.engine.base import Key, Setting, few_at_once, stream
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
    arena = Arena()
    try:
        twin = model.twin()
        if fitting is not None:
            setting = dataclasses.replace(setting, channels=fitting.refine(twin, setting))
        setting = few_at_once(setting, len(images))
        parts = torch.split(images.double(), setting.batch_size)
        unit = reduce(
            Unit.merge,
            [
                _measure(twin, part, place * setting.batch_size, names, setting, arena)
                for place, part in enumerate(parts)
            ],
        )
        arena.clear()
        changes = _weight_rounding(twin, parts, setting, arena)
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
    model: AuditModel,
    images: torch.Tensor,
    first: int,
    names: tuple[str, ...],
    setting: Setting,
    arena: Arena,
) -> Unit:
    places = tuple(range(first, first + len(images)))
    batch = Batch(images, tuple(names[place] for place in places), places)
    return measure_batch(model, batch, setting, arena=arena)


def _by_element(sums: TapSums, weight_rounding: float, elements: int) -> list[Rerun]:
    if sums.skipped is not None:
        return []
    return [Rerun(sums.measured(place), weight_rounding) for place in range(elements)]


def _weight_rounding(
    model: AuditModel, parts: Sequence[torch.Tensor], setting: Setting, arena: Arena
) -> dict[Key, float]:
    """Round the weights; return the relative change of each tensor of float64 over all parts."""
    before: dict[Key, list[torch.Tensor]] = {}
    squares: dict[Key, list[float]] = {}

    def keep(key: Key, feature: Feature) -> None:
        if feature.value is not None and feature.value.dtype == torch.float64 and setting.keep(key):
            before.setdefault(key, []).append(arena.copy(feature.value))

    def compare(key: Key, feature: Feature) -> None:
        if feature.value is not None and before.get(key):
            still = before[key].pop(0)
            same = still.shape == feature.value.shape
            apart = torch.linalg.vector_norm(still - feature.value) if same else torch.zeros(())
            sums = squares.setdefault(key, [0.0, 0.0])
            sums[0] += float(apart) ** 2
            sums[1] += float(torch.linalg.vector_norm(still)) ** 2

    for part in parts:
        stream(model, part, setting, keep)
    generator = torch.Generator().manual_seed(setting.seed)
    rounded = _round_weights(model, generator)
    for part in parts:
        stream(model, part if rounded else part + _rounding(part, generator), setting, compare)
    return {key: math.sqrt(apart / size) if size else 0.0 for key, (apart, size) in squares.items()}


def _round_weights(model: AuditModel, generator: torch.Generator) -> bool:
    """Round the weights of a model in place; return whether it has any."""
    weights = list(model.runner.weights())
    with torch.no_grad():
        for weight in weights:
            weight.add_(_rounding(weight, generator))
    return bool(weights)


def _rounding(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return random rounding errors of a weight (filters, ...): of each filter as of its largest value."""
    # In place: the weights of one layer can be most of a model.
    errors = torch.rand(tensor.shape, generator=generator, dtype=torch.float64).mul_(2).sub_(1)
    errors = errors.mul_(WEIGHT_ROUNDING).to(tensor.device)
    if tensor.ndim <= 1 or not tensor.numel():
        return errors.mul_(tensor.abs())
    flat = tensor.flatten(1)
    largest = torch.maximum(flat.amax(dim=1), -flat.amin(dim=1))
    return errors.mul_(largest.reshape(-1, *[1] * (tensor.ndim - 1)))
