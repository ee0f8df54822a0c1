"""Samples of features for fitting how channels turn: a seeded choice of cells of each map, image by image."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eqaudit.engine.base import Key, Setting, stream
from eqaudit.engine.references import layout_of
from eqaudit.groups import Element, Group
from eqaudit.loader import AuditModel, Feature
from eqaudit.representations import Floats, Pairs, with_one_channel_dimension
from eqaudit.transforms import Layout, UnknownLayoutError, act, move_exactly

LEAST_SAMPLES = 2048
SAMPLES_PER_CHANNEL = 4
MOST_SAMPLES, MOST_VALUES = 32_768, 2**24
RARELY_SEEN = 0.1
DEAD = 1e-6
PLACES = 8
LEAST_IMAGES = 2
"""Half of the images fits what the other half is judged under; of one image, half of the cells."""

Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The feature of one layer for all images, space last; ``sizes`` are its channel dimensions."""

    value: torch.Tensor
    spatial: bool
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, value: torch.Tensor, layout: Layout) -> Held:
        """Read a tensor, batch first, as a layout says."""
        last = layout.space_last(value)
        return cls(
            last, layout.spatial, tuple(last.shape[1:-2] if layout.spatial else last.shape[1:]) or (1,)
        )

    @property
    def cells(self) -> int:
        """How many cells a map has; 1 of a vector."""
        return math.prod(self.value.shape[-2:]) if self.spatial else 1

    @property
    def channels(self) -> int:
        """How many channels there are along all channel dimensions."""
        return math.prod(self.sizes)

    def copy(self) -> Held:
        """Return the same feature in memory of its own."""
        return Held(self.value.clone(), self.spatial, self.sizes)

    def empty(self, images: int, dtype: torch.dtype) -> Held:
        """Return memory for the same feature of so many images."""
        value = self.value.new_empty((images, *self.value.shape[1:]), dtype=dtype)
        return Held(value, self.spatial, self.sizes)

    def part(self, first: int, like: Held) -> Held:
        """Return the feature of some images only, as many as another has, in the other's precision."""
        value = self.value[first : first + len(like.value)]
        return Held(value.to(like.value.dtype), self.spatial, self.sizes)

    def moved_cells(self, element: Element, cells: torch.Tensor) -> torch.Tensor | None:
        """Return which cell comes to each of these under an exact element; None where a side changes."""
        if not self.spatial:
            return cells
        sides = self.value.shape[-2:]
        places = move_exactly(
            torch.arange(self.cells).view(*sides), element.quarter_turns, mirrored=element.mirrored
        )
        return places.flatten()[cells] if places.shape == sides else None

    def rows(self, cells: torch.Tensor | None = None) -> Floats:
        """Return samples (N, C), image by image, at these cells, or at all."""
        rows = with_one_channel_dimension(self.value, spatial=self.spatial)
        if self.spatial:
            cells = torch.arange(self.cells) if cells is None else cells
            places = cells.to(rows.device).expand(*rows.shape[:2], len(cells))
            rows = rows.flatten(2).gather(2, places).transpose(1, 2)
        samples: Floats = rows.reshape(-1, self.channels).double().cpu().numpy()
        return samples

    def moved(self, element: Element, setting: Setting, cell: float) -> Held:
        """Return T_g of the feature; a vector stays as it is."""
        if not self.spatial:
            return self
        value = self.value
        if not element.exact:
            value = value.to(torch.promote_types(value.dtype, torch.float32))
        return Held(act(element, value, setting.space.features, cell), self.spatial, self.sizes)


def visit(
    model: AuditModel, images: torch.Tensor, setting: Setting, handle: Callable[[Key, Held, int], None]
) -> None:
    """Run the model on images, in as many batches as it takes; hand over each kept layer of known layout.

    ``handle`` gets its key, its feature of the images of one batch, which may change when it returns, and the
    number of the first of them.
    """
    sides = (images.shape[-2], images.shape[-1])
    for first in range(0, len(images), setting.batch_size):
        part = images[first : first + setting.batch_size]

        def receive(key: Key, feature: Feature, first: int = first, count: int = len(part)) -> None:
            if setting.keep(key) and feature.value is not None:
                with contextlib.suppress(UnknownLayoutError):
                    layout = layout_of(key, feature.value, count, sides, setting)
                    handle(key, Held.of(feature.value, layout), first)

        stream(model, part, setting, receive)


