"""How the channels of each layer turn, found on a few images before the audit measures all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch

from eqaudit.engine.base import Key, Setting, few_at_once
from eqaudit.engine.layer_fits import LayerFits, Sought
from eqaudit.engine.samples import LEAST_IMAGES, Held, relative_difference, visit
from eqaudit.errors import EqauditError
from eqaudit.loader import AuditModel
from eqaudit.representations import Channels

AMPLIFIED_ROUNDING = 3e-5
"""Relative difference between float32 and float64, beyond which channels are fitted in float64."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """What the fit of channels is made with: it is made again where the model runs in float64.

    ``images`` (B, C, H, W) as the model would receive them, not windowed, and their ``names``: every other
    one fits what the rest is judged under, and the other way round. ``turnable`` says which tensors may have
    an action.
    """

    images: torch.Tensor
    names: tuple[str, ...]
    turnable: Callable[[Key], bool]
    sought: Sought

    def fit(self, model: AuditModel, setting: Setting) -> Channels:
        """Fit the action of each kept layer's channels, in float64 where rounding would hide it."""
        keep = setting.keep
        setting = dataclasses.replace(setting, keep=lambda key: keep(key) and self.turnable(key))
        chosen = _precise(model, self.images[: min(setting.batch_size, LEAST_IMAGES)], setting)
        if chosen is model:
            run = LayerFits(model, self._shown(setting), setting, self.sought)
        else:
            run = LayerFits(
                chosen, self._shown(setting).double(), few_at_once(setting, len(self.images)), self.sought
            )
        actions = run.actions()
        actions |= run.vacuous(actions)
        # An image of the first half is judged under the fit of the second.
        halves = {name: 1 - place % 2 for place, name in enumerate(self.names)}
        return Channels(len(self.images), actions, halves, run.left_out)

    def refine(self, twin: AuditModel, setting: Setting) -> Channels:
        """Fit matrices again with a model of float64: they are known only as well as the features are."""
        known = setting.channels
        mixing = {key for key, action in known.by_key.items() if action.mixes}
        if not mixing:
            return known
        kept = dataclasses.replace(few_at_once(setting, len(self.images)), keep=mixing.__contains__)
        run = LayerFits(twin, self._shown(setting).double(), kept, self.sought, shrink=False)
        return known.refined(run.actions())

    def _shown(self, setting: Setting) -> torch.Tensor:
        return setting.space.window(self.images) if setting.resamples else self.images


def _precise(model: AuditModel, images: torch.Tensor, setting: Setting) -> AuditModel:
    """Return the model, or its float64 twin where rounding moves a feature far enough to hide an action."""
    rounded: dict[Key, torch.Tensor] = {}
    apart = [0.0]

    def keep(key: Key, held: Held, _first: int) -> None:
        rounded[key] = held.value.double().clone()

    def compare(key: Key, held: Held, _first: int) -> None:
        if key in rounded and rounded[key].shape == held.value.shape:
            apart.append(relative_difference(rounded[key], held.value))

    if setting.fixed_batch is not None:
        images = images[:1].expand(setting.fixed_batch, -1, -1, -1)
    try:
        visit(model, images, setting, keep)
        twin = model.twin()
        visit(twin, images.double(), setting, compare)
    except (EqauditError, RuntimeError):
        return model
    return twin if max(apart) > AMPLIFIED_ROUNDING else model
