"""From sums to the records of a report: classes, intervals, worst images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from eqaudit.engine.base import Key, Setting, full_name
from eqaudit.engine.floors import Floors
from eqaudit.engine.measure import TapSums, Unit
from eqaudit.engine.rerun import RerunResult
from eqaudit.metrics import (
    ClassificationValues,
    Observed,
    SegmentationValues,
    Values,
    choose,
    classify,
    classify_resampled,
    image_errors,
)
from eqaudit.report import (
    Dense,
    ElementError,
    Embedding,
    Layer,
    Output,
    PerImage,
    Predictions,
    Segmentation,
    WindowEffect,
)
from eqaudit.statistics import ratio_interval

NO_CLASS = -1  # the scores are not finite
RowT = TypeVar("RowT")
ValuesT = TypeVar("ValuesT", bound=Values)


class TaskRecords(TypedDict, total=False):
    """What the task found, under the report's field for it."""

    predictions: Predictions
    segmentation: Segmentation
    dense: Dense
    embedding: Embedding


@dataclass(frozen=True, slots=True)
class Assembler:
    """Turns the sums of a whole audit into records; ``names`` are those of all images, by place."""

    unit: Unit
    names: Sequence[str]
    rerun: RerunResult
    floors: Floors
    floor_factor: float
    setting: Setting

    @property
    def gating(self) -> Key:
        """The key of the judged output."""
        return self.setting.gating

    @property
    def _gating_sums(self) -> TapSums:
        return self.unit.taps[self.gating]

    def layers(self) -> list[Layer]:
        """Return the record of every tap, in order of execution."""
        return [self._layer(key, sums) for key, sums in self.unit.taps.items() if key[0] == "layer"]

    def outputs(self) -> list[Output]:
        """Return the record of every output tensor."""
        return [
            Output(**msgspec.structs.asdict(self._layer(key, sums)), gating=key == self.gating)
            for key, sums in self.unit.taps.items()
            if key[0] == "output"
        ]

    def task_records(self) -> TaskRecords:
        """Return what the task makes of the gating output, by the report's field for it."""
        task, values = self.setting.task, self.unit.values
        if task is None or self._gating_sums.skipped or values.moved is None or values.still is None:
            return {}
        rows = self._by_pose(values.moved)
        controls = [self.floors.controls(pose) for pose in self.setting.poses]
        # Each task made the values itself: it gets back its own kind.
        observed = Observed(rows, values.still, self.unit.names, controls, self.setting.seed)
        record = task.summarise(observed)  # type: ignore[arg-type]
        match record:
            case Predictions():
                return {"predictions": record}
            case Segmentation():
                return {"segmentation": record}
            case Dense():
                return {"dense": record}
            case Embedding():
                return {"embedding": record}
            case None:
                return {}

    def window_effect(self) -> WindowEffect | None:
        """Return what the window does to the judged output of the unmoved images."""
        found = self.unit.values
        norms, values = found.window, found.unwindowed
        if norms is None:
            return None
        finite = norms.nonfinite == 0
        power = float(norms.power[finite].sum())
        kept = None if values is None else _kept(values)
        return WindowEffect(
            math.sqrt(float(norms.difference[finite].sum()) / power) if power else None,
            None if kept is None else float(kept.mean()),
        )

    def per_image(self) -> PerImage | None:
        """Return the values of each image for the gating output; the rows of its tables are arrays."""
        values = self.unit.values
        if self._gating_sums.skipped:
            return None
        norms = values.norms[self.gating]
        columns = {"e": values.still} | dict(self._by_pose(values.moved) if values.moved else ())
        return PerImage(
            list(self.unit.names),
            {pose.name: _row(image_errors(norms.at(place))) for place, pose in enumerate(self.setting.poses)},
            _rows(columns, _classes),
            _rows(columns, lambda part: _overlaps(part, lambda found: found.image_dice)),
            truth=_truth(values.still),
            scores=_scores(values.still),
            truth_dice=_rows(columns, lambda part: _overlaps(part, lambda found: found.image_truth_dice)),
        )

    def _by_pose(self, values: ValuesT) -> list[tuple[str, ValuesT]]:
        return [(pose.name, choose(values, place)) for place, pose in enumerate(self.setting.poses)]

    def _layer(self, key: Key, sums: TapSums) -> Layer:
        return Layer(
            name=sums.feature.name,
            call=sums.feature.call,
            type=sums.feature.type,
            shape=None if sums.shape is None else list(sums.shape),
            layout=None if sums.layout is None else sums.layout.describe(),
            parameters=sums.feature.parameters,
            skipped=sums.skipped,
            degenerate=sums.measured(0).degenerate,
            same_as=None if sums.same_as is None else full_name(sums.same_as),
            representation=None if sums.skipped else self.setting.channels.record(key),
            errors=self._errors(key),
            no_floor=self._no_floor(key, sums),
        )

    def _errors(self, key: Key) -> list[ElementError]:
        sums = self.unit.taps[key]
        places = [] if sums.skipped else range(len(self.setting.poses))
        return [self._error(key, sums, place) for place in places]

    def _no_floor(self, key: Key, sums: TapSums) -> str | None:
        if sums.skipped or not self.setting.resamples:
            return None
        place = next(place for place, pose in enumerate(self.setting.poses) if not pose.exact)
        return self.floors.missing(key, sums.measured(place).chance)

    def _error(self, key: Key, sums: TapSums, place: int) -> ElementError:
        pose = self.setting.poses[place]
        measured = sums.measured(place)
        again, floor = self.rerun.at(key, pose), self.floors.at(key, pose, measured.chance)
        spread = self._output_spread(key, place) if key[0] == "output" else _layer_spread(sums, place)
        return ElementError(
            element=pose.name,
            class_=classify(measured, again, coarse=self.setting.coarse)
            if pose.exact
            else classify_resampled(measured, floor, self.floor_factor),
            error=measured.error,
            normalised=measured.normalised,
            ci95=spread.interval,
            p50=spread.p50,
            p95=spread.p95,
            worst_image=self._worst(sums, place),
            floor=floor,
            chance=measured.chance,
            trivial_error=sums.plain_error(place),
            float64_error=None if again is None else again.measured.error,
            float64_normalised=None if again is None else again.measured.normalised,
            nonfinite=measured.nonfinite,
        )

    def _worst(self, sums: TapSums, place: int) -> str | None:
        if sums.errors is None:
            return None
        bad, worst = int(sums.errors.first_nonfinite[place]), int(sums.errors.worst_image[place])
        number = bad if bad >= 0 else worst
        return self.names[number] if number >= 0 else None

    def _output_spread(self, key: Key, place: int) -> _Spread:
        norms = self.unit.values.norms[key].at(place)
        finite = norms.nonfinite == 0
        if not finite.any():
            return _Spread(None, None, None)
        difference, power, errors = norms.difference[finite], norms.power[finite], image_errors(norms)[finite]
        interval = ratio_interval(difference, power, self.setting.seed)
        return _Spread(interval, float(np.quantile(errors, 0.5)), float(np.quantile(errors, 0.95)))


