"""How the channels of each layer turn: pairs of samples from moved images, fitted as they arrive."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from eqaudit.engine.base import Key, Setting
from eqaudit.engine.floors import Floors
from eqaudit.engine.samples import (
    LEAST_IMAGES,
    Held,
    chance_of,
    choose_cells,
    finite_pairs,
    rare_cells,
    relative_difference,
    second_half,
    visit,
)
from eqaudit.groups import IDENTITY, MIRROR, Element, Group
from eqaudit.loader import AuditModel
from eqaudit.representations import (
    TRIVIAL_ERROR,
    Decision,
    Extension,
    Floats,
    GeneratorFit,
    LayerAction,
    LeftOut,
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
HALF_TURN = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for: subgroups of ``group``, and resampled turns, ``bases``, relative to ``floors``."""

    group: Group
    bases: tuple[Element, ...]
    floors: Floors


@dataclass(slots=True, eq=False)
class _Layer:
    """What is known of one layer so far.

    ``held`` is the feature of the unmoved images. ``cells`` are those that are sampled at exact elements,
    ``most`` if there are as many as memory should hold; ``orbit`` has samples of all cells by element, where
    they are few.
    """

    held: Held
    cells: torch.Tensor
    features: Floats
    chance: float
    most: bool = False
    fits: dict[Element, GeneratorFit] = field(default_factory=dict)
    orbit: dict[Element, Floats] = field(default_factory=dict)
    decision: Decision = field(default_factory=Decision)
    extensions: list[Extension | None] = field(default_factory=list)

    @property
    def few(self) -> bool:
        """Whether samples come from the whole orbit of each image."""
        return self.held.cells <= FEW_CELLS


Read = Callable[[Key, Held, int], tuple[Floats, ...]]
"""Takes samples of a layer from its feature of some images; they come with the number of the first."""
Handle = Callable[[Key, tuple[Floats, ...]], None]


