"""What every task shares: a scene (how images were moved), and values of images, joined batch by batch."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from eqaudit.report import Spread
from eqaudit.statistics import Floats, Grown, Integers, lasting, mean_intervals
from eqaudit.transforms import Action, Resampler, act

MOST_OUTLIERS = 100
WHISKER = 1.5
NEAREST = Resampler("nearest", "reflect")


@dataclass(frozen=True, slots=True)
class Scene:
    """How one batch was moved, for whoever compares an output with that of the unmoved images.

    ``inside`` is the valid mask (H, W) of an output that is a map, None where every pixel counts; ``cell`` as
    in `act`. ``targets`` is the truth of the batch.
    """

    action: Action
    resampler: Resampler
    inside: torch.Tensor | None
    cell: float
    targets: NDArray[np.int64] | None

    def move_map(self, maps: torch.Tensor) -> torch.Tensor:
        """Move maps of numbers, (..., H, W)."""
        return act(self.action, maps, self.resampler, self.cell)

    def move_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Move integer labels, (..., H, W), by nearest neighbour: no label is mixed with another."""
        return act(self.action, labels.float(), NEAREST, self.cell).long()


class Values(Protocol):
    """Arrays of one value for each image, (B, ...) each; a frozen dataclass."""

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Which images have finite outputs, (B,)."""


ValuesT = TypeVar("ValuesT", bound=Values)
ArraysT = TypeVar("ArraysT")


def join(parts: Sequence[ValuesT], axis: int = 0) -> ValuesT:
    """Append the images of several batches; a field that is None in one part is None."""
    first = parts[0]
    columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(first)}  # type: ignore[arg-type]
    return type(first)(
        **{
            name: None if any(part is None for part in column) else lasting(column, axis)
            for name, column in columns.items()
        }
    )


def append_fields(columns: MutableMapping[str, Any], other: object) -> None:
    """Append to each column the field of its name; a column that is None, or is given None, is None then."""
    for name, column in columns.items():
        part = getattr(other, name)
        if column is None or part is None:
            columns[name] = None
        else:
            column.append(part)


class GrownValues(Generic[ArraysT]):
    """Arrays of a dataclass to which others are appended; a field that is None once is None."""

    def __init__(self, first: ArraysT, axis: int = 0) -> None:
        self._kind: Callable[..., ArraysT] = type(first)
        columns = {field.name: getattr(first, field.name) for field in fields(first)}  # type: ignore[arg-type]
        self._columns = {
            name: None if array is None else Grown(array, axis) for name, array in columns.items()
        }

    def append(self, other: ArraysT) -> None:
        """Append the images of another batch."""
        append_fields(self._columns, other)

    @property
    def values(self) -> ArraysT:
        """The values of all images."""
        return self._kind(
            **{name: None if column is None else column.array for name, column in self._columns.items()}
        )


class Stack:
    """Values of one batch at one pose after the other, written into arrays (poses, B, ...) as they come.

    Many small arrays among the features of the batch would leave no room for the next ones.
    """

    def __init__(self, poses: int) -> None:
        self._poses, self._places = poses, set[int]()
        self._kind: Callable[..., Values] | None = None
        self._arrays: dict[str, NDArray[np.generic] | None] = {}

    def put(self, place: int, values: Values) -> None:
        """Set the values of one pose; a field that is None at one pose is None."""
        parts = {field.name: getattr(values, field.name) for field in fields(values)}  # type: ignore[arg-type]
        if self._kind is None:
            self._kind = type(values)
            self._arrays = {
                name: None if part is None else np.empty((self._poses, *part.shape), part.dtype)
                for name, part in parts.items()
            }
        for name, part in parts.items():
            array = self._arrays[name]
            if part is None:
                self._arrays[name] = None
            elif array is not None:
                array[place] = part
        self._places.add(place)

    def values(self) -> Values | None:
        """Return the values of all poses, (poses, B, ...); None where one of them has none."""
        whole = self._kind is not None and len(self._places) == self._poses
        return self._kind(**self._arrays) if whole and self._kind is not None else None


def choose(values: ValuesT, rows: NDArray[np.bool_] | int) -> ValuesT:
    """Return the values of some images, or of one of the poses that were stacked."""
    chosen = {field.name: getattr(values, field.name) for field in fields(values)}  # type: ignore[arg-type]
    return type(values)(**{name: None if part is None else part[rows] for name, part in chosen.items()})


@dataclass(frozen=True, slots=True)
class Controls:
    """The same comparison under the controls of the floor: shifts within a period, by one, a round trip."""

    shifts: Sequence[Values]
    whole_period: Values
    round_trip: Values


@dataclass(frozen=True, slots=True)
class Observed(Generic[ValuesT]):
    """What a task made of all images: ``poses`` by name, ``still`` unmoved; ``controls`` by pose or None."""

    poses: Sequence[tuple[str, ValuesT]]
    still: ValuesT
    names: Sequence[str]
    controls: Sequence[Controls | None]
    seed: int

    def finite(self) -> Observed[ValuesT]:
        """Return the images whose output is finite at every pose; there may be none."""
        rows = np.logical_and.reduce([self.still.finite, *(values.finite for _, values in self.poses)])
        return Observed(
            [(name, choose(values, rows)) for name, values in self.poses],
            choose(self.still, rows),
            [name for name, good in zip(self.names, rows, strict=True) if good],
            self.controls,
            self.seed,
        )


def describe_spread(
    values: Floats, names: Sequence[str], interval: tuple[float, float] | None, floor: float | None = None
) -> Spread:
    """Describe one value for each image, (N,), of which small ones are bad."""
    p5, p25, p50, p75, p95 = (float(q) for q in np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))
    reach = WHISKER * (p75 - p25)
    within = values[(values >= p25 - reach) & (values <= p75 + reach)]
    beyond = np.sort(values[(values < p25 - reach) | (values > p75 + reach)])
    return Spread(
        mean=float(values.mean()),
        ci95=interval,
        p5=p5,
        p25=p25,
        p50=p50,
        p75=p75,
        p95=p95,
        whiskers=(min(float(within.min()), p25), max(float(within.max()), p75)),
        outliers=beyond[:MOST_OUTLIERS].tolist(),
        worst_image=names[int(values.argmin())],
        floor=floor,
    )


def spreads(
    columns: Sequence[Floats], names: Sequence[str], seed: int, floors: Sequence[float | None] | None = None
) -> list[Spread]:
    """Describe several columns of values for the same images."""
    intervals = mean_intervals(np.stack(columns, axis=1), seed)
    bounds = floors or [None] * len(columns)
    return [
        describe_spread(column, names, interval, floor)
        for column, interval, floor in zip(columns, intervals, bounds, strict=True)
    ]


def as_integers(tensor: torch.Tensor) -> Integers:
    """Return a tensor as int64 on the CPU."""
    array: Integers = tensor.cpu().long().numpy()
    return array


def as_floats(tensor: torch.Tensor) -> Floats:
    """Return a tensor as float64 on the CPU."""
    array: Floats = tensor.cpu().double().numpy()
    return array


def finite_images(*outputs: torch.Tensor) -> torch.Tensor:
    """Return which images have no NaN and no infinity in any of the outputs, (B,) bool."""
    flags = [torch.isfinite(output).reshape(len(output), -1).all(dim=1) for output in outputs]
    return torch.stack(flags).all(dim=0)
