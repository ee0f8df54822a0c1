"""The axis of angles: the poses of a sweep in order, what lies between them, and its ticks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from eqaudit.report import GroupElement, Report
from eqaudit.reporters.figures import PAGE_WIDTH

FloatArray = NDArray[np.float64]

LONE_SPAN = 10.0
MOST_TICKS = 9
TICK_STEPS = (0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 45, 90, 180)
WIDEST_CELL = 1 / 16
ROOM = 8.0
POINTS = 0.88 * PAGE_WIDTH * 72
"""Width of an axis across the page, in points."""


@dataclass(frozen=True, slots=True)
class Angles:
    """The turns of a sweep, or its mirrored ones, by increasing angle."""

    mirrored: bool
    names: list[str]
    degrees: FloatArray
    exact: NDArray[np.bool_]

    @property
    def title(self) -> str:
        """What is done to the image."""
        return "T mirrors and turns" if self.mirrored else "T turns"

    @property
    def gap(self) -> float:
        """The least distance between two angles, in degrees."""
        return float(np.diff(self.degrees).min()) if len(self.degrees) > 1 else LONE_SPAN

    @property
    def span(self) -> float:
        """The distance between the first and the last angle, in degrees."""
        return max(float(self.degrees[-1] - self.degrees[0]), self.gap)

    @property
    def width(self) -> float:
        """The width of a box or bar at one angle, in degrees."""
        gaps = np.diff(self.degrees) if len(self.degrees) > 1 else [self.gap]
        # Two angles that are close to each other do not make slivers of all boxes.
        least = min(0.7 * float(np.median(gaps)), self.span / 100)
        return float(np.clip(0.7 * self.gap, least, self.span * WIDEST_CELL))

    @property
    def points(self) -> float:
        """The width of a box or bar in points, for lines and marks that fit in it."""
        return POINTS * self.width / self.span

    @property
    def sparse(self) -> bool:
        """Whether each angle has room for its own interval, beside a band through all."""
        return self.points > ROOM

    def take(self, values: Mapping[str, float | None]) -> FloatArray:
        """Return a value for each angle; NaN where there is none."""
        found = [values.get(name) for name in self.names]
        return np.array([np.nan if value is None else value for value in found], dtype=np.float64)

    def take_ends(self, intervals: Mapping[str, tuple[float, float] | None]) -> tuple[FloatArray, FloatArray]:
        """Return the lower and the upper end of an interval for each angle."""
        known = {name: ends for name, ends in intervals.items() if ends is not None}
        return self.take({name: ends[0] for name, ends in known.items()}), self.take(
            {name: ends[1] for name, ends in known.items()}
        )

    def cells(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return values and edges for `Axes.stairs`: a cell around each angle, NaN between."""
        left, right = self._sides()
        numbers, edges = [values[0]], [left[0], right[0]]
        for place in range(1, len(values)):
            if left[place] > edges[-1]:
                numbers.append(np.nan)
                edges.append(left[place])
            numbers.append(values[place])
            edges.append(right[place])
        return np.array(numbers), np.array(edges)

    def _sides(self) -> tuple[FloatArray, FloatArray]:
        middles = (self.degrees[1:] + self.degrees[:-1]) / 2
        reach = self.span * WIDEST_CELL
        ends = self.degrees[[0, -1]] + np.array([-0.5, 0.5]) * self.gap
        left = np.maximum(np.append(ends[0], middles), self.degrees - reach)
        right = np.minimum(np.append(middles, ends[1]), self.degrees + reach)
        return left, right

    def set_axis(self, axes: Axes) -> None:
        """Give axes the limits and the ticks of these angles."""
        left, right = self._sides()
        axes.set_xlim(left[0] - 0.01 * self.span, right[-1] + 0.01 * self.span)
        ticks = self.ticks()
        axes.set_xticks(ticks, [f"{tick:g}°" for tick in ticks])

    def ticks(self) -> list[float]:
        """Return the angles themselves when they are few, else every 45 degrees of a full circle."""
        first, last = float(self.degrees[0]), float(self.degrees[-1])
        if len(self.degrees) <= MOST_TICKS and self.gap >= self.span / 20:
            return [float(angle) for angle in self.degrees]
        step = next(step for step in TICK_STEPS if self.span / step < MOST_TICKS)
        return [place * step for place in range(int(np.ceil(first / step)), int(np.floor(last / step)) + 1)]


def angle_rows(report: Report) -> list[Angles]:
    """Return the turns of a sweep, then its mirrored poses: each gets axes of its own."""
    rows = []
    for mirrored in (False, True):
        poses = sorted(
            (pose for pose in report.group.elements if pose.mirrored == mirrored),
            key=lambda pose: pose.degrees,
        )
        if poses:
            rows.append(_angles(poses, mirrored=mirrored))
    return rows


def _angles(poses: list[GroupElement], *, mirrored: bool) -> Angles:
    return Angles(
        mirrored,
        [pose.name for pose in poses],
        np.array([pose.degrees for pose in poses], dtype=np.float64),
        np.array([pose.exact for pose in poses]),
    )