@dataclass(frozen=True, slots=True)
class _Spread:
    interval: tuple[float, float] | None
    p50: float | None
    p95: float | None


def _layer_spread(sums: TapSums, place: int) -> _Spread:
    if sums.errors is None:
        return _Spread(None, None, None)
    histogram = sums.errors.histogram
    interval = sums.errors.interval(place) if sums.errors.images[place] > 1 else None
    return _Spread(interval, histogram.quantile(place, 0.5), histogram.quantile(place, 0.95))


def _rows(
    columns: Mapping[str, Values | None], read: Callable[[Values | None], list[RowT] | None]
) -> dict[str, list[RowT]]:
    """Return what is read of each pose, where there is something."""
    return {name: row for name, values in columns.items() if (row := read(values)) is not None}


def _decided(values: Values | None) -> ClassificationValues | None:
    """Return the values of a classifier that decides for one class; None of another task."""
    return values if isinstance(values, ClassificationValues) and values.decided.shape[1] == 1 else None


def _row(values: NDArray[np.generic]) -> list[Any]:
    """Leave a row an array until the report is written."""
    return cast("list[Any]", values)


def _classes(values: Values | None) -> list[int] | None:
    """Return the decision for each image where there is one; -1 where the scores are not finite."""
    found = _decided(values)
    return None if found is None else _row(np.where(found.finite, found.decided[:, 0], NO_CLASS))


def _truth(values: Values | None) -> list[int]:
    """Return the true class of each image; empty without labels, of which there may be several."""
    found = _decided(values)
    if found is None or found.truth is None or found.truth.shape[1] == 1:
        return []
    classes: list[int] = found.truth.argmax(axis=1).tolist()
    return classes


def _scores(values: Values | None) -> list[list[float] | None]:
    """Return the scores of each image; None where they are not finite, empty where there are too many."""
    found = _decided(values)
    if found is None or found.scores is None:
        return []
    return [row.tolist() if finite else None for row, finite in zip(found.scores, found.finite, strict=True)]


def _overlaps(
    values: Values | None, read: Callable[[SegmentationValues], NDArray[np.float64] | None]
) -> list[float | None] | None:
    """Return Dice of each image, the mean over classes; None where the scores are not finite."""
    row = read(values) if isinstance(values, SegmentationValues) else None
    return None if row is None else _row(row)


def _kept(values: Values) -> NDArray[np.float64] | None:
    match values:
        case ClassificationValues():
            return values.kept.astype(np.float64)
        case SegmentationValues():
            dice: NDArray[np.float64] = values.dice.mean(axis=1)
            return dice
        case _:
            return None
