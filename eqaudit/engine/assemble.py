"""From sums to the records of a report: classes, intervals, worst images."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from eqaudit.engine.base import Key, Setting, finite_or_none
from eqaudit.engine.measure import NO_CLASS, OutputValues, TapSums, Unit
from eqaudit.engine.rerun import RerunResult
from eqaudit.metrics import classify, image_errors
from eqaudit.report import (
    ElementConsistency,
    ElementError,
    Layer,
    Output,
    PerImage,
    Predictions,
    Representation,
)
from eqaudit.statistics import Integers, histogram_quantile, ratio_interval, share_interval


@dataclass(frozen=True, slots=True)
class Assembler:
    """Turns the sums of a whole audit into records. ``gating`` is the key of the judged output."""

    unit: Unit
    rerun: RerunResult
    setting: Setting
    gating: Key

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

    def predictions(self) -> Predictions | None:
        """Return how often the predicted class survives, where the gating output is class scores."""
        values = self.unit.values.get(self.gating, [])
        if not values or any(value.predicted is None for value in values):
            return None
        predicted = _predicted(values)
        finite = (predicted != NO_CLASS).all(axis=0)
        kept = (predicted[1:] == predicted[0])[:, finite]
        shape = self.unit.taps[self.gating].shape
        orbit = self._share(kept.all(axis=0))
        return Predictions(
            task="classification",
            output=self.gating[1],
            classes=shape[0] if shape else 0,
            images=int(finite.sum()),
            by_element=[
                ElementConsistency(str(element), *self._share(row))
                for element, row in zip(self.setting.elements, kept, strict=True)
            ],
            orbit_consistency=orbit[0],
            orbit_ci95=orbit[1],
        )

    @staticmethod
    def _share(hits: NDArray[np.bool_]) -> tuple[float | None, tuple[float, float] | None]:
        """Return the share of images that keep their class, with its interval; None without images."""
        if not hits.size:
            return None, None
        return float(hits.mean()), share_interval(int(hits.sum()), hits.size)

    def per_image(self) -> PerImage | None:
        """Return the values of each image for the gating output."""
        values = self.unit.values.get(self.gating, [])
        if not values:
            return None
        elements = self.setting.elements
        errors = {
            str(element): [
                finite_or_none(error) for value in values for error in image_errors(value.norms[place])
            ]
            for place, element in enumerate(elements)
        }
        classes: dict[str, list[int]] = {}
        if all(value.predicted is not None for value in values):
            names = ["e", *(str(element) for element in elements if str(element) != "e")]
            classes = {name: row.tolist() for name, row in zip(names, _predicted(values), strict=False)}
        return PerImage(list(self.unit.names), errors, classes)

    def _layer(self, key: Key, sums: TapSums) -> Layer:
        elements = [] if sums.skipped else range(len(self.setting.elements))
        return Layer(
            name=sums.feature.name,
            call=sums.feature.call,
            type=sums.feature.type,
            shape=None if sums.shape is None else list(sums.shape),
            layout=None if sums.layout is None else sums.layout.name,
            parameters=sums.feature.parameters,
            skipped=sums.skipped,
            degenerate=sums.measured(0).degenerate,
            same_as=None if sums.same_as is None else _name(sums.same_as),
            representation=None if sums.skipped else Representation("trivial", 1),
            errors=[self._error(key, sums, place) for place in elements],
        )

    def _error(self, key: Key, sums: TapSums, place: int) -> ElementError:
        element = self.setting.elements[place]
        measured = sums.measured(place)
        runs = self.rerun.by_key.get(key)
        again = runs[place] if runs else None
        values = self.unit.values.get(key)
        spread = self._output_spread(values, place) if values else _layer_spread(sums, place)
        return ElementError(
            element=str(element),
            class_=classify(measured, again),
            error=measured.error,
            normalised=measured.normalised,
            ci95=spread.interval,
            p50=spread.p50,
            p95=spread.p95,
            worst_image=self._worst(sums, place),
            floor=None,
            chance=measured.chance,
            trivial_error=measured.error,
            float64_error=None if again is None else again.measured.error,
            float64_normalised=None if again is None else again.measured.normalised,
            nonfinite=measured.nonfinite,
        )

    def _worst(self, sums: TapSums, place: int) -> str | None:
        if sums.errors is None:
            return None
        bad, worst = int(sums.errors.first_nonfinite[place]), int(sums.errors.worst_image[place])
        number = bad if bad >= 0 else worst
        return self.unit.names[number] if number >= 0 else None

    def _output_spread(self, values: list[OutputValues], place: int) -> _Spread:
        norms = [value.norms[place] for value in values]
        finite = np.concatenate([norm.nonfinite for norm in norms]) == 0
        difference = np.concatenate([norm.difference for norm in norms])[finite]
        power = np.concatenate([norm.power for norm in norms])[finite]
        if not finite.any():
            return _Spread(None, None, None)
        errors = np.concatenate([image_errors(norm) for norm in norms])[finite]
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
    counts = sums.errors.histogram[place]
    interval = sums.errors.interval(place) if sums.errors.images[place] > 1 else None
    return _Spread(interval, histogram_quantile(counts, 0.5), histogram_quantile(counts, 0.95))


def _predicted(values: list[OutputValues]) -> Integers:
    return np.concatenate([value.predicted for value in values if value.predicted is not None], axis=1)


def _name(key: Key) -> str:
    return key[1] if not key[2] else f"{key[1]}#{key[2]}"
