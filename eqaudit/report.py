"""The frozen result of an audit, to and from JSON: all that the gate and the reporters see."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from eqaudit.errors import DataError

SCHEMA = "eqaudit.report/1"

Class = Literal["exact", "at the floor", "approximate", "broken", "unresolved", "degenerate"]
Cause = Literal["random", "depends on the batch", "changes its input"]
DETERMINISM_LIMIT = 1e-5
"""Relative difference of an output run twice, above which it is more than rounding."""
HOLDING: frozenset[Class] = frozenset({"exact", "at the floor"})


class Record(msgspec.Struct, frozen=True):
    """A part of the report. Numbers are finite or None; unknown keys of later versions are passed over."""


SavedT = TypeVar("SavedT", bound=Record)


class Tool(Record, frozen=True):
    """What measured, and with which options; ``allocator`` says what was set of it."""

    version: str
    torch: str
    python: str
    platform: str
    device: str
    dtype: str
    tf32: bool
    threads: int
    seed: int
    command: list[str]
    allocator: str | None = None


class Model(Record, frozen=True):
    """What was measured.

    ``sha256`` is of the model file's bytes; None for a Python spec. ``weights_sha256`` is of the file that
    ``--weights`` loaded onto a Python spec.
    """

    spec: str
    kind: Literal["torchscript", "exported", "python", "onnx"]
    sha256: str | None
    parameters: int
    note: str | None = None
    weights_sha256: str | None = None


class Skipped(Record, frozen=True):
    """Something that was not measured, and why."""

    name: str
    reason: str


class ValueRange(Record, frozen=True):
    """Least, mean and greatest value of what reached the model, after preprocessing."""

    minimum: float
    mean: float
    maximum: float


class Inputs(Record, frozen=True):
    """The images as the model received them. ``shape`` is [C, H, W]."""

    source: str
    samples: int
    shape: tuple[int, int, int]
    shape_reason: str
    preprocessing: list[str]
    boundary: str
    fingerprint: str
    skipped: list[Skipped]
    values: ValueRange
    batch_size: int


class GroupElement(Record, frozen=True):
    """One element of the group. ``exact`` means that it moves pixels and never interpolates."""

    name: str
    degrees: float
    mirrored: bool
    exact: bool


class GroupRecord(Record, frozen=True):
    """The group that was asked for; of a sweep the smallest that holds its angles, and what was measured."""

    name: str
    elements: list[GroupElement]


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


class Estimate(Record, frozen=True):
    """A mean over images, with its 95 % interval."""

    value: float
    ci95: tuple[float, float] | None


class Spread(Record, frozen=True):
    """How a value is spread over images: mean, quantiles, and what a box plot shows.

    ``whiskers`` end at the last value within 1.5 box lengths (Tukey 1977); ``outliers`` are the values
    beyond, at most 100 of them, the lowest first. ``floor`` is the mean that the measurement alone leaves.
    """

    mean: float
    ci95: tuple[float, float] | None
    p5: float
    p25: float
    p50: float
    p75: float
    p95: float
    whiskers: tuple[float, float]
    outliers: list[float]
    worst_image: str
    floor: float | None = None


class ElementConsistency(Record, frozen=True):
    """What a classifier decides at one element; everything behind ``total_variation`` needs labels.

    ``consistency`` is the share of images whose predicted class equals that of the unmoved image,
    ``consistency_when_right`` the same among those that were right there. ``total_variation`` is that between
    the class probabilities of the two. ``auc`` of several classes is the mean over classes against the rest.
    """

    element: str
    consistency: float | None
    ci95: tuple[float, float] | None
    total_variation: Estimate | None = None
    accuracy: Estimate | None = None
    cross_entropy: Estimate | None = None
    auc: Estimate | None = None
    consistency_when_right: Estimate | None = None
    class_accuracy: list[float | None] | None = None


class WorstAccuracy(Record, frozen=True):
    """The element at which accuracy is least."""

    element: str
    accuracy: float


class Predictions(Record, frozen=True):
    """What the model decides, where its output is class scores.

    ``images`` counts those whose scores are finite at every element; the others enter no share. ``unmoved``
    is the model on the images as they are. ``reason`` says how the task was found.
    """

    task: Literal["classification"]
    output: str
    classes: int
    images: int
    by_element: list[ElementConsistency]
    orbit_consistency: float | None
    orbit_ci95: tuple[float, float] | None
    kind: Literal["multi-class", "binary", "multi-label"] = "multi-class"
    reason: str = ""
    scores: Literal["logits", "probabilities"] = "logits"
    threshold: float | None = None
    class_names: list[str] = []
    class_images: list[int] | None = None
    unmoved: ElementConsistency | None = None
    worst_accuracy: WorstAccuracy | None = None


class ClassOverlap(Record, frozen=True):
    """Mean Dice and IoU of one class."""

    name: str
    dice: float
    iou: float
    truth_dice: float | None


class ElementOverlap(Record, frozen=True):
    """How well the mask of the moved image covers the moved mask at one element, image by image.

    ``both_empty`` and ``one_empty`` count pairs of masks of one class; the first count as 1, the others as 0.
    ``truth_dice`` and ``truth_iou`` compare with the moved true mask.
    """

    element: str
    dice: Spread
    iou: Spread
    truth_dice: Spread | None
    truth_iou: Spread | None
    classes: list[ClassOverlap]
    both_empty: int
    one_empty: int


class Segmentation(Record, frozen=True):
    """Masks of the output: hard, by the largest score or by a threshold. Values are means over classes."""

    output: str
    classes: list[str]
    images: int
    reason: str
    scores: Literal["logits", "probabilities"]
    threshold: float | None
    unmoved: ElementOverlap
    by_element: list[ElementOverlap]


class ElementFidelity(Record, frozen=True):
    """PSNR in dB of one element: of the mean squared error of all images, and image by image.

    None where the two maps are equal.
    """

    element: str
    psnr: float | None
    ci95: tuple[float, float] | None
    worst_image: str


class Dense(Record, frozen=True):
    """A map of numbers: how close the map of the moved image is to the moved map. ``peak`` is its range."""

    output: str
    images: int
    reason: str
    peak: float
    by_element: list[ElementFidelity]


class ElementCosine(Record, frozen=True):
    """Cosine similarity between the vectors of the moved and the unmoved image."""

    element: str
    cosine: Spread


class Embedding(Record, frozen=True):
    """A vector that describes an image."""

    output: str
    images: int
    reason: str
    by_element: list[ElementCosine]


class WindowEffect(Record, frozen=True):
    """What the window does to the unmoved image's output: relative change, and share of decisions kept.

    ``kept`` is the share of equal predictions of a classifier, the mean Dice of a segmentation.
    """

    error: float | None
    kept: float | None


class Resampling(Record, frozen=True):
    """How angles that are no multiple of 90 degrees were turned; ``margin`` None is the receptive radius.

    ``points`` says at which cells of their maps layers were compared.
    """

    boundary: Literal["disc", "reflect", "zeros"]
    interpolation: str
    feature_interpolation: str
    margin: float | None
    floor_images: int
    floor_factor: float
    window: WindowEffect | None
    points: Literal["some", "all"] = "all"


class PerImage(Record, frozen=True):
    """Values for each image, for the gating output.

    Errors that are not finite are None; the class of scores that are not finite is -1. ``scores`` are those
    of the unmoved images, one for each of at most 100 classes: probabilities of several classes, else as the
    model gives them. ``truth`` is the class of each image; ``truth_dice`` is Dice with the moved true mask.
    In a file of many values they stand in ``file`` beside the report instead, a NumPy archive named with its
    sha256.
    """

    ids: list[str]
    output: dict[str, list[float | None]]
    predicted: dict[str, list[int]]
    dice: dict[str, list[float | None]] = {}
    file: str | None = None
    sha256: str | None = None
    truth: list[int] = []
    scores: list[list[float] | None] = []
    truth_dice: dict[str, list[float | None]] = {}


class Determinism(Record, frozen=True):
    """Relative differences of the output on the first batch: run again, and rebatched.

    ``rebatch`` runs its images in another order and split in two; None where that cannot be done.
    ``cause`` is None when the model is deterministic and leaves the images that it is given as they are.
    ``changes_input`` and ``changes_random_state`` say what any call of the audit did.
    """

    repeat: float | None
    rebatch: float | None
    cause: Cause | None
    note: str | None = None
    changes_input: bool = False
    changes_random_state: bool = False


class ElementClass(Record, frozen=True):
    """The class of the gating output at one element."""

    element: str
    class_: Class = msgspec.field(name="class")


class LayerRange(Record, frozen=True):
    """Layers in order of execution, from ``first`` to ``last``, at which the same group holds.

    ``group`` is C1 where nothing does; ``by`` says how channels turn in them, as in ``a regular
    representation``.
    """

    first: str
    last: str
    group: str
    by: str


class Verdict(Record, frozen=True):
    """The largest group that holds on the gating output, and one sentence to quote.

    ``by_layer`` are the layers in ranges; ``broken_from`` is the first layer from which on the group that
    held before holds no more, None where it holds to the end.
    """

    holds: str
    sentence: str
    by_element: list[ElementClass]
    by_layer: list[LayerRange] = []
    broken_from: str | None = None


class GateCheck(Record, frozen=True):
    """One limit that was compared.

    ``undecided``: neither a pass nor a failure is certain, which fails too. ``source`` says where the limit
    was set (``--max-error``, ``eqaudit.toml:12``); empty for what is always asked.
    """

    name: str
    value: float | str | None
    limit: float | str
    passed: bool
    reason: str
    undecided: bool = False
    source: str = ""


class Change(Record, frozen=True):
    """One number beside the same number of a baseline; ``reason`` says in words why it is judged so."""

    name: str
    element: str
    before: float | None
    after: float | None
    class_before: Class | None
    class_after: Class | None
    judged: Literal["worse", "better", "same"]
    reason: str


class BaselineRecord(Record, frozen=True):
    """The report that this one was compared with; ``tolerance`` is relative."""

    path: str
    tolerance: float
    changes: list[Change]


class Gate(Record, frozen=True):
    """Whether the audit passed, and what decided it; ``judged`` is False where nothing hangs on it."""

    passed: bool
    checks: list[GateCheck]
    baseline: BaselineRecord | None = None
    judged: bool = True


class Outcome(Record, frozen=True):
    """One named check: its judged report, or the message of the error that kept it from running."""

    name: str
    report: "Report | None"
    error: str = ""


class ListedLayer(Record, frozen=True):
    """One layer of a model, without measurement."""

    name: str
    call: int
    type: str
    parameters: int
    shape: list[int] | None
    skipped: str | None


class Listing(Record, frozen=True):
    """The layers of a model in order of execution, for one input of ``input_shape``."""

    model: Model
    input_shape: tuple[int, int, int]
    shape_reason: str
    layers: list[ListedLayer]


class PanelImage(Record, frozen=True):
    """One picture of a panel: float32 values, a map (C, H, W) or a vector (K,)."""

    title: str
    shape: tuple[int, ...]
    values: bytes


class Panel(Record, frozen=True):
    """The worst case of a sweep: an image, its moved copy, and what the model makes of both.

    It holds pictures, so it is no part of a report: it is drawn by the audit, or not at all.
    """

    image: str
    element: str
    degrees: float
    sentence: str
    pictures: list[PanelImage]


class LieDerivative(Record, frozen=True):
    """How fast the equivariance error grows as the image starts to turn: per radian, relative to the feature.

    ``shift`` is what translations as fast as those of the turn cost: what it has in common with ``turn`` is
    no matter of rotation (aliasing, padding, a network that does not follow translations either).
    """

    turn: float
    shift: float


class LocalError(Record, frozen=True):
    """What one layer adds itself, given exact inputs: the error that is left when nothing before it breaks.

    ``local_error`` is relative, the root mean square over elements; ``share`` that of its square among all
    layers. ``elements`` are those at which it breaks, none of an exact layer. ``symmetrised_error`` is the
    error of the output with this layer alone replaced by its average over the group, None where not tried.
    ``lie_derivative`` is of the layer with all that is before it, None where its channels turn too.
    """

    name: str
    type: str
    local_error: float
    share: float
    elements: list[str] = []
    symmetrised_error: float | None = None
    lie_derivative: LieDerivative | None = None


class SizeTried(Record, frozen=True):
    """The error of the output at another input size, [H, W], which was run."""

    size: tuple[int, int]
    error: float


class CauseFound(Record, frozen=True):
    """One cause: a rule that applies to some layers, what was measured, and what helps.

    ``error_without`` is the error of the output in the experiment that takes the cause away, ``error_before``
    that beside it, ``removed`` the share that went. ``error_together`` is left without this cause and those
    ranked before it: what two causes do together is not the sum of what each does.
    """

    id: str
    explanation: str
    layers: list[str]
    evidence: list[str]
    fix: str
    experiment: str
    error_before: float
    error_without: float
    removed: float
    error_together: float
    sizes: list[SizeTried] = []


class Averaging(Record, frozen=True):
    """The output averaged over the group: its error, how far it is from the output, and the runs it takes."""

    error: float
    change: float
    runs: int


class Diagnosis(Record, frozen=True):
    """Where and why equivariance breaks: measured on a few images, in float64 where the model has it.

    ``error`` is that of the output at ``element``, the worst of ``group``, the elements that move pixels to
    pixels; ``first`` the first layer with an error of its own. ``reason`` says why nothing can be told.
    ``lie_derivative`` is that of the output, at small turns instead; ``lie_reason`` why there is none.
    """

    images: int
    dtype: str
    group: str
    element: str
    error: float | None
    first: str | None
    layers: list[LocalError]
    causes: list[CauseFound]
    averaged: Averaging | None = None
    reason: str | None = None
    lie_derivative: LieDerivative | None = None
    lie_reason: str | None = None


class Report(Record, frozen=True, kw_only=True):
    """One audit. See ``report.schema.json`` beside this file."""

    schema: str = SCHEMA
    kind: Literal["check", "sweep"] = "check"
    tool: Tool
    model: Model
    inputs: Inputs
    group: GroupRecord
    layers: list[Layer]
    outputs: list[Output]
    predictions: Predictions | None = None
    segmentation: Segmentation | None = None
    dense: Dense | None = None
    embedding: Embedding | None = None
    resampling: Resampling | None = None
    per_image: PerImage | None
    determinism: Determinism
    float64_images: int
    warnings: list[str]
    verdict: Verdict | None = None
    gate: Gate | None = None
    diagnose: Diagnosis | None = None

    @property
    def gating_output(self) -> Output:
        """The output tensor that the gate judges."""
        return next(output for output in self.outputs if output.gating)


class ActionPicture(Record, frozen=True):
    """What one element does to the channels of one layer, to be drawn: float32 values of a matrix (C, C)."""

    layer: str
    words: str
    element: str
    channels: int
    values: bytes


class FeatureRow(Record, frozen=True):
    """Some channels of one layer for one image: maps (P, H, W), or the difference between two rows of them.

    ``image`` is what the model was shown, where the row is what came of it.
    """

    title: str
    kind: Literal["maps", "difference"]
    maps: PanelImage
    image: PanelImage | None = None


class FeaturePicture(Record, frozen=True):
    """One layer for an image and its turned copies. ``fields`` are the channels drawn, field by field.

    ``channels`` is how many there are, ``words`` how they turn with the image.
    """

    layer: str
    words: str
    channels: int
    fields: list[list[int]]
    rows: list[FeatureRow]


class PooledFeature(Record, frozen=True):
    """What one layer makes of an image: the mean size of its channels (H, W), the mean of each channel (C,).

    ``map`` is None where the layer has no space. The first of several is the input, in its own channels.
    """

    layer: str
    map: PanelImage | None
    means: PanelImage


class Features(Record, frozen=True):
    """What layers make of one image, and kernels (out, in, height, width) of convolutions, to be drawn.

    ``undrawn`` says of each other layer that was asked for why it is not drawn. ``pooled`` is there instead
    of all else where only that was asked for.
    """

    image: str
    layers: list[FeaturePicture]
    kernels: list[PanelImage]
    undrawn: list[Skipped]
    pooled: list[PooledFeature] = []


class Audited(Record, frozen=True):
    """What an audit gives: the report, and what can be drawn only by whoever has the images and the model.

    ``panel`` is the worst case of a sweep; ``actions`` are those of layers whose channels turn; ``features``
    are there where they were asked for.
    """

    report: Report
    panel: Panel | None = None
    actions: list[ActionPicture] = []
    features: Features | None = None


def describe_shape(shape: Sequence[int] | None) -> str:
    """Write a shape as 3x224x224; a dash when there is none, 1 for a single number."""
    return "-" if shape is None else "x".join(str(size) for size in shape) or "1"


def encode(value: msgspec.Struct) -> bytes:
    """Encode as JSON; bytes of a name that are no UTF-8 are spelled out, as a reader is shown them."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
        return re.sub("[\ud800-\udfff]", lambda found: f"\\\\u{ord(found[0]):04x}", text).encode()


