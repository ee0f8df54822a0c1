"""What can be drawn only by whoever has the images and the model: no part of a report."""

from typing import Literal

from eqaudit.report.base import Record
from eqaudit.report.context import Skipped


class PanelImage(Record, frozen=True):
    """One picture of a panel: float32 values, a map (C, H, W) or a vector (K,)."""

    title: str
    shape: tuple[int, ...]
    values: bytes


class Panel(Record, frozen=True):
    """The worst case of a sweep: an image, its moved copy, and what the model makes of both.

    It holds pictures, so it is no part of a report: it is drawn by the audit, or not at all.
    """

    image: str
    element: str
    degrees: float
    sentence: str
    pictures: list[PanelImage]


class ActionPicture(Record, frozen=True):
    """What one element does to the channels of one layer, to be drawn: float32 values of a matrix (C, C)."""

    layer: str
    words: str
    element: str
    channels: int
    values: bytes


class FeatureRow(Record, frozen=True):
    """Some channels of one layer for one image: maps (P, H, W), or the difference between two rows of them.

    ``image`` is what the model was shown, where the row is what came of it.
    """

    title: str
    kind: Literal["maps", "difference"]
    maps: PanelImage
    image: PanelImage | None = None


class FeaturePicture(Record, frozen=True):
    """One layer for an image and its turned copies. ``fields`` are the channels drawn, field by field.

    ``channels`` is how many there are, ``words`` how they turn with the image.
    """

    layer: str
    words: str
    channels: int
    fields: list[list[int]]
    rows: list[FeatureRow]


class PooledFeature(Record, frozen=True):
    """What one layer makes of an image: the mean size of its channels (H, W), the mean of each channel (C,).

    ``map`` is None where the layer has no space. The first of several is the input, in its own channels.
    """

    layer: str
    map: PanelImage | None
    means: PanelImage


class Features(Record, frozen=True):
    """What layers make of one image, and kernels (out, in, height, width) of convolutions, to be drawn.

    ``undrawn`` says of each other layer that was asked for why it is not drawn. ``pooled`` is there instead
    of all else where only that was asked for.
    """

    image: str
    layers: list[FeaturePicture]
    kernels: list[PanelImage]
    undrawn: list[Skipped]
    pooled: list[PooledFeature] = []
