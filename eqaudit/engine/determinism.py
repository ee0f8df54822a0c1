"""Whether the model gives the same answer twice, and the same answer in another batch."""

from __future__ import annotations

import msgspec
import torch

from eqaudit.engine.base import Setting, run_on
from eqaudit.errors import EqauditError
from eqaudit.loader import AuditModel, Conduct
from eqaudit.report import DETERMINISM_LIMIT, Cause, Determinism

FLOAT64_ROUNDING = 1e-9


def check_determinism(model: AuditModel, images: torch.Tensor, setting: Setting) -> Determinism:
    """Run the first batch again, and in another order split in two; compare the outputs.

    A single image is paired with its mirror image. A difference above rounding in float32 is looked
    at once more in float64: a deep network may amplify rounding far beyond 1e-5.
    """
    if len(images) == 1:
        images = torch.cat([images, images.flip(-1)])[: setting.fixed_batch]
    repeat, rebatch = _differences(model, images, setting)
    cause = _cause(repeat, rebatch, DETERMINISM_LIMIT)
    if cause is None:
        return Determinism(repeat, rebatch, None)
    try:
        precise = _differences(model.twin(), images.double(), setting)
    except (EqauditError, RuntimeError):
        return Determinism(repeat, rebatch, cause, "the model has no float64, so this is judged in float32")
    cause = _cause(*precise, FLOAT64_ROUNDING)
    note = None if cause else f"only rounding: {max(precise[0], precise[1] or 0):.1e} in float64"
    return Determinism(repeat, rebatch, cause, note)


def with_conduct(found: Determinism, conduct: Conduct) -> Determinism:
    """Add what was seen around every call of the model."""
    changed = "changes its input" if conduct.changes_input else None
    return msgspec.structs.replace(
        found,
        cause=found.cause or changed,
        changes_input=conduct.changes_input,
        changes_random_state=conduct.changes_random_state,
    )


def _cause(repeat: float, rebatch: float | None, limit: float) -> Cause | None:
    if repeat > limit:
        return "random"
    return "depends on the batch" if rebatch is not None and rebatch > limit else None


def _differences(model: AuditModel, images: torch.Tensor, setting: Setting) -> tuple[float, float | None]:
    once, again = _outputs(model, images, setting), _outputs(model, images, setting)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(setting.seed))
    if torch.equal(order, torch.arange(len(images))):
        order = order.flip(0)
    rebatch = None
    if setting.fixed_batch != 1 and len(images) > 1:
        shuffled = images[order]
        # A model of one batch size cannot be split: it gets the other order only.
        parts = [shuffled] if setting.fixed_batch else shuffled.tensor_split(2)
        runs = [_outputs(model, part, setting) for part in parts]
        joined = [torch.cat(tensors) for tensors in zip(*runs, strict=True)]
        rebatch = _distance([tensor[order.to(tensor.device)] for tensor in once], joined)
    return _distance(once, again), rebatch


def _outputs(model: AuditModel, images: torch.Tensor, setting: Setting) -> list[torch.Tensor]:
    outputs = run_on(model, images, setting)
    return [output.value for output in outputs if output.value is not None]


def _distance(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    return max((_relative(a, b) for a, b in zip(one, other, strict=True)), default=0.0)


def _relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return |a - b| / |a| over the values that are finite in both; 1 where finiteness differs."""
    finite = torch.isfinite(one)
    if one.shape != other.shape or not torch.equal(finite, torch.isfinite(other)):
        return 1.0
    size = float(torch.linalg.vector_norm(one[finite], dtype=torch.float64))
    change = float(torch.linalg.vector_norm(one[finite] - other[finite], dtype=torch.float64))
    return change / size if size else min(change, 1.0)
