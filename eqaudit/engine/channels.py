"""How the channels of each layer turn: fitted on a few images before the audit measures all of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch

from eqaudit.engine.base import Key, Setting
from eqaudit.engine.floors import Floors
from eqaudit.engine.samples import (
    LEAST_IMAGES,
    Held,
    chance_of,
    choose_cells,
    finite_pairs,
    rare_cells,
    second_half,
    visit,
)
from eqaudit.errors import EqauditError
from eqaudit.groups import IDENTITY, MIRROR, Element, Group
from eqaudit.loader import AuditModel
from eqaudit.representations import (
    TRIVIAL_ERROR,
    Channels,
    Decision,
    Extension,
    Floats,
    GeneratorFit,
    LayerAction,
    LeftOut,
    Pairs,
    Status,
    best_extension,
    can_extend,
    decide,
    extend,
    fit_generator,
    undetermined,
)
from eqaudit.transforms import act

MOST_CHANNELS = 2048
FEATURE_SAMPLES = 512
FEW_CELLS = 16
"""Maps of up to this many cells, and vectors, take their samples from the whole orbit of each image."""
AFFINE_ERROR = 1e-5
CONSTANT = 1e-7
"""Relative spread over images that is no more than rounding."""
AMPLIFIED_ROUNDING = 3e-5
"""Relative difference between float32 and float64, beyond which channels are fitted in float64."""
FEW_PRECISE = 4
"""Images that go through a model of float64 at once."""
HALF_TURN = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Fitting:
    """What the fit of channels is made with: it is made again where the model runs in float64.

    ``images`` (B, C, H, W) as the model would receive them, not windowed, and their ``names``: every other
    one fits what the rest is judged under, and the other way round. ``group`` is the one whose subgroups are
    looked for, ``bases`` are the resampled turns that are fitted, ``turnable`` says which tensors may have an
    action; limits at resampled turns are relative to ``floors``.
    """

    images: torch.Tensor
    names: tuple[str, ...]
    group: Group
    bases: tuple[Element, ...]
    turnable: Callable[[Key], bool]
    floors: Floors

    def fit(self, model: AuditModel, setting: Setting) -> Channels:
        """Fit the action of each kept layer's channels, in float64 where rounding would hide it."""
        chosen = _precise(model, self.images[: min(setting.batch_size, LEAST_IMAGES)], setting)
        if chosen is model:
            return self.fit_on(model, self.images, setting)
        if not setting.layers and not setting.fixed_batch:
            # A convolution in float64 unfolds its images, nine times what they take. Layers would take more
            # than that while they wait for the rest of their images.
            setting = dataclasses.replace(setting, batch_size=min(setting.batch_size, FEW_PRECISE))
        return self.fit_on(chosen, self.images.to(torch.float64), setting)

    def fit_on(self, model: AuditModel, images: torch.Tensor, setting: Setting) -> Channels:
        """Fit with a model and images of one precision."""
        shown = setting.space.window(images) if setting.resamples else images
        keep = setting.keep
        kept = dataclasses.replace(setting, keep=lambda key: keep(key) and self.turnable(key))
        run = _Run(model, shown, kept, self)
        # An image of the first half is judged under the fit of the second.
        halves = {name: 1 - place % 2 for place, name in enumerate(self.names)}
        return Channels(len(images), run.actions(), halves, run.left_out)


def _precise(model: AuditModel, images: torch.Tensor, setting: Setting) -> AuditModel:
    """Return the model, or its float64 twin where rounding moves a feature far enough to hide an action."""
    rounded: dict[Key, torch.Tensor] = {}
    apart = [0.0]

    def keep(key: Key, held: Held) -> None:
        rounded[key] = held.value.double().clone()

    def compare(key: Key, held: Held) -> None:
        if key in rounded and rounded[key].shape == held.value.shape:
            apart.append(_relative_difference(rounded[key], held.value))

    if setting.fixed_batch is not None:
        images = images[:1].expand(setting.fixed_batch, -1, -1, -1)
    try:
        visit(model, images, setting, keep)
        twin = model.twin()
        visit(twin, images.double(), setting, compare)
    except (EqauditError, RuntimeError):
        return model
    return twin if max(apart) > AMPLIFIED_ROUNDING else model