def to_json(report: Record) -> bytes:
    """Encode a report; the same report gives the same bytes.

    What cannot be printed (marks that turn the direction of writing, say) is written as a JSON escape, and so
    is the ``##`` of ``##[error]``, which the log of a CI job takes for a command.
    """
    text = msgspec.json.format(encode(report), indent=2).decode()
    return re.sub(r"[^\n -~]|#(?=#\w*\[)", _escape, text).encode() + b"\n"


def _escape(found: re.Match[str]) -> str:
    if found[0] == "#":
        return "\\u0023"
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def replace_text(report: SavedT, change: Callable[[str], str]) -> SavedT:
    """Return a report in which every text, but no key, is changed."""
    return msgspec.convert(_replace(msgspec.to_builtins(report), change), type(report))


def _replace(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case str():
            return change(value)
        case list():
            return [_replace(part, change) for part in value]
        case dict():
            return {key: _replace(part, change) for key, part in value.items()}
        case _:
            return value


def from_json(content: bytes, name: str = "report") -> Report:
    """Decode a report.

    Raises
    ------
    DataError
        The bytes are no JSON, or no report of this schema; says where.
    """
    return decode(content, Report, SCHEMA, name, "write one with eqaudit check --json")


def decode(content: bytes, kind: type[SavedT], schema: str, name: str, hint: str) -> SavedT:
    """Decode what `to_json` wrote; ``hint`` says how to write one where it is none, as in `from_json`."""
    try:
        json.loads(content, object_pairs_hook=_refuse_twice)
        said = schema_of(content) or schema
        if said != schema:
            raise DataError(
                f"{name} has schema {said!r}, expected {schema!r}",
                f"{hint}, or use the eqaudit that wrote it",
            )
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise DataError(f"{name} is no eqaudit report: {error}", hint) from error


class _Head(Record, frozen=True):
    schema: str = ""


def schema_of(content: bytes) -> str:
    """Return which schema a file says that it is of; empty where it says nothing that can be read."""
    try:
        return msgspec.json.decode(content, type=_Head).schema
    except (msgspec.DecodeError, RecursionError, ValueError):
        return ""


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    """Refuse an object that says something twice: of which a decoder would take the last, without a word."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {key!r} stands twice in one object")
        seen.add(key)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a report, generated from the types."""
    return msgspec.json.schema(Report)
