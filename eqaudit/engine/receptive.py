"""How far one pixel reaches in each feature map: measured by changing it."""

from __future__ import annotations

import torch

from eqaudit.engine.base import Key, Setting
from eqaudit.engine.references import reference_pass
from eqaudit.loader import AuditModel

NOTICEABLE = 1e-6
"""Share of the largest change of a map below which a cell counts as untouched: float32 rounds at 1e-7."""


def receptive_radii(model: AuditModel, images: torch.Tensor, setting: Setting) -> dict[Key, float]:
    """Change the centre pixel of some images (B, C, H, W); return how far the change reaches, in pixels.

    Only maps have a radius. Both directions of change are tried, because a ReLU may hide one of them.
    """
    row, column = images.shape[-2] // 2, images.shape[-1] // 2
    step = float(images.max() - images.min()) or 1.0
    before = _maps(model, images, setting)
    radii: dict[Key, float] = {}
    for sign in (1.0, -1.0):
        changed = images.clone()
        changed[..., row, column] += sign * step
        for key, after in _maps(model, changed, setting).items():
            if key in before and before[key].shape == after.shape:
                cell = setting.space.cells.get(key, 1.0)
                reach = _reach(before[key], after, cell, (row, column), tuple(images.shape[-2:]))
                radii[key] = max(radii.get(key, 0.0), reach)
    return radii


def _reach(
    before: torch.Tensor, after: torch.Tensor, cell: float, pixel: tuple[int, int], image: tuple[int, ...]
) -> float:
    change = (after - before).abs().flatten(0, -3).amax(dim=0).double()
    rows, columns = (
        (torch.arange(size, device=change.device) - (size - 1) / 2) * cell - (place - (side - 1) / 2)
        for size, place, side in zip(change.shape, pixel, image, strict=True)
    )
    touched = change > NOTICEABLE * change.max()
    return float((torch.hypot(rows.unsqueeze(1), columns.unsqueeze(0)) * touched).max())


def _maps(model: AuditModel, images: torch.Tensor, setting: Setting) -> dict[Key, torch.Tensor]:
    references = reference_pass(model, images, setting)
    return {
        key: reference.value
        for key, reference in references.items()
        if reference.spatial and reference.skipped is None
    }
