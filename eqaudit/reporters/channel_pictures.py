"""How channels turn, as a picture: the matrix rho(g) of each layer and element, pixels for each channel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eqaudit.holding import full_name
from eqaudit.report import ActionPicture, Report
from eqaudit.reporters.escape import brief
from eqaudit.reporters.figures import DOTS_PER_INCH, new_figure, set_title, wrap

Matrix = NDArray[np.float32]

COLOURS = "RdBu_r"
MOST_LAYERS = 12
MATRIX_PIXELS, MOST_PIXELS = 256, 512
"""Side of a matrix, and of one of many channels; of more a pixel is the largest entry of its block."""
GAP, LINE, HEADER = 24, 22, 90
BAR_ROOM = 110
LEAST_WIDTH, LEAST_HEIGHT = 900, 460
LETTER = 8.5
"""Pixels of a letter of the row titles."""
LINED = 4
"""Pixels of a channel from which on there is room for lines between fields."""
NOTHING = 1e-3


def draw_channels(report: Report, actions: Sequence[ActionPicture]) -> Figure:
    """Draw a row for each layer whose channels turn, a matrix for each element that is given of it."""
    layers = _by_layer(actions)
    rows = layers[:MOST_LAYERS]
    columns = max(len(row) * _pitch(row) for row in rows)
    width = max(LEAST_WIDTH, columns + GAP + BAR_ROOM)
    titles = [_row_title(row, int((width - BAR_ROOM - GAP) / LETTER)) for row in rows]
    heights = [
        _side(row[0].channels) + GAP + LINE * (len(title) + 1)
        for row, title in zip(rows, titles, strict=True)
    ]
    height = max(HEADER + LINE + sum(heights), LEAST_HEIGHT)
    figure = new_figure(width / DOTS_PER_INCH, height / DOTS_PER_INCH)
    # Places are whole pixels, so that each channel has as many as any other.
    figure.set_layout_engine("none")
    top = HEADER + LINE
    for row, title, room in zip(rows, titles, heights, strict=True):
        _draw_row(figure, row, title, top)
        top += room
    _add_bar(figure, HEADER + LINE + LINE * (len(titles[0]) + 1))
    shown = "" if len(layers) <= MOST_LAYERS else f": the first {MOST_LAYERS} of {len(layers)} layers"
    set_title(figure, report, f"How channels turn with the image{shown}")
    figure.suptitle(figure.get_suptitle(), y=1 - GAP / height, fontsize=10, parse_math=False)
    return figure


def _by_layer(actions: Sequence[ActionPicture]) -> list[list[ActionPicture]]:
    """Return the elements of each layer; an output may have the name of the layer before it."""
    rows: list[list[ActionPicture]] = []
    for action in actions:
        known = {(other.layer, other.channels) for other in rows[-1]} if rows else set()
        again = bool(rows) and action.element in {other.element for other in rows[-1]}
        if (action.layer, action.channels) in known and not again:
            rows[-1].append(action)
        else:
            rows.append([action])
    return rows


def recorded_actions(report: Report) -> list[ActionPicture]:
    """Return the permutations that a report lists, for a report without its model and images."""
    return [
        _permutation(full_name(layer), layer.representation.words, action.element, action.source)
        for layer in (*report.layers, *report.outputs)
        if layer.representation is not None and layer.representation.kind == "permutation"
        for action in layer.representation.actions
    ]


def _permutation(layer: str, words: str, element: str, source: Sequence[int]) -> ActionPicture:
    matrix = np.eye(len(source), dtype=np.float32)[np.asarray(source)]
    return ActionPicture(layer, words, element, len(source), matrix.tobytes())


def _row_title(row: Sequence[ActionPicture], letters: int) -> list[str]:
    first = row[0]
    size = f"{first.channels} channel{'' if first.channels == 1 else 's'}"
    block = _block(first.channels)
    cut = "" if block == 1 else f", each pixel {block}x{block} of them"
    return wrap(f"{brief(first.layer)}: {brief(first.words)} ({size}{cut})", letters)


def _draw_row(figure: Figure, row: Sequence[ActionPicture], title: Sequence[str], top: int) -> None:
    matrices = [
        np.frombuffer(action.values, dtype=np.float32).reshape(action.channels, action.channels)
        for action in row
    ]
    _write(figure, "\n".join(title), GAP, top, 9)
    below = top + LINE * len(title)
    edges = field_edges(matrices)
    for place, (action, matrix) in enumerate(zip(row, matrices, strict=True)):
        left = GAP + place * _pitch(row)
        _write(figure, brief(action.element), left, below, 8)
        _draw_matrix(_axes(figure, left, below + LINE, len(matrix)), matrix, edges)


def _write(figure: Figure, text: str, left: int, top: int, size: int) -> None:
    width, height = figure.get_size_inches() * DOTS_PER_INCH
    figure.text(left / width, 1 - top / height, text, fontsize=size, va="top", parse_math=False)


def _axes(figure: Figure, left: int, top: int, channels: int) -> Axes:
    """Return axes for a square matrix whose every channel has the same number of pixels."""
    width, height = figure.get_size_inches() * DOTS_PER_INCH
    side = _side(channels)
    return figure.add_axes((left / width, 1 - (top + side) / height, side / width, side / height))


def _block(channels: int) -> int:
    """Return how many channels share a pixel."""
    return -(-channels // MOST_PIXELS)


def _side(channels: int) -> int:
    pixels = -(-channels // _block(channels))
    return pixels * max(MATRIX_PIXELS // pixels, 1)


def _pitch(row: Sequence[ActionPicture]) -> int:
    return max(_side(row[0].channels), MATRIX_PIXELS // 2) + GAP


def _draw_matrix(axes: Axes, matrix: Matrix, edges: Sequence[int]) -> None:
    axes.imshow(_shrunk(matrix), COLOURS, vmin=-1, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color="0.6", linewidth=0.5)
    if len(matrix) * LINED <= MATRIX_PIXELS:
        for edge in edges:
            axes.axhline(edge - 0.5, color="0.6", linewidth=0.4)
            axes.axvline(edge - 0.5, color="0.6", linewidth=0.4)


def _shrunk(matrix: Matrix) -> Matrix:
    """Return a matrix of at most 512 rows: of each block of entries the one that is furthest from 0."""
    block = _block(len(matrix))
    if block == 1:
        return matrix
    count = -(-len(matrix) // block)
    padded = np.zeros((count * block, count * block), dtype=np.float32)
    padded[: len(matrix), : len(matrix)] = matrix
    blocks = padded.reshape(count, block, count, block).swapaxes(1, 2).reshape(count, count, -1)
    furthest = np.abs(blocks).argmax(axis=-1)[..., None]
    return np.take_along_axis(blocks, furthest, axis=-1)[..., 0]


def field_edges(matrices: Sequence[Matrix]) -> list[int]:
    """Return where a field ends and another begins: where no matrix (C, C) sends a channel across.

    Empty where fields do not lie beside each other. Channels that are a field of their own, among others
    of that kind, get no lines between them.
    """
    joined = np.max([np.abs(matrix) > NOTHING for matrix in matrices], axis=0)
    places = np.arange(len(joined))
    reach = np.where(joined | joined.T, places, 0).max(axis=1)
    furthest = np.maximum.accumulate(np.maximum(reach, places))
    ends = [0, *(int(place) + 1 for place in np.flatnonzero(furthest == places))]
    sizes = np.diff(ends)
    return [end for end, (one, two) in zip(ends[1:-1], pairwise(sizes), strict=True) if max(one, two) > 1]


def _add_bar(figure: Figure, top: int) -> None:
    width, height = figure.get_size_inches() * DOTS_PER_INCH
    place = (
        1 - 0.75 * BAR_ROOM / width,
        1 - (top + MATRIX_PIXELS) / height,
        14 / width,
        MATRIX_PIXELS / height,
    )
    bar = figure.colorbar(ScalarMappable(Normalize(-1, 1), COLOURS), cax=figure.add_axes(place))
    bar.set_ticks([-1, 0, 1])
    bar.ax.tick_params(labelsize=7)
