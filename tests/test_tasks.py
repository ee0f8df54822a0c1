"""What is said of an output, task by task, against scikit-learn, scikit-image and plain loops."""

from dataclasses import fields
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import boxplot_stats
from numpy.typing import NDArray
from scipy.spatial.distance import cosine
from scipy.special import expit, logit, softmax
from scipy.stats import norm
from skimage.metrics import peak_signal_noise_ratio
from skimage.transform import rotate
from sklearn.metrics import accuracy_score, hamming_loss, log_loss, recall_score, roc_auc_score

from eqaudit import statistics
from eqaudit.groups import IDENTITY, Element
from eqaudit.metrics import (
    Classification,
    ClassificationValues,
    Controls,
    DenseTask,
    EmbeddingTask,
    Measured,
    Observed,
    Scene,
    SegmentationTask,
    SegmentationValues,
    classify_resampled,
    join,
    negligible,
)
from eqaudit.metrics.base import choose, describe_spread
from eqaudit.metrics.classification import Kind, auc_placements
from eqaudit.metrics.segmentation import IGNORED, dice_floor
from eqaudit.report import ElementConsistency, ElementOverlap, Predictions, Segmentation
from eqaudit.statistics import mean_intervals
from eqaudit.transforms import Resampler, RoundTrip, Shift

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Scores = Literal["logits", "probabilities"]
R90, R30, M_R90 = Element(False, 1, 4), Element(False, 1, 12), Element(True, 1, 4)
SPLINE = Resampler("spline", "reflect")
# Both sides compute in float64; scores of the AUC are kept in float32, which keeps their order here.
CLOSE = 1e-9


def scene(
    action: Element | Shift | RoundTrip = IDENTITY,
    targets: Labels | None = None,
    inside: torch.Tensor | None = None,
    cell: float = 1.0,
) -> Scene:
    """Return a scene; nothing but the action matters to most tasks."""
    return Scene(action, SPLINE, inside, cell, targets)


def random(*shape: int, seed: int = 0) -> Array:
    """Return normal random numbers."""
    return np.random.default_rng(seed).normal(size=shape)


def names(count: int) -> list[str]:
    """Return a name for each image."""
    return [f"image {number}" for number in range(count)]


# Classification --------------------------------------------------------------------------------------


def classifier(kind: Kind, classes: int, scores: Scores = "logits", threshold: float = 0.5) -> Classification:
    """Return the task of one output."""
    return Classification("output", kind, scores, classes, threshold, "test")


def predictions(
    task: Classification, outputs: list[Array], targets: Labels | None = None, seed: int = 0
) -> tuple[Predictions, list[ElementConsistency]]:
    """Return the record of several poses of the same images, the first unmoved, and all of its rows."""
    still = torch.from_numpy(outputs[0])
    values = [task.compare(still, torch.from_numpy(output), scene(R90, targets)) for output in outputs]
    poses = [(f"pose {place}", value) for place, value in enumerate(values[1:], 1)]
    record = task.summarise(Observed(poses, values[0], names(len(still)), [None] * len(poses), seed))
    assert record.unmoved is not None
    return record, [record.unmoved, *record.by_element]


def as_probabilities(kind: Kind, scores: Scores, output: Array) -> Array:
    """Return scores as probabilities, by scipy."""
    if scores == "probabilities":
        return output
    return np.asarray(softmax(output, axis=1) if kind == "multi-class" else expit(output))


def outputs_of(kind: Kind, scores: Scores, classes: int, images: int = 80, poses: int = 4) -> list[Array]:
    """Return the scores of each pose: those of the first with more and more noise."""
    first = 1.5 * random(images, classes, seed=9)
    moved = [first + 0.4 * place * random(images, classes, seed=place) for place in range(poses)]
    return moved if scores == "logits" else [as_probabilities(kind, "logits", output) for output in moved]


def value(estimate: object) -> float:
    """Return the value of an estimate."""
    found = getattr(estimate, "value", None)
    assert isinstance(found, float)
    return found


@pytest.mark.parametrize("scores", ["logits", "probabilities"])
@pytest.mark.parametrize("classes", [3, 7])
def test_class_scores_are_judged_as_scikit_learn_does(classes: int, scores: Scores) -> None:
    """Accuracy, cross-entropy, AUC of each class against the rest and recall of each class, pose by pose."""
    outputs = outputs_of("multi-class", scores, classes)
    truth = np.random.default_rng(3).integers(0, classes, len(outputs[0]))
    record, rows = predictions(classifier("multi-class", classes, scores), outputs, truth)
    for row, output in zip(rows, outputs, strict=True):
        probabilities = as_probabilities("multi-class", scores, output)
        decided = probabilities.argmax(axis=1)
        area = roc_auc_score(truth, probabilities, multi_class="ovr", average="macro")
        assert value(row.accuracy) == pytest.approx(accuracy_score(truth, decided), rel=CLOSE)
        assert value(row.cross_entropy) == pytest.approx(log_loss(truth, probabilities), rel=CLOSE)
        assert value(row.auc) == pytest.approx(area, rel=CLOSE)
        assert row.class_accuracy == pytest.approx(
            list(recall_score(truth, decided, average=None)), rel=CLOSE
        )
    assert record.class_images == np.bincount(truth, minlength=classes).tolist()
    assert record.threshold is None
    accuracies = {row.element: value(row.accuracy) for row in record.by_element}
    assert record.worst_accuracy is not None
    assert (
        accuracies[record.worst_accuracy.element]
        == record.worst_accuracy.accuracy
        == min(accuracies.values())
    )