class LayerFits:
    """One fit: pairs are fitted as they arrive, and only what was found is kept.

    ``shrink`` lets features of float64 wait in float32 where that holds them as well.
    """

    def __init__(
        self,
        model: AuditModel,
        images: torch.Tensor,
        setting: Setting,
        sought: Sought,
        *,
        shrink: bool = True,
    ) -> None:
        self.model, self.images, self.setting, self.sought = model, images, setting, sought
        self.shrink = shrink
        self.layers: dict[Key, _Layer] = {}
        self.left_out: dict[Key, tuple[LeftOut, str]] = {}
        self._hold()
        square = images.shape[-2] == images.shape[-1]
        for element in sought.group.elements:
            if element.exact and element != IDENTITY and (square or not element.quarter_turns % 2):
                self._meet(element)
        for layer in self.layers.values():
            self._fit_orbit(layer)
            layer.decision = decide(sought.group, layer.fits, layer.features)
        for base in sought.bases:
            self._extend(base)

    def actions(self) -> dict[Key, LayerAction]:
        """Return the action of every layer."""
        return {key: self._action(layer) for key, layer in self.layers.items()}

    def _hold(self) -> None:
        """Run the model on the unmoved images, and keep what each layer makes of them."""
        waiting: dict[Key, Held] = {}

        def receive(key: Key, held: Held, first: int) -> None:
            if held.channels > MOST_CHANNELS:
                many = f"{held.channels:,} channels are more than {MOST_CHANNELS:,}: not fitted"
                self.left_out[key] = ("undetermined", many)
                return
            if not first:
                waiting[key] = held.empty(len(self.images), self._precision(held.value))
            whole = waiting.get(key)
            if whole is None or whole.value.shape[1:] != held.value.shape[1:]:
                return
            whole.value[first : first + len(held.value)] = held.value
            if first + len(held.value) == len(self.images):
                self._keep(key, waiting.pop(key))

        visit(self.model, self.images, self.setting, receive)

    def _precision(self, value: torch.Tensor) -> torch.dtype:
        if not self.shrink or value.dtype != torch.float64:
            return value.dtype
        return torch.float32 if relative_difference(value, value.float()) <= CONSTANT else value.dtype

    def _keep(self, key: Key, held: Held) -> None:
        if len(self.images) > 1 and _depends_little(held.value):
            self.left_out[key] = ("degenerate", "it does not depend on the image")
            return
        cells = choose_cells(held, len(self.images), self.setting.seed)
        rare = rare_cells(held, cells)
        chance = chance_of(held.rows(cells), len(self.images))
        few = FEATURE_SAMPLES // len(self.images) + 1
        features = _some(held.rows(torch.cat([cells[:few], rare[:few]])))
        self.layers[key] = _Layer(held, torch.cat([cells, rare]), features, chance)

    def _show(self, images: torch.Tensor, keys: Collection[Key], read: Read, handle: Handle) -> None:
        """Run the model on other images, and hand over samples of some layers once they are of all images.

        A layer whose feature has another shape than that of the unmoved images has none.
        """
        waiting: dict[Key, tuple[Floats, ...]] = {}

        def receive(key: Key, held: Held, first: int) -> None:
            if key not in keys or (first and key not in waiting):
                return
            count = len(held.value)
            if held.value.shape[1:] != self.layers[key].held.value.shape[1:]:
                waiting.pop(key, None)
                return
            found = read(key, held, first)
            if not first:
                # At once for all images: what stays among the features of some leaves no room for others.
                sizes = [(len(rows) // count * len(images), rows.shape[1]) for rows in found]
                waiting[key] = tuple(np.empty(size) for size in sizes)
            for whole, rows in zip(waiting[key], found, strict=True):
                each = len(rows) // count
                whole[first * each : first * each + len(rows)] = rows
            if first + count == len(images):
                handle(key, waiting.pop(key))

        if keys:
            visit(self.model, images, self.setting, receive)

    def _meet(self, element: Element) -> None:
        """Fit layers at an exact element; where samples do not tell, to as many as memory should hold."""
        moved = act(element, self.images, self.setting.space.images).contiguous()

        def read(key: Key, held: Held, _first: int) -> tuple[Floats, ...]:
            layer = self.layers[key]
            return (held.rows(None if layer.few else layer.cells),)

        def handle(key: Key, rows: tuple[Floats, ...]) -> None:
            layer = self.layers[key]
            before = layer.held.moved_cells(element, layer.cells)
            if layer.few:
                layer.orbit[element] = rows[0]
            elif before is not None:
                second = second_half(len(self.images), len(before))
                self._fit(layer, element, rows[0], layer.held.rows(before), second)

        keys = [key for key, layer in self.layers.items() if layer.few or not _stood_for(element)]
        self._show(moved, keys, read, handle)
        self._show(moved, [key for key in keys if self._take_most(self.layers[key], element)], read, handle)

    def _take_most(self, layer: _Layer, element: Element) -> bool:
        """Sample more cells of a layer where its samples do not tell; return whether that was done."""
        found = layer.fits.get(element)
        if found is None or found.determined or layer.most:
            return False
        most = choose_cells(layer.held, len(self.images), self.setting.seed, most=True)
        layer.cells = torch.cat([most, layer.cells[~torch.isin(layer.cells, most)]])
        layer.most = True
        return True

    def _fit(
        self, layer: _Layer, element: Element, moved: Floats, still: Floats, second: NDArray[np.bool_]
    ) -> None:
        pairs = finite_pairs(moved, still, second, layer.chance)
        if pairs.size:
            # Mirrors that are no generator of a Dn are worth a fit only where they are exact.
            thorough = not element.mirrored or element == MIRROR
            layer.fits[element] = fit_generator(pairs, TRIVIAL_ERROR, thorough=thorough)

    def _fit_orbit(self, layer: _Layer) -> None:
        """Fit a layer of few cells from all pairs (F(T_hg x), T_h F(T_g x)) of an orbit."""
        if not layer.orbit:
            return
        orbit = {IDENTITY: layer.held.rows(), **layer.orbit}
        cells = torch.arange(layer.held.cells)
        second = second_half(len(self.images), len(cells))
        for element in layer.orbit:
            before = layer.held.moved_cells(element, cells)
            if _stood_for(element) or before is None:
                continue
            starts = [start for start in orbit if element @ start in orbit]
            moved = np.concatenate([orbit[element @ start] for start in starts])
            still = np.concatenate([_at_cells(orbit[start], before) for start in starts])
            self._fit(layer, element, moved, still, np.tile(second, len(starts)))
        layer.features = _some(np.concatenate(list(orbit.values())))
        layer.orbit.clear()

    def _extend(self, base: Element) -> None:
        """Fit layers at a resampled turn, inside the mask."""
        space, images = self.setting.space, len(self.images)

        def read(key: Key, held: Held, first: int) -> tuple[Floats, ...]:
            mask = space.mask(key, *held.value.shape[-2:]) if held.spatial else None
            cells = choose_cells(held, images, self.setting.seed, mask)
            still = self.layers[key].held.part(first, held)
            expected = still.moved(base, self.setting, space.cells.get(key, 1.0))
            return held.rows(cells), expected.rows(cells)

        def handle(key: Key, rows: tuple[Floats, ...]) -> None:
            layer, (moved, still) = self.layers[key], rows
            second = second_half(images, len(moved) // images)
            pairs = finite_pairs(moved, still, second, centred=False)
            floor = self.sought.floors.raw(key, base)
            layer.extensions.append(extend(base, layer.decision, pairs, floor, layer.chance))

        keys = [key for key, layer in self.layers.items() if can_extend(base, layer.decision)]
        self._show(act(base, self.images, space.images).contiguous(), keys, read, handle)

    def _action(self, layer: _Layer) -> LayerAction:
        extension = best_extension(layer.extensions)
        unused: tuple[Status, str] | None = None
        if extension is None and layer.decision.group is None and undetermined(layer.fits):
            few = f"{len(self.images)} images are too few to tell how {layer.held.channels} channels turn"
            unused = ("undetermined", few)
        return LayerAction.of(layer.decision, extension, layer.features, layer.held.sizes, unused)

    def vacuous(self, made: Mapping[Key, LayerAction]) -> dict[Key, LayerAction]:
        """Return again, as vacuous, what comes before the first nonlinearity and no later layer confirms."""
        mixed = [key for key, action in made.items() if action.mixes]
        affine = self._affine_layers() if mixed else set()
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

        def read(key: Key, held: Held, _first: int) -> tuple[Floats, ...]:
            return (held.rows(self.layers[key].cells),)

        def handle(key: Key, rows: tuple[Floats, ...]) -> None:
            layer = self.layers[key]
            one = layer.held.rows(layer.cells).reshape(len(self.images), -1)
            between = (one + np.roll(one, 1, axis=0)).reshape(rows[0].shape) / 2
            if relative_difference(torch.from_numpy(rows[0]), torch.from_numpy(between)) <= AFFINE_ERROR:
                affine.add(key)

        if len(self.images) >= LEAST_IMAGES:
            self._show((self.images + self.images.roll(1, 0)) / 2, self.layers, read, handle)
        return affine


def _at_cells(rows: Floats, cells: torch.Tensor) -> Floats:
    """Return samples of all cells, image by image, in another order of the cells."""
    found: Floats = rows.reshape(-1, len(cells), rows.shape[1])[:, cells.numpy()].reshape(rows.shape)
    return found


def _depends_little(value: torch.Tensor) -> bool:
    """Whether a feature (B, ...) differs between images by no more than its own rounding."""
    mean = value.mean(0, dtype=torch.float64)
    spread = sum(float((image - mean).square().sum()) for image in value)
    size = sum(float(image.double().square().sum()) for image in value)
    return math.sqrt(spread) <= CONSTANT * math.sqrt(size)


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
