"""What the parts of the engine share: the setting of an audit and its progress."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from eqaudit.groups import Pose
from eqaudit.loader import AuditModel, Feature
from eqaudit.metrics import Task
from eqaudit.plan import Boundary
from eqaudit.representations import Channels
from eqaudit.transforms import Layout, Points, Resampler, choose_points, disc_mask, disc_window

FEW_CELLS, CELLS_PER_POINT, LEAST_POINTS, MOST_POINTS = 256, 32, 128, 512
"""Up to so many cells all are compared; of larger maps one in so many, and so many at least and at most."""
MANY_IMAGES = 64
"""Of fewer images maps are compared at more points, so that together they are as many."""
Progress = Callable[[str, int, int], None]
Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Space:
    """How images and features are moved where pixels do not move to pixels.

    ``cells`` is the side of one cell of each tensor in pixels of the image, ``periods`` that of the
    coarsest grid on its way. ``margin`` is in those pixels too: what lies further out than the inscribed
    circle less the margin is no content of a ``disc``, and counts nowhere. None leaves it to ``radii``, the
    receptive radius of each tensor, which only borders that are filled need. ``every_point``: also large maps
    are compared at every cell; else at fewer the more ``samples`` there are.
    """

    images: Resampler
    features: Resampler
    boundary: Boundary
    margin: float | None
    cells: Mapping[Key, float]
    periods: Mapping[Key, float]
    radii: Mapping[Key, float] = field(default_factory=dict)
    every_point: bool = False
    samples: int = MANY_IMAGES
    _points: dict[tuple[int, int, float, bool], Points | None] = field(default_factory=dict)

    def window(self, images: torch.Tensor, margin: float = 0.0) -> torch.Tensor:
        """Return the images (B, C, H, W) as the boundary wants them, before any move.

        ``margin``, in pixels, leaves room for a shift.
        """
        if self.boundary != "disc":
            return images
        whole = (self.margin or 0.0) + margin
        return images * disc_window(images.shape[-2], images.shape[-1], whole).to(images)

    def mask(self, key: Key, height: int, width: int) -> torch.Tensor:
        """Return the valid mask of a map, (H, W) bool: the inscribed disc less the margin."""
        return disc_mask(height, width, self._margin(key))

    def points(self, key: Key, height: int, width: int, device: torch.device) -> Points | None:
        """Return where a map is compared at resampled turns, inside its valid mask; None for nowhere.

        Every cell of an output and of a small map; of a larger one a share, the same for all images.
        """
        cells = height * width
        whole = self.every_point or key[0] == "output" or cells <= FEW_CELLS
        known = (height, width, self._margin(key), whole)
        if known not in self._points:
            mask = disc_mask(height, width, self._margin(key)).to(device)
            of_many = min(max(cells // CELLS_PER_POINT, LEAST_POINTS), MOST_POINTS)
            count = of_many * MANY_IMAGES // min(self.samples, MANY_IMAGES)
            self._points[known] = choose_points(mask, None if whole else count, 0) if mask.any() else None
        return self._points[known]

    def _margin(self, key: Key) -> float:
        margin = self.radii.get(key, 0.0) if self.margin is None else self.margin
        return margin / self.cells.get(key, 1.0)


@dataclass(frozen=True, slots=True)
class Setting:
    """How the model is called in this audit, and what is compared.

    ``fixed_batch`` is the only batch size that the model runs at, or None when it takes any.
    ``swaps_sides`` says whether some element turns by 90 degrees, which needs square images and maps.
    ``keep`` says which tensors are measured, by key: (``layer`` or ``output``, name, call); ``layers`` if
    any layer is. ``gating`` is the key of the output that is judged, ``task`` how it is read. ``layouts`` are
    the possible readings of each tensor, the one to use first; ``channels`` is how their channels turn.
    ``coarse`` is a precision below float32, where only the float64 rerun tells what is exact.
    """

    poses: tuple[Pose, ...]
    seed: int
    batch_size: int
    fixed_batch: int | None
    swaps_sides: bool
    keep: Callable[[Key], bool]
    layers: bool
    gating: Key
    space: Space
    layouts: Mapping[Key, tuple[Layout, ...]] = field(default_factory=dict)
    channels: Channels = field(default_factory=Channels)
    task: Task | None = None
    coarse: bool = False

    @property
    def resamples(self) -> bool:
        """Whether some pose moves pixels between pixels."""
        return not all(pose.exact for pose in self.poses)

    def only_exact(self) -> Setting:
        """Return the setting of the poses that move pixels to pixels, without a task."""
        return dataclasses.replace(self, poses=tuple(pose for pose in self.poses if pose.exact), task=None)


def few_at_once(setting: Setting, images: int) -> Setting:
    """Return the setting for float64, where a convolution unfolds its images to nine times what they take.

    It works through them one by one at any batch size, so that two at once take no more time than many. Never
    one alone, if that can be: some models squeeze their batch away then.
    """
    size = next((size for size in range(2, images) if images % size != 1), images)
    return dataclasses.replace(setting, batch_size=setting.fixed_batch or min(size, setting.batch_size))


def run_on(
    model: AuditModel,
    images: torch.Tensor,
    setting: Setting,
    on_feature: Callable[[Feature], None] | None = None,
) -> list[Feature]:
    """Run the model on images (B, C, H, W); a model of one batch size gets padding, which never counts."""
    real = len(images)
    if setting.fixed_batch is None or setting.fixed_batch == real:
        return model.run(images, on_feature)
    padded = torch.cat([images, images[-1:].expand(setting.fixed_batch - real, *images.shape[1:])])

    def without_padding(feature: Feature) -> Feature:
        if feature.value is None or feature.value.shape[0] != setting.fixed_batch:
            return feature
        return feature.replace(feature.value[:real])

    hook = None if on_feature is None else lambda feature: on_feature(without_padding(feature))
    return [without_padding(feature) for feature in model.run(padded, hook)]


def stream(
    model: AuditModel, images: torch.Tensor, setting: Setting, receive: Callable[[Key, Feature], None]
) -> None:
    """Run the model and hand over the feature of each tap, then each output tensor, with its key.

    Where no layer is measured the model runs as it is, without taps.
    """

    def on_feature(feature: Feature) -> None:
        receive(("layer", feature.name, feature.call), feature)

    outputs = run_on(model, images, setting, on_feature if setting.layers else None)
    for output in outputs:
        receive(("output", output.name, output.call), output)


def full_name(key: Key) -> str:
    """Return the name of a tensor; later calls of the same module are numbered: ``conv1#1``."""
    return f"{key[1]}#{key[2]}" if key[2] else key[1]


def on_device(images: NDArray[np.float32], model: AuditModel) -> torch.Tensor:
    """Return a batch where the model is."""
    return as_tensor(images).to(model.device)


def as_tensor(images: NDArray[np.float32]) -> torch.Tensor:
    """Return a batch as a tensor of its own memory."""
    return torch.from_numpy(np.ascontiguousarray(images))


def finite_or_none(value: float) -> float | None:
    """Return a number as the report may hold it: None instead of NaN or infinity."""
    return float(value) if math.isfinite(value) else None