@pytest.mark.parametrize("threshold", [0.5, 0.3])
@pytest.mark.parametrize("scores", ["logits", "probabilities"])
def test_one_score_is_judged_as_scikit_learn_does(scores: Scores, threshold: float) -> None:
    """It decides by the threshold, whatever the scale of the scores, and has one ROC curve."""
    outputs = outputs_of("binary", scores, 1)
    truth = (outputs[0][:, 0] + 0.5 * random(len(outputs[0]), seed=5) > outputs[0].mean()).astype(np.int64)
    _, rows = predictions(classifier("binary", 1, scores, threshold), outputs, truth)
    for row, output in zip(rows, outputs, strict=True):
        probabilities = as_probabilities("binary", scores, output)[:, 0]
        decided = probabilities >= threshold
        assert value(row.accuracy) == pytest.approx(accuracy_score(truth, decided), rel=CLOSE)
        assert value(row.cross_entropy) == pytest.approx(log_loss(truth, probabilities), rel=CLOSE)
        assert value(row.auc) == pytest.approx(roc_auc_score(truth, probabilities), rel=CLOSE)
        assert row.class_accuracy == pytest.approx(
            list(recall_score(truth, decided, average=None)), rel=CLOSE
        )


@pytest.mark.parametrize("scores", ["logits", "probabilities"])
def test_several_labels_are_judged_as_scikit_learn_does(scores: Scores) -> None:
    """Accuracy is that of single labels, the loss their mean, the AUC the mean of their curves."""
    outputs = outputs_of("multi-label", scores, 4)
    truth = np.random.default_rng(2).integers(0, 2, outputs[0].shape)
    record, rows = predictions(classifier("multi-label", 4, scores, 0.4), outputs, truth)
    for row, output in zip(rows, outputs, strict=True):
        probabilities = as_probabilities("multi-label", scores, output)
        decided = (probabilities >= 0.4).astype(int)
        losses = [log_loss(truth[:, label], probabilities[:, label]) for label in range(4)]
        assert value(row.accuracy) == pytest.approx(1 - hamming_loss(truth, decided), rel=CLOSE)
        assert value(row.cross_entropy) == pytest.approx(np.mean(losses), rel=CLOSE)
        assert value(row.auc) == pytest.approx(
            roc_auc_score(truth, probabilities, average="macro"), rel=CLOSE
        )
        assert row.class_accuracy == pytest.approx(list((decided == truth).mean(axis=0)), rel=CLOSE)
    assert record.class_images == truth.sum(axis=0).tolist()
    assert record.threshold == 0.4


def test_a_score_on_the_threshold_decides_for_the_class() -> None:
    """As the threshold of a mask does: at least, not above."""
    for scores, output in (("probabilities", [[0.5], [0.499999]]), ("logits", [[0.0], [-1e-6]])):
        task = Classification("output", "binary", scores, 1, 0.5, "")  # type: ignore[arg-type]
        still = torch.tensor(output, dtype=torch.float64)
        assert task.compare(still, still, scene()).decided.tolist() == [[1], [0]]


def test_two_scores_have_one_roc_curve() -> None:
    """The AUC of two classes is that of the second."""
    outputs = outputs_of("multi-class", "logits", 2)
    truth = np.random.default_rng(8).integers(0, 2, len(outputs[0]))
    _, rows = predictions(classifier("multi-class", 2), outputs, truth)
    for row, output in zip(rows, outputs, strict=True):
        expected = roc_auc_score(truth, softmax(output, axis=1)[:, 1])
        assert value(row.auc) == pytest.approx(expected, rel=CLOSE)


def test_a_class_without_images_has_no_recall_and_no_curve() -> None:
    """The AUC is the mean over the classes that have both sides, None where no class has."""
    outputs = outputs_of("multi-class", "logits", 5)
    truth = np.array([0, 1, 3, 4])[np.random.default_rng(4).integers(0, 4, len(outputs[0]))]
    _, rows = predictions(classifier("multi-class", 5), outputs, truth)
    probabilities = softmax(outputs[1], axis=1)
    areas = [roc_auc_score(truth == label, probabilities[:, label]) for label in (0, 1, 3, 4)]
    assert value(rows[1].auc) == pytest.approx(np.mean(areas), rel=CLOSE)
    assert rows[1].class_accuracy is not None
    assert [share is None for share in rows[1].class_accuracy] == [False, False, True, False, False]
    _, rows = predictions(classifier("multi-class", 5), outputs, np.full(80, 2))
    assert rows[1].auc is None


@pytest.mark.parametrize("kind", ["binary", "multi-label", "multi-class"])
def test_a_sure_model_keeps_its_roc_curve(kind: Kind) -> None:
    """Probabilities of 1 - 1e-9 and 1 - 1e-12 are not equal: no precision is lost before they are ranked."""
    logits = np.linspace(18, 30, 60).reshape(-1, 1)
    truth = (np.arange(60) > 25 + 5 * np.sin(np.arange(60))).astype(np.int64)
    output = np.hstack([np.zeros((60, 1)), logits]) if kind == "multi-class" else logits
    targets = truth.reshape(-1, 1) if kind == "multi-label" else truth
    _, rows = predictions(classifier(kind, output.shape[1]), [output, output], targets)
    expected = roc_auc_score(truth, expit(logits[:, 0]))
    assert expected == roc_auc_score(truth, logits[:, 0]) > 0.99
    assert value(rows[1].auc) == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize("kind", ["multi-class", "binary", "multi-label"])
