"""What the output means: answers, masks, maps, vectors, and the values of single images."""

from typing import Literal

from eqaudit.report.base import Record


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


class PerImage(Record, frozen=True):
    """Values for each image, for the gating output.

    Errors that are not finite are None; the class of scores that are not finite is -1. ``scores`` are those
    of the unmoved images, one for each of at most 100 classes: probabilities of several classes, else as the
    model gives them. ``truth`` is the class of each image; ``truth_dice`` is Dice with the moved true mask.
    In a file of many values they stand in ``file`` beside the report instead, a NumPy archive named with its
    sha256.
    """

    # While an audit runs the rows of tables are NumPy arrays, in a quarter of the memory: `with_lists`.
    ids: list[str]
    output: dict[str, list[float | None]]
    predicted: dict[str, list[int]]
    dice: dict[str, list[float | None]] = {}
    file: str | None = None
    sha256: str | None = None
    truth: list[int] = []
    scores: list[list[float] | None] = []
    truth_dice: dict[str, list[float | None]] = {}
