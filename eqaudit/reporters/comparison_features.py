"""What layers of several models make of one image: maps pooled over channels, bars pooled over the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eqaudit.comparison import Comparison
from eqaudit.report import Features, PooledFeature
from eqaudit.reporters.comparison_figures import Compared, compared_models
from eqaudit.reporters.escape import brief, shorten
from eqaudit.reporters.feature_pictures import MAPS, draw_image, false_colours, read_array
from eqaudit.reporters.figures import PAGE_WIDTH, finite_range, hide_ticks, new_figure, wrap

SIDE = 1.3
"""Inches of a map; its bars are half as high."""
LONGEST_NAME = 24
IMAGE_DIMENSIONS = 3


def draw_pooled(comparison: Comparison, features: Sequence[Features]) -> Figure | None:
    """Draw two rows for each model; None where no layer was measured, or the comparison was saved."""
    if not any(len(found.pooled) > 1 for found in features):
        return None
    models = compared_models(comparison)
    columns = max(len(found.pooled) for found in features)
    figure = new_figure(max(SIDE * columns + 0.6, PAGE_WIDTH), 1.9 * SIDE * len(models) + 0.8)
    grid = figure.subplots(2 * len(models), columns, squeeze=False, height_ratios=[2, 1] * len(models))
    for model, found, row in zip(models, features, range(0, len(grid), 2), strict=True):
        _draw_model(model, found, grid[row], grid[row + 1])
    lines = wrap(f"Features of {brief(features[0].image)}: mean size over channels, and mean of each channel")
    figure.suptitle("\n".join(lines), fontsize=10, parse_math=False)
    return figure


def _draw_model(model: Compared, features: Features, maps: Sequence[Axes], bars: Sequence[Axes]) -> None:
    maps[0].set_ylabel("\n".join(wrap(model.label, 28)), fontsize=7, parse_math=False)
    for above, below, pooled in zip(maps, bars, features.pooled, strict=False):
        _draw_layer(above, below, pooled, model.colour)
    for unused in (*maps[len(features.pooled) :], *bars[len(features.pooled) :]):
        unused.set_axis_off()


def _draw_layer(above: Axes, below: Axes, pooled: PooledFeature, colour: str) -> None:
    means = np.nan_to_num(read_array(pooled.means))
    name = shorten(brief(pooled.layer), LONGEST_NAME)
    above.set_title(
        f"{name}\n{len(means)} channel{'' if len(means) == 1 else 's'}", fontsize=7, parse_math=False
    )
    hide_ticks(above)
    if pooled.map is None:
        # As large as a map, so that titles stand in a row.
        above.set_box_aspect(1)
        above.spines[:].set_visible(False)
    else:
        array = read_array(pooled.map)
        low, high = finite_range([array])
        is_input = array.ndim == IMAGE_DIMENSIONS
        tile = draw_image(array, low, high) if is_input else false_colours(array, low, high, MAPS)
        above.imshow(tile, interpolation="nearest")
    below.stairs(means, np.arange(len(means) + 1), fill=True, color=colour)
    below.axhline(0, color="0.3", linewidth=0.5)
    below.set_xticks([])
    below.tick_params(labelsize=6, length=2)
    below.locator_params(axis="y", nbins=3)
    below.spines[["top", "right", "bottom"]].set_visible(False)