@pytest.mark.parametrize("scores", ["logits", "probabilities"])
def test_total_variation_and_consistency_are_their_definitions(kind: Kind, scores: Scores) -> None:
    """Half of the sum of |p - q| over classes (over the two sides of each label), and equal decisions."""
    classes = 1 if kind == "binary" else 4
    outputs = outputs_of(kind, scores, classes)
    record, rows = predictions(classifier(kind, classes, scores), outputs)
    still = as_probabilities(kind, scores, outputs[0])
    kept_by_all = np.ones(len(still), dtype=bool)
    for row, output in zip(rows, outputs, strict=True):
        moved = as_probabilities(kind, scores, output)
        if kind == "multi-class":
            variation, kept = np.abs(moved - still).sum(axis=1) / 2, moved.argmax(1) == still.argmax(1)
        else:
            both = [np.stack([part, 1 - part], axis=2) for part in (moved, still)]
            variation = (np.abs(both[0] - both[1]).sum(axis=2) / 2).mean(axis=1)
            kept = ((moved >= 0.5) == (still >= 0.5)).all(axis=1)
        kept_by_all &= kept
        assert value(row.total_variation) == pytest.approx(variation.mean(), abs=1e-12)
        assert row.consistency == pytest.approx(kept.mean(), rel=CLOSE)
    assert record.orbit_consistency == pytest.approx(kept_by_all.mean(), rel=CLOSE)
    assert 0 < kept_by_all.mean() < min(row.consistency or 0 for row in rows[1:])
    assert rows[0].consistency == 1
    assert value(rows[0].total_variation) == 0


def test_consistency_among_those_that_were_right_leaves_out_the_others() -> None:
    """It is None where nothing was right, and says nothing of accuracy."""
    outputs = outputs_of("multi-class", "logits", 4)
    decided = [output.argmax(axis=1) for output in outputs]
    truth = np.where(np.arange(80) % 3 == 0, (decided[0] + 1) % 4, decided[0])
    _, rows = predictions(classifier("multi-class", 4), outputs, truth)
    right = truth == decided[0]
    assert 0.6 < right.mean() < 0.7
    for row, found in zip(rows, decided, strict=True):
        assert value(row.consistency_when_right) == pytest.approx(
            (found == decided[0])[right].mean(), rel=CLOSE
        )
    _, rows = predictions(classifier("multi-class", 4), outputs, (decided[0] + 1) % 4)
    assert rows[1].consistency_when_right is None
    assert value(rows[0].accuracy) == 0


def test_without_labels_nothing_is_said_of_truth() -> None:
    """Every number that needs labels is None."""
    record, rows = predictions(classifier("multi-class", 4), outputs_of("multi-class", "logits", 4))
    needed = ("accuracy", "cross_entropy", "auc", "consistency_when_right", "class_accuracy")
    assert {getattr(row, name) for row in rows for name in needed} == {None}
    assert record.class_images is None
    assert record.worst_accuracy is None


def test_images_that_are_not_finite_at_one_pose_enter_no_share_of_any() -> None:
    """The numbers are those of the other images alone."""
    outputs = outputs_of("multi-class", "logits", 4)
    truth = np.random.default_rng(3).integers(0, 4, 80)
    outputs[1][3, 2], outputs[2][7, 0], outputs[0][11, 1] = np.nan, np.inf, -np.inf
    keep = np.setdiff1d(np.arange(80), [3, 7, 11])
    record, _ = predictions(classifier("multi-class", 4), outputs, truth)
    alone, _ = predictions(classifier("multi-class", 4), [output[keep] for output in outputs], truth[keep])
    assert record == alone
    assert record.images == 77


def test_a_model_of_nan_alone_has_no_predictions() -> None:
    """No number is made up where no image is finite."""
    task, nothing = classifier("multi-class", 3), torch.full((5, 3), torch.nan)
    values = task.compare(nothing, nothing, scene(R90, np.zeros(5, dtype=np.int64)))
    record = task.summarise(Observed([("r90", values)], values, names(5), [None], 0))
    assert record.images == 0
    assert record.orbit_consistency is None
    assert record.by_element == [ElementConsistency("r90", None, None)]


def test_a_probability_of_zero_costs_much_but_not_everything() -> None:
    """The loss of a sure and wrong model stays finite, for each kind of scores."""
    for kind, output in (("multi-class", [[1.0, 0.0]]), ("binary", [[0.0]]), ("multi-label", [[0.0, 1.0]])):
        for scores, factor in (("probabilities", 1.0), ("logits", 1e4)):
            task = Classification("output", kind, scores, len(output[0]), 0.5, "")  # type: ignore[arg-type]
            wrong = np.array([[1, 0]]) if kind == "multi-label" else np.array([1])
            given_scores = torch.tensor(output, dtype=torch.float64) * factor
            loss = task.compare(given_scores, given_scores, scene(R90, wrong)).loss
            assert loss is not None
            assert np.isfinite(loss).all()
            assert loss[0] > 0.5


@pytest.mark.parametrize(
    ("kind", "classes", "targets", "expected"),
    [
        ("multi-class", 3, [0, 1, 2], None),
        ("multi-class", 3, [0, 3, 7], (1, "label 3, and the model has 3 classes (0 to 2)")),
        ("multi-class", 3, [2, 1, -1], (2, "label -1, and the model has 3 classes (0 to 2)")),
        ("binary", 1, [0, 1, 1], None),
        ("binary", 1, [0, 2, 1], (1, "label 2, and the model has 2 classes (0 to 1)")),
        ("multi-label", 2, [[0, 1], [1, 1]], None),
    ],
)
def test_labels_that_the_model_cannot_give_are_named(
    kind: Kind, classes: int, targets: list[int], expected: tuple[int, str] | None
) -> None:
    """The first such image, its label, and which labels there are."""
    assert classifier(kind, classes).misfit(np.array(targets)) == expected


# The area under the curve ----------------------------------------------------------------------------


