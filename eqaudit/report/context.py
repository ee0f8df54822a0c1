"""What was run, on which images, and how."""

from typing import Literal

from eqaudit.report.base import Cause, Record


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