def choose_cells(
    held: Held, images: int, seed: int, mask: torch.Tensor | None = None, *, most: bool = False
) -> torch.Tensor:
    """Return which cells of a map are sampled, the same for all images.

    ``mask`` (H, W) says which may be; ``most`` takes as many as memory should hold.
    """
    if not held.spatial:
        return torch.zeros(1, dtype=torch.long)
    usable = torch.arange(held.cells)
    if mask is not None:
        usable = usable[mask.flatten()]
    wanted = max(LEAST_SAMPLES, SAMPLES_PER_CHANNEL * held.channels) // images + 1
    if most:
        wanted = max(wanted, min(MOST_SAMPLES, MOST_VALUES // held.channels) // images)
    generator = torch.Generator().manual_seed(seed)
    return usable[torch.randperm(len(usable), generator=generator)[:wanted]]


def rare_cells(held: Held, cells: torch.Tensor) -> torch.Tensor:
    """Return cells where channels live that are all but dead at the others, for either half of the images.

    They come with all turns and mirrors of theirs, so that any exact element finds them again.
    """
    if not held.spatial:
        return cells[:0]
    sizes = with_one_channel_dimension(held.value, spatial=True).flatten(2).abs()
    found = []
    for half in (sizes[::2], sizes[1::2]):
        if len(half):
            largest = half.amax(dim=0)
            peaks, places = largest.topk(min(PLACES, held.cells), dim=1)
            seen = half[:, :, cells.to(half.device)].amax(dim=(0, 2))
            rare = (seen < RARELY_SEEN * peaks[:, 0]) & (peaks[:, 0] > DEAD * peaks.max())
            found.append(places[rare].flatten())
    alone = distinct(torch.cat(found).cpu())[: MOST_VALUES // (8 * held.channels * len(sizes))]
    moved = [held.moved_cells(element, alone) for element in Group.named("D4").elements]
    return distinct(torch.cat([places for places in moved if places is not None]))


def distinct(cells: torch.Tensor) -> torch.Tensor:
    """Return cells in order, each once."""
    return torch.tensor(sorted(set(cells.tolist())), dtype=torch.long)


def second_half(images: int, cells: int) -> Booleans:
    """Return which samples belong to the second half: every other image, or of one image every other cell."""
    places = np.arange(cells) if images < LEAST_IMAGES else np.repeat(np.arange(images), cells)
    second: Booleans = places % 2 == 1
    return second


def finite_pairs(
    moved: Floats, still: Floats, second: Booleans, chance: float = math.inf, *, centred: bool = True
) -> Pairs:
    """Return pairs without the samples that are not finite."""
    finite = np.isfinite(moved).all(axis=1) & np.isfinite(still).all(axis=1)
    if finite.all():
        return Pairs(moved, still, second, centred, chance)
    return Pairs(moved[finite], still[finite], second[finite], centred, chance)


def chance_of(samples: Floats, images: int) -> float:
    """Return the error between unrelated images of samples (N, C), image by image, beside their spread.

    sum_{i != j} |F_i - F_j|^2 = 2 n sum_i |F_i - mean|^2, cell by cell, where all are finite; of one image
    it is not known.
    """
    if images < LEAST_IMAGES:
        return math.inf
    by_image = samples.reshape(images, -1, samples.shape[1])
    by_image = by_image[:, np.isfinite(by_image).all(axis=(0, 2))]
    if not by_image.size:
        return math.inf
    between = float(np.square(by_image - by_image.mean(axis=0)).sum())
    spread = float(np.square(by_image - by_image.mean(axis=(0, 1))).sum())
    return math.sqrt(2 * images / (images - 1) * between / spread) if spread else math.inf


def relative_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return |one - other| / |one - mean|, over all values; what is not finite counts as no difference."""
    one = one.double()
    size = float(torch.linalg.vector_norm(one - one.mean()))
    apart = float(torch.linalg.vector_norm(one - other)) / size if size else 0.0
    return apart if math.isfinite(apart) else 0.0
