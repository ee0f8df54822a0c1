"""What an error means: exact, approximate, broken, degenerate, or not to be told."""

from __future__ import annotations

from dataclasses import dataclass

from eqaudit.report import Class

DEGENERATE_CHANCE = 1e-12
FLOAT32_ERROR = 1e-6
FLOAT32_NORMALISED = 1e-5
FLOAT64_NORMALISED = 1e-3
WEIGHT_ROUNDING_FACTOR = 10.0
FLOAT64_ROUNDING = 1e-12
BROKEN_NORMALISED = 0.5
UNRESOLVED_SHARE = 0.25
NEGLIGIBLE_ERROR = 0.01
NEGLIGIBLE_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Measured:
    """One error with its yardstick: ``chance`` None where there are too few images to tell."""

    error: float | None
    chance: float | None
    nonfinite: int = 0

    @property
    def normalised(self) -> float | None:
        """The error as a share of chance."""
        if self.error is None or self.chance is None or self.chance <= DEGENERATE_CHANCE:
            return None
        return self.error / self.chance

    @property
    def degenerate(self) -> bool:
        """Whether the tensor is constant or dead: no transform could change it."""
        return self.chance is not None and self.chance <= DEGENERATE_CHANCE


@dataclass(frozen=True, slots=True)
class Rerun:
    """The same error in float64, and how far the rounding of stored float32 weights moves the tensor.

    ``weight_rounding`` is the tensor's relative change when u 2^-24 of the largest weight of its filter, with
    |u| <= 1, is added to every weight.
    """

    measured: Measured
    weight_rounding: float


def doubtful(measured: Measured, *, coarse: bool = False) -> bool:
    """Whether the model's own precision alone does not settle the class of an exact element.

    A ``coarse`` one (below float32) never does: it can round a small error to none.
    """
    return coarse or not _exact_in_float32(measured)


def classify(measured: Measured, rerun: Rerun | None, *, coarse: bool = False) -> Class:
    """Return the class of an error at an element that moves pixels to pixels.

    Parameters
    ----------
    measured
        The error in the model's own precision, over all images.
    rerun
        The float64 rerun of a few images; None where it was not needed or the model has none.
    coarse
        The model's own precision is below float32: the rerun alone judges, where there is one.
    """
    if measured.nonfinite or measured.error is None:
        return "unresolved"
    if measured.degenerate or (rerun is not None and rerun.measured.degenerate):
        return "degenerate"
    if rerun is not None and _exact_in_float64(rerun):
        return "exact"
    if _exact_in_float32(measured) and (rerun is None or not coarse):
        return "exact"
    return _failing(measured)


def classify_resampled(measured: Measured, floor: float | None, factor: float) -> Class:
    """Return the class of an error at an element that resamples.

    Parameters
    ----------
    measured
        The error inside the valid mask.
    floor
        What the measurement costs a perfect network; None where it has no floor.
    factor
        How many times the floor still counts as the measurement's own.
    """
    if measured.nonfinite or measured.error is None:
        return "unresolved"
    if measured.degenerate:
        return "degenerate"
    if floor is None or measured.chance is None or floor > UNRESOLVED_SHARE * measured.chance:
        return "unresolved"
    if measured.error <= factor * floor or negligible(measured.error, measured.chance):
        return "at the floor"
    return _failing(measured)


def negligible(error: float, chance: float) -> bool:
    """Whether an error is too small for resampling to tell from none, both by itself and beside chance.

    The second guards against outputs that hardly depend on the image, whose every error is small.
    """
    return error <= NEGLIGIBLE_ERROR and error <= NEGLIGIBLE_SHARE * chance


def _failing(measured: Measured) -> Class:
    if measured.normalised is None:
        return "unresolved"
    return "broken" if measured.normalised > BROKEN_NORMALISED else "approximate"


def _exact_in_float32(measured: Measured) -> bool:
    return (
        measured.error is not None
        and measured.normalised is not None
        and not measured.nonfinite
        and measured.error <= FLOAT32_ERROR
        and measured.normalised <= FLOAT32_NORMALISED
    )


def _exact_in_float64(rerun: Rerun) -> bool:
    if _exact_in_float32(rerun.measured):
        return True  # only the rounding of the run was above the limits
    error, normalised = rerun.measured.error, rerun.measured.normalised
    if error is None or normalised is None or rerun.measured.nonfinite:
        return False
    # FLOAT64_ROUNDING: a model without weights has no weight rounding, but its sums still round.
    limit = WEIGHT_ROUNDING_FACTOR * rerun.weight_rounding + FLOAT64_ROUNDING
    return normalised <= FLOAT64_NORMALISED and error <= limit
