"""Features as pictures: what a layer makes of an image and of its turned copies, and its kernels."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eqaudit.report import FeaturePicture, Features, PanelImage, Report
from eqaudit.reporters.escape import brief
from eqaudit.reporters.figures import (
    DOTS_PER_INCH,
    PAGE_WIDTH,
    Array,
    as_colours,
    describe_row,
    finite_range,
    new_figure,
    set_title,
)

MAPS, DIFFERENCES, INPUTS = "cividis", "RdBu_r", "gray"
TILE, SMALL_TILE = 96, 36
"""Pixels on a side of a map, and of a kernel."""
GAP, WIDE_GAP = 4, 16
LABELS, TITLE, HEAD = 1.7, 0.9, 0.6
"""Inches for what stands beside the rows of a block, above it, and above all."""
COLOURS, ROWS_OF_A_TURN = 3, 3

Tiles = Sequence[Sequence[Array | None]]
"""Rows of pictures (H, W, 3) in 0..1; None for an empty place."""


def draw_features(report: Report, features: Features) -> Figure:
    """Draw a block for each layer: F(x), and for each turn F(T x), that turned back, and the difference.

    The maps of a field share one scale, that of their middle, and its differences have that width: what
    cannot be seen is small. Borders, and what lies outside of a disc window, may be off the scale.
    """
    columns = [_starts([1, *map(len, layer.fields)], TILE) for layer in features.layers]
    tops = [
        _starts([1, *[ROWS_OF_A_TURN] * (len(layer.rows) // ROWS_OF_A_TURN)], TILE)
        for layer in features.layers
    ]
    figure, blocks = _blocks(columns, tops, TILE)
    for axes, layer, lefts, rows in zip(blocks, features.layers, columns, tops, strict=True):
        _show(axes, _tiles(layer), lefts, rows, TILE)
        numbers = [str(channel) for field in layer.fields for channel in field]
        axes.set_xticks([left + TILE / 2 for left in lefts], ["input", *numbers], fontsize=7)
        axes.set_yticks([top + TILE / 2 for top in rows], [row.title for row in layer.rows], fontsize=8)
        shown = f"{len(numbers)} of {layer.channels} channels"
        describe_row(axes, f"{brief(layer.layer)}: {brief(layer.words)} ({shown})")
    set_title(figure, report, f"Features of {brief(features.image)} and of its turned copies")
    return figure


def draw_kernels(report: Report, kernels: Sequence[PanelImage]) -> Figure:
    """Draw the kernels of each layer: a row for each output channel, a column for each input channel."""
    columns = [_starts([kernel.shape[1]], SMALL_TILE) for kernel in kernels]
    tops = [_starts([kernel.shape[0]], SMALL_TILE) for kernel in kernels]
    figure, blocks = _blocks(columns, tops, SMALL_TILE)
    for axes, kernel, lefts, rows in zip(blocks, kernels, columns, tops, strict=True):
        weights = read_array(kernel)
        reach = float(np.abs(np.nan_to_num(weights)).max()) or 1.0
        tiles = [[false_colours(part, -reach, reach, DIFFERENCES) for part in row] for row in weights]
        _show(axes, tiles, lefts, rows, SMALL_TILE)
        axes.set_xticks([left + SMALL_TILE / 2 for left in lefts], map(str, range(len(lefts))), fontsize=7)
        axes.set_yticks([top + SMALL_TILE / 2 for top in rows], map(str, range(len(rows))), fontsize=7)
        describe_row(axes, f"{brief(kernel.title)}: blue below 0, red above, to {reach:.3g}")
    set_title(figure, report, "Kernels: output channels down, input channels across")
    return figure


def read_array(picture: PanelImage) -> Array:
    """Return the values of a picture in their shape."""
    return np.frombuffer(picture.values, dtype=np.float32).reshape(picture.shape)


def _tiles(layer: FeaturePicture) -> Tiles:
    """Return the input, where the row has one, and the maps of each row."""
    maps = [read_array(row.maps) for row in layer.rows]
    inputs = [None if row.image is None else read_array(row.image) for row in layer.rows]
    dark, bright = finite_range([image for image in inputs if image is not None])
    tiles: list[list[Array | None]] = [
        [None if image is None else draw_image(image, dark, bright)] for image in inputs
    ]
    first = 0
    for field in layer.fields:
        planes = [part[first : first + len(field)] for part in maps]
        first += len(field)
        shown = [part for part, row in zip(planes, layer.rows, strict=True) if row.kind == "maps"]
        low, high = finite_range([_middle(part) for part in shown])
        reach = (high - low) / 2
        scales = {"maps": (low, high, MAPS), "difference": (-reach, reach, DIFFERENCES)}
        for row, strip, part in zip(layer.rows, tiles, planes, strict=True):
            strip += [false_colours(plane, *scales[row.kind]) for plane in part]
    return tiles


def _middle(maps: Array) -> Array:
    """Return what is left of maps (P, H, W) inside the square in the inscribed disc, less a tenth."""
    down, right = (int(0.18 * side) for side in maps.shape[-2:])
    return maps[:, down : maps.shape[-2] - down, right : maps.shape[-1] - right]


def draw_image(image: Array, low: float, high: float) -> Array:
    """Return an image (C, H, W) in its colours, or its first channel in grey."""
    if len(image) == COLOURS:
        return as_colours(image, low, high)
    return false_colours(image[0], low, high, INPUTS)


def false_colours(plane: Array, low: float, high: float, name: str) -> Array:
    """Return a map (H, W) in the colours of that name, (H, W, 3)."""
    scaled = np.clip((np.nan_to_num(plane) - low) / (high - low), 0, 1)
    colours: Array = mpl.colormaps[name](scaled)[..., :COLOURS].astype(np.float32)
    return colours


def _starts(groups: Sequence[int], side: int) -> list[int]:
    """Return where tiles of one side start, in pixels, with wider gaps between groups of so many of them."""
    starts: list[int] = []
    place = 0
    for count in groups:
        starts += [place + number * (side + GAP) for number in range(count)]
        place = starts[-1] + side + WIDE_GAP
    return starts


def _blocks(columns: Sequence[list[int]], tops: Sequence[list[int]], side: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of axes below each other, large enough for tiles of their own pixels."""
    heights = [(rows[-1] + side) / DOTS_PER_INCH + TITLE for rows in tops]
    width = max((lefts[-1] + side) / DOTS_PER_INCH for lefts in columns) + LABELS
    figure = new_figure(max(width, PAGE_WIDTH), sum(heights) + HEAD)
    grid = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
    return figure, list(grid[:, 0])


def _show(axes: Axes, tiles: Tiles, lefts: Sequence[int], tops: Sequence[int], side: int) -> None:
    """Draw tiles as one picture on white: axes for each would take minutes."""
    canvas = np.ones((tops[-1] + side, lefts[-1] + side, COLOURS), dtype=np.float32)
    places = np.arange(side)
    for top, row in zip(tops, tiles, strict=True):
        for left, tile in zip(lefts, row, strict=True):
            if tile is not None:
                down, right = (places * size // side for size in tile.shape[:2])
                canvas[top : top + side, left : left + side] = tile[down][:, right]
    axes.imshow(canvas, interpolation="nearest")
    axes.set_anchor("W")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