def _relative_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return |one - other| / |one - mean|, over all values; what is not finite counts as no difference."""
    one = one.double()
    size = float(torch.linalg.vector_norm(one - one.mean()))
    apart = float(torch.linalg.vector_norm(one - other)) / size if size else 0.0
    return apart if math.isfinite(apart) else 0.0


@dataclass(slots=True, eq=False)
class _Layer:
    """What is known of one layer so far.

    ``cells`` are those that are sampled at exact elements; ``orbit`` holds features of few cells by element.
    """

    held: Held
    cells: torch.Tensor
    features: Floats
    chance: float
    fits: dict[Element, GeneratorFit] = field(default_factory=dict)
    orbit: dict[Element, Held] = field(default_factory=dict)
    decision: Decision = field(default_factory=Decision)
    extensions: list[Extension | None] = field(default_factory=list)


class _Run:
    """One fit: pairs are fitted as they arrive, and only what was found is kept."""

    def __init__(self, model: AuditModel, images: torch.Tensor, setting: Setting, fitting: Fitting) -> None:
        self.model, self.images, self.setting, self.fitting = model, images, setting, fitting
        self.layers: dict[Key, _Layer] = {}
        self.left_out: dict[Key, tuple[LeftOut, str]] = {}
        square = images.shape[-2] == images.shape[-1]
        visit(model, images, setting, self._keep)
        for element in fitting.group.elements:
            if element.exact and element != IDENTITY and (square or not element.quarter_turns % 2):
                self._show(element, self._meet)
        for layer in self.layers.values():
            self._fit_orbit(layer)
            layer.decision = decide(fitting.group, layer.fits, layer.features)
        for base in fitting.bases:
            if any(can_extend(base, layer.decision) for layer in self.layers.values()):
                self._show(base, self._extend)

    def actions(self) -> dict[Key, LayerAction]:
        """Return the action of every layer; orthogonal ones that say nothing are vacuous."""
        made = {key: self._action(layer) for key, layer in self.layers.items()}
        mixed = [key for key, action in made.items() if action.mixes]
        return made | self._vacuous(made, mixed) if mixed else made

    def _keep(self, key: Key, held: Held) -> None:
        if held.channels > MOST_CHANNELS:
            many = f"{held.channels:,} channels are more than {MOST_CHANNELS:,}: not fitted"
            self.left_out[key] = ("undetermined", many)
            return
        if len(self.images) > 1 and _depends_little(held.value):
            self.left_out[key] = ("degenerate", "it does not depend on the image")
            return
        cells = choose_cells(held, len(self.images), self.setting.seed)
        rare = rare_cells(held, cells)
        chance = chance_of(held.rows(cells), len(self.images))
        few = FEATURE_SAMPLES // len(self.images) + 1
        features = _some(held.rows(torch.cat([cells[:few], rare[:few]])))
        self.layers[key] = _Layer(held.copy(), torch.cat([cells, rare]), features, chance)

    def _show(self, element: Element, handle: Callable[[Key, _Layer, Held, Element], None]) -> None:
        """Run the model on the images under one element, and hand over each layer that is known and alike."""

        def receive(key: Key, held: Held) -> None:
            layer = self.layers.get(key)
            if layer is not None and layer.held.value.shape == held.value.shape:
                handle(key, layer, held, element)

        moved = act(element, self.images, self.setting.space.images).contiguous()
        visit(self.model, moved, self.setting, receive)

    def _meet(self, _key: Key, layer: _Layer, held: Held, element: Element) -> None:
        if held.cells <= FEW_CELLS:
            layer.orbit[element] = held.copy()
        elif not _stood_for(element):
            pairs = self._pairs(layer, held, element, layer.cells)
            if pairs is None or not pairs.size:
                return
            found = self._fit(pairs, element)
            if not found.determined:
                most = choose_cells(held, len(self.images), self.setting.seed, most=True)
                found = self._fit(self._pairs(layer, held, element, most) or pairs, element)
            layer.fits[element] = found

    def _fit(self, pairs: Pairs, element: Element) -> GeneratorFit:
        # Mirrors that are no generator of a Dn are worth a fit only where they are exact.
        thorough = not element.mirrored or element == MIRROR
        return fit_generator(pairs, TRIVIAL_ERROR, thorough=thorough)

    def _extend(self, key: Key, layer: _Layer, held: Held, base: Element) -> None:
        if not can_extend(base, layer.decision):
            return
        mask = self.setting.space.mask(key, *held.value.shape[-2:]) if held.spatial else None
        cells = choose_cells(held, len(self.images), self.setting.seed, mask)
        expected = layer.held.moved(base, self.setting, self.setting.space.cells.get(key, 1.0))
        second = second_half(len(self.images), len(cells))
        pairs = finite_pairs(held.rows(cells), expected.rows(cells), second, centred=False)
        floor = self.fitting.floors.raw(key, base)
        layer.extensions.append(extend(base, layer.decision, pairs, floor, layer.chance))

    def _pairs(self, layer: _Layer, held: Held, element: Element, cells: torch.Tensor) -> Pairs | None:
        """Return samples at an exact element; None for a quarter turn of a map that is no square."""
        before = layer.held.moved_cells(element, cells)
        if before is None:
            return None
        second = second_half(len(self.images), len(cells))
        return finite_pairs(held.rows(cells), layer.held.rows(before), second, layer.chance)

    def _fit_orbit(self, layer: _Layer) -> None:
        """Fit a layer of few cells from all pairs (F(T_hg x), T_h F(T_g x)) of an orbit."""
        orbit = {IDENTITY: layer.held, **layer.orbit}
        cells = torch.arange(layer.held.cells)
        second = second_half(len(self.images), len(cells))
        for element in layer.orbit:
            starts = [start for start in orbit if element @ start in orbit]
            turned = [orbit[start].moved(element, self.setting, 1.0) for start in starts]
            if _stood_for(element) or turned[0].value.shape != layer.held.value.shape:
                continue
            moved = np.concatenate([orbit[element @ start].rows(cells) for start in starts])
            still = np.concatenate([held.rows(cells) for held in turned])
            pairs = finite_pairs(moved, still, np.tile(second, len(starts)), layer.chance)
            if pairs.size:
                layer.fits[element] = self._fit(pairs, element)
        if layer.orbit:
            layer.features = _some(np.concatenate([held.rows(cells) for held in orbit.values()]))
            layer.orbit.clear()

    def _action(self, layer: _Layer) -> LayerAction:
        extension = best_extension(layer.extensions)
        unused: tuple[Status, str] | None = None
        if extension is None and layer.decision.group is None and undetermined(layer.fits):
            few = f"{len(self.images)} images are too few to tell how {layer.held.channels} channels turn"
            unused = ("undetermined", few)
        return LayerAction.of(layer.decision, extension, layer.features, layer.held.sizes, unused)

    def _vacuous(self, made: Mapping[Key, LayerAction], mixed: Sequence[Key]) -> dict[Key, LayerAction]:
        """Return again, as vacuous, what comes before the first nonlinearity and no later layer confirms."""
        affine = self._affine_layers()
        order = list(made)
        found = {}
        for key in mixed:
            layer = self.layers[key]
            later = [made[other] for other in order[order.index(key) + 1 :] if other not in affine]
            if key in affine and not any(_confirms(action, made[key]) for action in later):
                unused: tuple[Status, str] = (
                    "vacuous",
                    "before the first nonlinearity, and confirmed by no later layer",
                )
                found[key] = LayerAction.of(layer.decision, None, layer.features, layer.held.sizes, unused)
        return found

    def _affine_layers(self) -> set[Key]:
        """Return the layers whose feature of a mean of two images is the mean of the two features."""
        affine: set[Key] = set()

        def receive(key: Key, held: Held) -> None:
            if key not in self.layers:
                return
            one = self.layers[key].held.value.double()
            between = (one + one.roll(1, 0)) / 2
            if _relative_difference(held.value, between) <= AFFINE_ERROR:
                affine.add(key)

        if len(self.images) >= LEAST_IMAGES:
            visit(self.model, (self.images + self.images.roll(1, 0)) / 2, self.setting, receive)
        return affine


def _depends_little(value: torch.Tensor) -> bool:
    """Whether a feature (B, ...) differs between images by no more than its own rounding."""
    precise = value.double()
    spread = float(torch.linalg.vector_norm(precise - precise.mean(0)))
    return spread <= CONSTANT * float(torch.linalg.vector_norm(precise))


def _some(features: Floats) -> Floats:
    """Return finite samples, spread over all."""
    finite = features[np.isfinite(features).all(axis=1)]
    return finite[:: max(1, len(finite) // (2 * FEATURE_SAMPLES))]


def _confirms(later: LayerAction, earlier: LayerAction) -> bool:
    """Whether a later layer is proven to turn under the group of an orthogonal action."""
    if earlier.decision.kind != "orthogonal":
        return later.extension is not None
    group, wanted = later.decision.group, earlier.decision.group
    if not later.decision.proven or group is None or wanted is None:
        return False
    return set(wanted.elements) <= set(group.elements)


def _stood_for(element: Element) -> bool:
    """Whether the fit of the inverse serves: of a turn by more than a half."""
    return not element.mirrored and element.turn > HALF_TURN