def delong(scores: Array, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Return area and variance by all pairs (DeLong, DeLong and Clarke-Pearson 1988, equations 4 to 6)."""
    positives, negatives = scores[truth], scores[~truth]
    wins = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in negatives] for x in positives]
    table = np.array(wins)
    of_positives, of_negatives = table.mean(axis=1), table.mean(axis=0)
    variance = of_positives.var(ddof=1) / len(positives) + of_negatives.var(ddof=1) / len(negatives)
    return float(table.mean()), float(variance)


@settings(max_examples=40)
@given(
    positives=st.lists(st.integers(-5, 8), min_size=2, max_size=25),
    negatives=st.lists(st.integers(-8, 5), min_size=2, max_size=25),
)
def test_the_variance_of_the_auc_is_that_of_all_pairs(positives: list[int], negatives: list[int]) -> None:
    """Squares of the influences add up to DeLong's variance, with many ties."""
    scores = np.array(positives + negatives, dtype=np.float64)
    truth = np.arange(len(scores)) < len(positives)
    area, influence = auc_placements(scores.astype(np.float32), truth)
    expected = delong(scores, truth)
    assert area == pytest.approx(expected[0], abs=1e-12)
    assert area == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert np.square(influence).sum() == pytest.approx(expected[1], abs=1e-12)


def test_the_interval_of_the_auc_is_delongs_on_the_logit_scale() -> None:
    """Logit(area) and 1.96 standard errors, which never leaves 0 to 1."""
    outputs = outputs_of("binary", "logits", 1, images=40)
    truth = (outputs[0][:, 0] + random(40, seed=6) > 0).astype(np.int64)
    _, rows = predictions(classifier("binary", 1), outputs, truth)
    area, variance = delong(outputs[1][:, 0], truth == 1)
    reach = norm.ppf(0.975) * np.sqrt(variance) / (area * (1 - area))
    assert rows[1].auc is not None
    assert rows[1].auc.ci95 == pytest.approx(expit([logit(area) - reach, logit(area) + reach]), abs=1e-6)


def test_a_perfect_curve_has_no_interval() -> None:
    """Its variance is zero by the formula, which is no knowledge."""
    output = np.arange(20.0).reshape(-1, 1) - 10
    _, rows = predictions(classifier("binary", 1), [output, -output], (output[:, 0] >= 0).astype(np.int64))
    assert [(value(row.auc), row.auc and row.auc.ci95) for row in rows] == [(1, None), (0, None)]


# Segmentation ----------------------------------------------------------------------------------------


def segmenter(
    labels: int, first: int = 1, threshold: float | None = None, scores: Scores = "logits"
) -> SegmentationTask:
    """Return the task that counts classes from the first."""
    counted = tuple((label, f"class {label}") for label in range(first, labels))
    return SegmentationTask("output", scores, threshold, counted, labels, "test")


def overlap(
    one: Labels, other: Labels, label: int, counts: NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """Return Dice and IoU of one class of two masks, pixel by pixel."""
    both = in_one = in_other = 0
    for place in np.ndindex(one.shape):
        if counts is None or counts[place]:
            both += int(one[place] == label and other[place] == label)
            in_one += int(one[place] == label)
            in_other += int(other[place] == label)
    if in_one + in_other == 0:
        return 1.0, 1.0
    return 2 * both / (in_one + in_other), both / (in_one + in_other - both)


def maps(labels: int, seed: int, images: int = 3, side: int = 8) -> torch.Tensor:
    """Return scores of coarse random shapes, (B, labels, side, side)."""
    return torch.from_numpy(random(images, labels, side // 2, side // 2, seed=seed).repeat(2, 2).repeat(2, 3))


def masks(values: torch.Tensor) -> Labels:
    """Return the largest score's class."""
    return np.asarray(values.numpy().argmax(axis=1))


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("labels", [2, 4])
def test_dice_and_iou_are_those_of_plain_loops(labels: int, first: int) -> None:
    """Several classes, with class 0 and without it, at an exact element."""
    still, moved, task = maps(labels, 1), maps(labels, 2), segmenter(labels, first)
    values = task.compare(still, moved, scene(R90))
    for image, (one, other) in enumerate(zip(np.rot90(masks(still), 1, (1, 2)), masks(moved), strict=True)):
        for place, label in enumerate(range(first, labels)):
            expected = overlap(one, other, label)
            assert (values.dice[image, place], values.iou[image, place]) == pytest.approx(expected, rel=CLOSE)
    assert values.dice.shape == (3, labels - first)
    assert values.against_truth() is None


def test_masks_turn_by_nearest_neighbour_at_other_angles_and_count_inside_the_disc() -> None:
    """Labels are not mixed, whatever the resampler of the features; oracle: scikit-image."""
    still, moved, task = maps(4, 1, side=12), maps(4, 2, side=12), segmenter(4)
    inside = torch.from_numpy(np.add.outer(*[(np.arange(12) - 5.5) ** 2] * 2) <= 30)
    values = task.compare(still, moved, scene(R30, inside=inside))
    for image, (mask, other) in enumerate(zip(masks(still), masks(moved), strict=True)):
        options = {"order": 0, "mode": "symmetric", "preserve_range": True}
        one = rotate(mask.astype(float), 30, **options).astype(int)  # type: ignore[no-untyped-call]
        for place, label in enumerate((1, 2, 3)):
            expected = overlap(one, other, label, inside.numpy())
            assert (values.dice[image, place], values.iou[image, place]) == pytest.approx(expected, rel=CLOSE)


def test_both_masks_empty_is_one_and_one_empty_is_zero() -> None:
    """And the record counts such pairs of masks apart, over all images and classes."""
    task = segmenter(3)
    still, moved = torch.zeros(3, 3, 4, 4), torch.zeros(3, 3, 4, 4)
    still[:, 0], moved[:, 0] = 0.5, 0.5
    still[0, 1, 0, 0] = 1.0  # image 0: class 1 in one mask, class 2 in none
    still[1, 1, 2, 2] = moved[1, 1, 2, 2] = 1.0  # image 1: class 1 in both, class 2 in the other
    moved[1, 2, 0, 0] = 1.0
    values = task.compare(still, moved, scene())
    assert values.dice.tolist() == values.iou.tolist() == [[0, 1], [1, 0], [1, 1]]
    record = task.summarise(
        Observed([("r90", values)], task.compare(still, still, scene()), names(3), [None], 0)
    )
    assert record is not None
    assert (record.by_element[0].both_empty, record.by_element[0].one_empty) == (3, 2)
    assert (record.unmoved.both_empty, record.unmoved.one_empty) == (4, 0)
    assert record.by_element[0].dice.mean == pytest.approx((0.5 + 0.5 + 1) / 3)


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
@pytest.mark.parametrize("scores", ["logits", "probabilities"])
def test_one_score_becomes_a_mask_by_the_threshold(scores: Scores, threshold: float) -> None:
    """The threshold is one of probabilities, also where the model gives logits; it belongs to the mask."""
    probabilities = torch.tensor([[[[0.05, threshold - 1e-6, threshold + 1e-6, 0.95]]]], dtype=torch.float64)
    given_scores = torch.logit(probabilities) if scores == "logits" else probabilities
    assert segmenter(2, 1, threshold, scores).mask(given_scores).tolist() == [[[0, 0, 1, 1]]]
    exact = torch.tensor([[[[0.5]]]]) if scores == "probabilities" else torch.tensor([[[[0.0]]]])
    assert segmenter(2, 1, 0.5, scores).mask(exact).tolist() == [[[1]]]


def test_the_background_of_one_score_can_count_too() -> None:
    """Class 0 is what lies below the threshold."""
    still, moved = torch.tensor([[[[1.0, 1.0, -1.0, -1.0]]]]), torch.tensor([[[[1.0, -1.0, -1.0, -1.0]]]])
    values = segmenter(2, 0, 0.5).compare(still, moved, scene())
    assert values.dice.tolist() == [[pytest.approx(4 / 5), pytest.approx(2 / 3)]]
    assert values.iou.tolist() == [[pytest.approx(2 / 3), pytest.approx(1 / 2)]]


def test_the_truth_moves_with_the_image_and_ignored_pixels_never_count() -> None:
    """Dice and IoU with the moved truth; an ignored pixel counts in neither mask."""
    moved, task = maps(3, 4), segmenter(3)
    truth = np.random.default_rng(1).integers(-1, 3, (3, 8, 8))
    values = task.compare(maps(3, 5), moved, scene(M_R90, truth))
    against = values.against_truth()
    assert against is not None
    for image, (mask, found) in enumerate(zip(truth, masks(moved), strict=True)):
        turned = np.rot90(np.fliplr(mask))
        for place, label in enumerate((1, 2)):
            expected = overlap(turned, found, label, turned != IGNORED)
            assert (against[0][image, place], against[1][image, place]) == pytest.approx(expected, rel=CLOSE)
    everything = task.compare(maps(3, 5), moved, scene(M_R90)).dice
    assert np.array_equal(values.dice, everything)


@pytest.mark.parametrize("size", [(16, 16), (24, 24), (4, 4), (12, 12)])
def test_truth_of_another_size_is_read_at_the_centres_of_the_output_cells(size: tuple[int, int]) -> None:
    """No label is mixed, and no half cell is lost at a border."""
    moved, task = maps(3, 4), segmenter(3)
    truth = np.random.default_rng(1).integers(0, 3, (3, *size))
    values = task.compare(moved, moved, scene(R90, truth))
    places = ((np.arange(8) + 0.5) * size[0] / 8).astype(int)
    against = values.against_truth()
    assert against is not None
    for image, (mask, found) in enumerate(zip(truth[:, places][:, :, places], masks(moved), strict=True)):
        for place, label in enumerate((1, 2)):
            expected = overlap(np.rot90(mask), found, label)
            assert (against[0][image, place], against[1][image, place]) == pytest.approx(expected, rel=CLOSE)


def segmentation(images: int = 9) -> tuple[Segmentation, list[ElementOverlap], list[SegmentationValues]]:
    """Return the record of a still, a slightly changed and an unrelated map, its rows and their values."""
    task, still = segmenter(3), maps(3, 1, images)
    truth = np.random.default_rng(1).integers(0, 3, (images, 8, 8))
    values = [
        task.compare(still, moved, scene(action, truth))
        for action, moved in (
            (IDENTITY, still),
            (R90, torch.rot90(still, 1, (-2, -1)) + 0.5 * maps(3, 6, images)),
            (M_R90, maps(3, 7, images)),
        )
    ]
    poses = [("r90", values[1]), ("m-r90", values[2])]
    record = task.summarise(Observed(poses, values[0], names(images), [None, None], 0))
    assert record is not None
    return record, [record.unmoved, *record.by_element], values


def test_a_segmentation_is_described_by_means_over_classes_and_images() -> None:
    """Each image has the mean over classes, each class the mean over images; the worst image is named."""
    record, rows, values = segmentation()
    for row, value_of in zip(rows, values, strict=True):
        against = value_of.against_truth()
        assert against is not None
        assert row.truth_dice is not None
        assert row.truth_iou is not None
        by_image = value_of.dice.mean(axis=1)
        assert row.dice.mean == pytest.approx(by_image.mean(), rel=CLOSE)
        assert row.dice.p50 == pytest.approx(np.median(by_image), rel=CLOSE)
        assert row.dice.worst_image == names(9)[by_image.argmin()]
        assert row.iou.mean == pytest.approx(value_of.iou.mean(), rel=CLOSE)
        assert row.truth_dice.mean == pytest.approx(against[0].mean(), rel=CLOSE)
        assert row.truth_iou.mean == pytest.approx(against[1].mean(), rel=CLOSE)
        by_class = [(part.dice, part.iou, part.truth_dice) for part in row.classes]
        means = [numbers.mean(axis=0) for numbers in (value_of.dice, value_of.iou, against[0])]
        np.testing.assert_allclose(np.array(by_class, dtype=float), np.stack(means, axis=1), rtol=CLOSE)
    assert rows[0].dice.mean == 1 > rows[1].dice.mean > rows[2].dice.mean
    assert [row.element for row in rows] == ["e", "r90", "m-r90"]
    assert record.classes == ["class 1", "class 2"]


def test_maps_that_are_not_finite_at_one_pose_are_left_out_of_all() -> None:
    """The record is that of the other images, with the right names; None where there are no others."""
    task, still, moved = segmenter(3), maps(3, 1, 5), maps(3, 2, 5)
    moved[1, 0, 0, 0] = torch.nan

    def summarise(rows: list[int]) -> Segmentation | None:
        poses = [("r90", task.compare(still[rows], moved[rows], scene(R90)))]
        return task.summarise(
            Observed(
                poses,
                task.compare(still[rows], still[rows], scene()),
                [names(5)[row] for row in rows],
                [None],
                3,
            )
        )

    assert summarise([0, 1, 2, 3, 4]) == summarise([0, 2, 3, 4])
    assert summarise([1]) is None


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([[0, 1], [2, IGNORED]], None),
        ([[0, 1], [3, 9]], (1, "class 9, and the model has 3 (0 to 2)")),
        ([[-2, 1], [3, 9]], (0, "class -2, and the model has 3 (0 to 2)")),
    ],
)
def test_masks_with_classes_that_the_model_lacks_are_named(
    targets: list[list[int]], expected: tuple[int, str] | None
) -> None:
    """The first such image and the class; ignored pixels are no class."""
    assert segmenter(3).misfit(np.array(targets).reshape(2, 1, 2)) == expected


def test_the_floor_of_dice_adds_the_losses_of_shifts_and_round_trip() -> None:
    """1 - sqrt(shift^2 + round^2 / 3), where shift is the mean loss of the shifts."""
    _, _, (same, changed, other) = segmentation()
    losses = [float(1 - part.dice.mean()) for part in (changed, other)]
    assert 0.01 < losses[0] < losses[1]
    expected = 1 - np.sqrt(((0 + losses[0]) / 2) ** 2 + losses[1] ** 2 / 3)
    assert dice_floor(Controls([same, changed], same, other)) == pytest.approx(expected, rel=CLOSE)
    assert dice_floor(Controls([same] * 4, same, same)) == 1
    poses, controls = [("r30", changed), ("r90", other)], [Controls([other], changed, same), None]
    record = segmenter(3).summarise(Observed(poses, same, names(9), controls, 0))
    assert record is not None
    assert record.unmoved.dice.floor is None
    assert record.by_element[0].dice.floor == pytest.approx(1 - losses[1], rel=CLOSE)
    assert record.by_element[1].dice.floor is None


def test_masks_that_do_not_follow_translations_have_no_floor() -> None:
    """A shift by a whole period that costs more than the floor, and more than 0.01, says so."""
    _, _, (same, changed, other) = segmentation()
    assert dice_floor(Controls([changed], other, same)) is None
    assert dice_floor(Controls([other], changed, same)) is not None
    big = np.full((1, 1), 1_000)

    def losing(pixels: int) -> SegmentationValues:
        return SegmentationValues(np.array([True]), big - pixels, big, big, None, None, None)

    assert dice_floor(Controls([losing(0)], losing(9), losing(0))) == 1
    assert dice_floor(Controls([losing(0)], losing(11), losing(0))) is None
    assert dice_floor(Controls([losing(20)], losing(20), losing(0))) == pytest.approx(0.98)


def test_the_floor_of_dice_leaves_out_images_that_are_not_finite() -> None:
    """What argmax makes of NaN is no mask: the floor is that of the other images, as that of an error is."""
    task, still, moved = segmenter(3), maps(3, 1, 5), maps(3, 1, 5) + 0.3 * maps(3, 2, 5)
    spoiled = moved.clone()
    spoiled[1] = torch.nan
    rest = [0, 2, 3, 4]
    same, some, alone = (
        task.compare(still[rows], output[rows], scene())
        for output, rows in ((still, rest), (spoiled, [0, 1, 2, 3, 4]), (moved, rest))
    )
    expected = dice_floor(Controls([alone], same, alone))
    assert expected is not None
    assert dice_floor(Controls([some], same, some)) == pytest.approx(expected, rel=CLOSE)


# Maps of numbers and vectors -------------------------------------------------------------------------


def test_psnr_is_that_of_scikit_image() -> None:
    """Over all images, with the range of the unmoved maps as peak; the worst image is named."""
    still = torch.from_numpy(random(6, 2, 7, 7))
    grain = torch.linspace(0.05, 0.3, 6).reshape(-1, 1, 1, 1) * torch.from_numpy(random(6, 2, 7, 7, seed=1))
    exact = torch.rot90(still, 1, (-2, -1))
    noisy, task = exact + grain, DenseTask("output", "test")
    values = [task.compare(still, moved, scene(R90)) for moved in (noisy, exact)]
    poses = list(zip(("r90", "same"), values, strict=True))
    record = task.summarise(Observed(poses, values[1], names(6), [None, None], 0))
    assert record is not None
    peak = float(still.max() - still.min())
    expected = peak_signal_noise_ratio(exact.numpy(), noisy.numpy(), data_range=peak)  # type: ignore[no-untyped-call]
    first, same = record.by_element
    assert record.peak == pytest.approx(peak, rel=CLOSE)
    assert first.psnr == pytest.approx(expected, rel=CLOSE)
    assert first.worst_image == "image 5"
    assert first.ci95 is not None
    assert first.psnr is not None
    assert first.ci95[0] < first.psnr < first.ci95[1]
    assert (same.psnr, same.ci95) == (None, None)


def test_psnr_counts_inside_the_valid_mask_and_finite_images_alone() -> None:
    """What lies outside of the disc, and the range of an image with NaN, change nothing."""
    still, moved = torch.from_numpy(random(4, 1, 6, 6)), torch.from_numpy(random(4, 1, 6, 6, seed=1))
    inside = torch.zeros(6, 6, dtype=torch.bool)
    inside[2:4, 1:5] = True
    task = DenseTask("output", "test")
    spoiled = moved.clone()
    spoiled[..., ~inside] = 1e9
    one, other = (task.compare(still, part, scene(inside=inside)) for part in (moved, spoiled))
    expected = ((moved - still)[:, :, 2:4, 1:5] ** 2).mean(dim=(1, 2, 3))
    assert one.squared_error == pytest.approx(expected.numpy(), rel=CLOSE)
    assert np.array_equal(one.squared_error, other.squared_error)
    still[2, 0, 0, 0], still[2, 0, 1, 1] = torch.nan, 1e9
    values = task.compare(still, moved, scene(inside=inside))
    record = task.summarise(Observed([("r30", values)], values, names(4), [None], 0))
    assert record is not None
    rest = still[[0, 1, 3]]
    assert record.images == 3
    assert record.peak == pytest.approx(float(rest.max() - rest.min()))
    empty = task.compare(still[2:3], still[2:3], scene())
    assert task.summarise(Observed([("r30", empty)], empty, names(1), [None], 0)) is None


def test_dense_maps_are_moved_by_the_resampler() -> None:
    """A map that is the resampled one itself has no error."""
    still = torch.from_numpy(random(2, 1, 9, 9))
    moved = SPLINE.turn(still, Fraction(1, 12))
    assert DenseTask("output", "").compare(still, moved, scene(R30)).squared_error.tolist() == [0, 0]
    assert DenseTask("output", "").compare(still, still, scene(R30)).squared_error.min() > 0.01


def test_cosine_similarity_is_that_of_scipy() -> None:
    """Image by image, whatever the lengths of the vectors; the least similar image is named."""
    still, moved = random(7, 12), random(7, 12) + random(7, 12, seed=1)
    task = EmbeddingTask("output", "test")
    values = task.compare(torch.from_numpy(still), torch.from_numpy(1e6 * moved), scene(R90))
    expected = np.array([1 - cosine(one, other) for one, other in zip(still, moved, strict=True)])
    assert values.cosine == pytest.approx(expected, rel=CLOSE)
    record = task.summarise(Observed([("r90", values)], values, names(7), [None], 0))
    assert record is not None
    assert record.by_element[0].cosine.mean == pytest.approx(expected.mean(), rel=CLOSE)
    assert record.by_element[0].cosine.worst_image == names(7)[expected.argmin()]


def test_vectors_that_are_not_finite_are_left_out() -> None:
    """The record counts the others; None where there are no others."""
    still, moved = torch.from_numpy(random(4, 3)), torch.from_numpy(random(4, 3, seed=1))
    moved[2, 1] = torch.inf
    task = EmbeddingTask("output", "test")
    values = task.compare(still, moved, scene(R90))
    record = task.summarise(Observed([("r90", values)], values, names(4), [None], 0))
    assert record is not None
    assert record.images == 3
    assert record.by_element[0].cosine.mean == pytest.approx(values.cosine[[0, 1, 3]].mean())
    nothing = choose(values, np.array([False, False, True, False]))
    assert task.summarise(Observed([("r90", nothing)], nothing, names(1), [None], 0)) is None


# What every task shares ------------------------------------------------------------------------------


def test_batches_join_to_the_values_of_one_run_and_choosing_takes_rows() -> None:
    """Every field of every image, in order."""
    outputs = outputs_of("multi-class", "logits", 4)
    truth = np.random.default_rng(3).integers(0, 4, 80)
    task = classifier("multi-class", 4)

    def compare(part: slice) -> ClassificationValues:
        still, moved = (torch.from_numpy(output[part]) for output in outputs[:2])
        return task.compare(still, moved, scene(R90, truth[part]))

    whole, parts = (
        compare(slice(None)),
        [compare(slice(0, 30)), compare(slice(30, 31)), compare(slice(31, 80))],
    )
    joined, rows = join(parts), np.arange(80) % 3 == 0
    chosen = choose(whole, rows)
    for field in fields(whole):
        expected = getattr(whole, field.name)
        assert np.array_equal(getattr(joined, field.name), expected)
        assert np.array_equal(getattr(chosen, field.name), expected[rows])


def test_a_field_that_one_batch_lacks_is_missing_from_all() -> None:
    """Half a truth is none."""
    task, still = segmenter(3), maps(3, 1)
    with_truth = task.compare(still, still, scene(targets=np.zeros((3, 8, 8), dtype=np.int64)))
    without = task.compare(still, still, scene())
    joined = join([with_truth, without])
    assert joined.against_truth() is None
    assert len(joined.dice) == 6
    assert choose(without, np.array([True, False, True])).truth is None


@settings(max_examples=100)
@given(st.lists(st.integers(0, 40).map(lambda n: n / 40), min_size=1, max_size=60))
def test_a_spread_is_that_of_a_box_plot(values: list[float]) -> None:
    """Oracles: numpy's quantiles and matplotlib's box plot."""
    spread = describe_spread(np.array(values), names(len(values)), None)
    (box,) = boxplot_stats(values)
    found = [spread.p5, spread.p25, spread.p50, spread.p75, spread.p95]
    assert found == pytest.approx(list(np.percentile(values, [5, 25, 50, 75, 95])), rel=CLOSE)
    assert (spread.p25, spread.p50, spread.p75) == pytest.approx(
        (box["q1"], box["med"], box["q3"]), rel=CLOSE
    )
    assert spread.mean == pytest.approx(box["mean"], rel=CLOSE)
    reach = 1.5 * (box["q3"] - box["q1"])
    # On the very limit rounding decides.
    limits = np.array([box["q1"] - reach, box["q3"] + reach])
    if not reach or np.abs(np.subtract.outer(values, limits)).min() > 1e-9:
        low, high = spread.whiskers
        assert spread.outliers == sorted(box["fliers"])
        # matplotlib lets a whisker without a value beyond the box end at the box.
        assert (min(low, box["q1"]), max(high, box["q3"])) == pytest.approx((box["whislo"], box["whishi"]))
    assert spread.worst_image == f"image {values.index(min(values))}"


def test_a_spread_keeps_the_hundred_lowest_outliers() -> None:
    """A report does not grow with the number of bad images, and the worst are kept."""
    values = np.concatenate([np.ones(1_000), np.linspace(0, 0.5, 150)])
    spread = describe_spread(values, names(len(values)), (0.1, 0.2), 0.7)
    assert spread.outliers == np.linspace(0, 0.5, 150)[:100].tolist()
    assert list(spread.whiskers) == [1, 1]
    assert spread.ci95 == (0.1, 0.2)
    assert spread.floor == 0.7


# Intervals of means ----------------------------------------------------------------------------------


def test_intervals_of_means_depend_on_the_seed_alone() -> None:
    """The same seed, the same interval, also beside other columns; it holds the mean."""
    table = np.random.default_rng(0).lognormal(size=(30, 5))
    intervals = mean_intervals(table, 7)
    assert intervals == mean_intervals(table, 7)
    assert intervals != mean_intervals(table, 8)
    (alone,) = mean_intervals(table[:, 2:3], 7)
    assert intervals[2] == pytest.approx(alone, rel=1e-12)
    for column, interval in zip(table.T, intervals, strict=True):
        assert interval is not None
        assert interval[0] < column.mean() < interval[1]


def test_intervals_of_means_cover_the_truth_about_as_often_as_they_say() -> None:
    """Of 3,000 samples of 40 normal values the 95 % interval holds the true mean in 92 to 96 %."""
    table = np.random.default_rng(1).normal(3.0, 2.0, (40, 3_000))
    hits = [low <= 3.0 <= high for low, high in filter(None, mean_intervals(table, 0))]
    assert len(hits) == 3_000
    assert 0.92 <= np.mean(hits) <= 0.96


@pytest.mark.parametrize("rows", [1, 7, 999, 1_000])
def test_large_tables_get_the_intervals_of_small_ones(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn some resamples at a time, the numbers are those of one draw."""
    table = np.random.default_rng(0).normal(size=(25, 3))
    expected = mean_intervals(table, 5)
    monkeypatch.setattr(statistics, "LARGEST_TABLE", 25 * rows)
    for found, interval in zip(mean_intervals(table, 5), expected, strict=True):
        assert found == pytest.approx(interval, rel=1e-12)


def test_one_image_has_no_interval_and_equal_images_have_one_of_no_width() -> None:
    """One value has no spread; values without spread have an interval of one point."""
    assert mean_intervals(np.ones((1, 2)), 0) == [None, None]
    assert mean_intervals(np.full((9, 1), 0.25), 0) == [(0.25, 0.25)]


# Classes of resampled elements -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "floor", "expected"),
    [
        # What cannot be told comes first.
        (Measured(None, 0.5), 0.01, "unresolved"),
        (Measured(0.0, 0.5, nonfinite=1), 0.01, "unresolved"),
        (Measured(0.0, 0.0, nonfinite=1), 0.01, "unresolved"),
        (Measured(0.0, 0.0), 0.01, "degenerate"),
        (Measured(0.3, 1e-12), None, "degenerate"),
        (Measured(0.0, 1e-13), None, "degenerate"),
        (Measured(0.001, 0.5), None, "unresolved"),
        (Measured(0.9, 0.5), None, "unresolved"),
        (Measured(0.001, None), 0.01, "unresolved"),
        (Measured(0.0, 0.4), 0.1001, "unresolved"),
        (Measured(0.9, 0.4), 0.1001, "unresolved"),
        # Up to twice the floor, if that is at most a quarter of chance.
        (Measured(0.0, 0.4), 0.1, "at the floor"),
        (Measured(0.2, 0.4), 0.1, "at the floor"),
        (Measured(0.2001, 0.5), 0.1, "approximate"),
        (Measured(0.1, 1.0), 0.05, "at the floor"),
        (Measured(0.1001, 1.0), 0.05, "approximate"),
        # Negligible by itself and beside chance, whatever the floor.
        (Measured(0.01, 1.0), 0.001, "at the floor"),
        (Measured(0.01, 1.0), 0.0, "at the floor"),
        (Measured(0.0101, 1.1), 0.001, "approximate"),
        (Measured(0.0099, 0.9), 0.001, "approximate"),
        (Measured(0.001, 0.1), 0.0001, "at the floor"),
        (Measured(0.0011, 0.1), 0.0001, "approximate"),
        (Measured(1e-5, 1e-5), 1e-7, "broken"),
        # Half of chance.
        (Measured(0.25, 0.5), 0.01, "approximate"),
        (Measured(0.2501, 0.5), 0.01, "broken"),
        (Measured(1.9, 1.2), 0.25, "broken"),
    ],
)
def test_classes_of_resampled_elements_are_those_of_the_definition(
    measured: Measured, floor: float | None, expected: str
) -> None:
    """The first that fits: unresolved, degenerate, at the floor, broken, approximate."""
    assert classify_resampled(measured, floor, 2.0) == expected


@given(error=st.floats(0, 2), chance=st.floats(1e-3, 1.5), share=st.floats(0, 0.25), factor=st.floats(0, 5))
def test_a_floor_holds_up_to_its_factor(error: float, chance: float, share: float, factor: float) -> None:
    """With a usable floor an error is at it, or negligible, or told by its share of chance."""
    floor = share * chance * 0.999
    found = classify_resampled(Measured(error, chance), floor, factor)
    if error <= factor * floor or (error <= 0.01 and error <= 0.01 * chance):
        assert found == "at the floor"
    else:
        assert found == ("broken" if error / chance > 0.5 else "approximate")


@pytest.mark.parametrize(
    ("error", "chance", "expected"),
    [
        (0.01, 1.0, True),
        (0.0101, 2.0, False),
        (0.01, 0.99, False),
        (0.0, 0.0, True),
        (1e-9, 1e-8, False),
    ],
)
def test_negligible_means_small_in_both_ways(error: float, chance: float, expected: bool) -> None:
    """At most 0.01, and at most 1 % of chance."""
    assert negligible(error, chance) is expected
