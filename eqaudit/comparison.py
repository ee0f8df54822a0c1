"""The frozen result of comparing several models on the same images, to and from JSON."""

from typing import Any, Literal

import msgspec

from eqaudit.errors import DataError
from eqaudit.report import Record, Report, decode

SCHEMA = "eqaudit.comparison/1"
LETTERS = "ABCDEFGH"
"""What models are called in words and tables; there are no more models than letters."""


class Timing(Record, frozen=True):
    """Seconds that one model takes for a batch of ``batch`` images, over ``rounds`` in which they alternate.

    These are the only numbers of a comparison that are not the same when it is made again.
    """

    median: float
    p25: float
    p75: float
    batch: int
    rounds: int


class Timings(Record, frozen=True):
    """The time of each model, in their order."""

    models: list[Timing]


class PairedTest(Record, frozen=True):
    """A test of a difference between two models, image by image.

    ``pairs`` are the images on which the two differ, ``greater`` those of them on which the second is larger.
    ``p`` is two-sided; ``p_greater`` and ``p_less`` are of the alternatives that the second model is the
    larger or the smaller one. ``p_holm`` is ``p``, corrected by Holm (1979) for all tests of the comparison.
    """

    name: Literal["sign test", "signed-rank test"]
    hypothesis: str
    pairs: int
    greater: int
    p: float
    p_greater: float
    p_less: float
    p_holm: float


class Difference(Record, frozen=True):
    """One quantity of two models, by their places in the list, on the ``images`` that have it for both.

    ``difference`` is that of the second less that of the first, ``ci95`` its paired bootstrap interval.
    """

    quantity: str
    first: int
    second: int
    images: int
    values: tuple[float, float]
    difference: float
    ci95: tuple[float, float] | None
    test: PairedTest | None


class Comparison(Record, frozen=True, kw_only=True):
    """Several models on the same images. See ``comparison.schema.json`` beside this file.

    ``threshold`` is where one probability decides, of confusion matrices of two classes too. ``timing`` is
    empty where forward times could not be measured; ``warnings`` then says why.
    """

    schema: str = SCHEMA
    reports: list[Report]
    differences: list[Difference]
    threshold: float
    timing: list[Timing]
    warnings: list[str]


def comparison_from_json(content: bytes, name: str) -> Comparison:
    """Decode a comparison; raises DataError where it is none, or not of this schema."""
    hint = "write one with eqaudit compare --json"
    found = decode(content, Comparison, SCHEMA, name, hint)
    models = range(len(found.reports))
    if not 1 < len(models) <= len(LETTERS):
        raise DataError(f"{name} compares {len(models)} models, expected 2 to {len(LETTERS)}", hint)
    if any(part.first not in models or part.second not in models for part in found.differences):
        raise DataError(f"{name} has a difference of models that it does not hold", hint)
    if len(found.timing) not in {0, len(models)}:
        raise DataError(f"{name} has {len(found.timing)} times of {len(models)} models", hint)
    return found


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a comparison, generated from the types."""
    return msgspec.json.schema(Comparison)
