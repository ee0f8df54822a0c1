"""What was measured of each layer and output, and how its channels turn."""

from typing import Literal

import msgspec

from eqaudit.report.base import Class, Record


class ElementError(Record, frozen=True):
    """The equivariance error of one tensor at one element.

    ``error`` is relative (0 perfect, 2 the worst), ``normalised`` is its share of ``chance``, the error
    between unrelated images. ``float64_error`` is None where no float64 rerun was needed or possible.
    """

    element: str
    class_: Class = msgspec.field(name="class")
    error: float | None
    normalised: float | None
    ci95: tuple[float, float] | None
    p50: float | None
    p95: float | None
    worst_image: str | None
    floor: float | None
    chance: float | None
    trivial_error: float | None
    float64_error: float | None
    float64_normalised: float | None
    nonfinite: int


class FieldCount(Record, frozen=True):
    """How many fields of one kind a layer has, and the channels of each."""

    name: str
    size: int
    count: int


class Roll(Record, frozen=True):
    """A turn that moves channels along an axis of ``length`` by ``shift``, cyclically.

    ``axis`` is ``last``, ``first``, or, of a layer with several channel axes, its number from 1.
    """

    element: str
    axis: str
    length: int
    shift: int


class ChannelAction(Record, frozen=True):
    """What one generator of the group does to the channels: channel c becomes what ``source[c]`` was."""

    element: str
    source: list[int]


class Representation(Record, frozen=True):
    """How the channels of a layer turn with the image.

    ``trivial`` means not at all. ``permutation`` and ``orthogonal`` are used at every element of ``group``,
    which has ``order`` elements; elsewhere channels are read as plain maps. ``vacuous`` is an orthogonal
    action before the first nonlinearity that no later layer confirms, ``undetermined`` what too few images or
    too many channels leave open; ``degenerate`` layers do not depend on the image. None of them is used.
    ``fit_error`` is the larger of the errors, at the generators, of each half of the images under the fit of
    the other; ``relation_error`` says by how much the group's relations fail in the data; both are relative
    to the spread of the features. ``fields`` are what the action consists of, ``actions`` the permutations of
    the generators. ``off_grid`` says what is used at angles that resample, ``reason`` why nothing is used.
    """

    kind: Literal["trivial", "permutation", "orthogonal", "vacuous", "undetermined", "degenerate"]
    order: int
    relation_error: float | None = None
    group: str = "C1"
    words: str = "unchanged"
    fields: list[FieldCount] = []
    axis: str | None = None
    roll: Roll | None = None
    fit_error: float | None = None
    images: int = 0
    actions: list[ChannelAction] = []
    off_grid: Literal["permutation", "orthogonal", "interpolated"] | None = None
    reason: str | None = None


class Layer(Record, frozen=True):
    """One call of one module. ``shape`` is that of one image's feature, without the batch.

    ``same_as`` names the layer whose tensor this one hands on unchanged; ``no_floor`` says why a resampled
    element has no floor.
    """

    name: str
    call: int
    type: str
    shape: list[int] | None
    layout: str | None
    parameters: int
    skipped: str | None
    degenerate: bool
    same_as: str | None
    representation: Representation | None
    errors: list[ElementError]
    no_floor: str | None = None


class Output(Layer, frozen=True, kw_only=True):
    """One tensor of the model's output; ``gating`` on the one that is judged."""

    gating: bool
