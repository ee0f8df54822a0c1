"""What the output is for: decided from its shape and values, the truth at hand, and the options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from eqaudit.data import TruthKind
from eqaudit.errors import DataError, UsageError
from eqaudit.metrics import Classification, DenseTask, EmbeddingTask, SegmentationTask, Task
from eqaudit.plan import TaskName, TaskOptions
from eqaudit.report import describe_shape

UNIT_TOLERANCE = 1e-3
ScoreKind = Literal["logits", "probabilities"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the judged output on the first batch: (B, K), (B, C, H, W), or something else."""

    name: str
    value: torch.Tensor
    spatial: bool
    image: tuple[int, int, int]
    truth: TruthKind
    labels: int | None
    class_names: tuple[str, ...]


def choose_task(evidence: Evidence, options: TaskOptions) -> Task | None:
    """Return the task, or None where nothing but the error can be said of the output.

    Raises
    ------
    UsageError
        ``--task`` does not fit the output.
    DataError
        The truth does not fit the output.
    """
    name, reason = (options.task, f"--task {options.task}") if options.task != "auto" else _guess(evidence)
    shape = describe_shape(evidence.value.shape[1:])
    maps = name in {"segmentation", "dense"}
    if name and (maps != evidence.spatial or evidence.value.ndim != (4 if maps else 2)):
        raise UsageError(
            f"--task {name} does not fit {evidence.name} of shape {shape}",
            "segmentation and dense need a map (C, H, W); classification and embedding a vector",
        )
    _check_truth(evidence, name, shape)
    match name:
        case "classification":
            return _classification(evidence, options, reason)
        case "segmentation":
            return _segmentation(evidence, options, reason)
        case "dense":
            return DenseTask(evidence.name, reason)
        case "embedding":
            return EmbeddingTask(evidence.name, reason)
        case _:
            return None


def _guess(evidence: Evidence) -> tuple[TaskName | None, str]:
    value, shape = evidence.value, tuple(evidence.value.shape[1:])
    if evidence.spatial:
        return _guess_map(evidence)
    if len(shape) != 1:
        return None, ""
    if evidence.truth in {"labels", "multi-hot"}:
        return "classification", f"the output is {shape[0]} scores, and there are labels"
    if shape[0] == 1:
        both_signs = bool((value < 0).any()) and bool((value > 0).any())
        decides = both_signs or _within_unit(value)
        return ("classification", "one score for each image") if decides else (None, "")
    lengths = torch.linalg.vector_norm(value.double(), dim=1)
    if bool((value < 0).any()) and bool(((lengths - 1).abs() < UNIT_TOLERANCE).all()):
        return "embedding", "vectors of length 1"
    return "classification", f"the output is {shape[0]} scores"


def _guess_map(evidence: Evidence) -> tuple[TaskName | None, str]:
    if evidence.value.ndim != 4:  # noqa: PLR2004 - (B, C, H, W)
        return None, ""
    channels, *size = evidence.value.shape[1:]
    if evidence.truth == "masks":
        return "segmentation", "the output is a map, and there are masks"
    if tuple(size) != evidence.image[1:]:
        return None, ""
    if channels == evidence.image[0]:
        return "dense", "the output is a map like the image (masks of scores: --task segmentation)"
    return "segmentation", "the output is a map of scores of the image's size (numbers: --task dense)"


def _check_truth(evidence: Evidence, name: TaskName | None, shape: str) -> None:
    wanted = {"classification": {"labels", "multi-hot"}, "segmentation": {"masks"}}.get(name or "", set())
    if evidence.truth != "none" and evidence.truth not in wanted:
        said = f"the task is {name}" if name else "no task fits"
        raise DataError(
            f"{evidence.truth} are of no use for {evidence.name} of shape {shape}: {said}",
            "labels go with class scores, masks with maps of scores (see --task and --output)",
        )
    if evidence.truth == "multi-hot" and evidence.labels != evidence.value.shape[1]:
        raise DataError(
            f"the labels are {evidence.labels} of 0 and 1 for each image, {evidence.name} has {shape} scores",
            "give one label for each score, or one class index for each image",
        )


def _classification(evidence: Evidence, options: TaskOptions, reason: str) -> Classification:
    classes = evidence.value.shape[1]
    several = evidence.truth == "multi-hot"
    scores = options.scores
    if scores == "auto":
        sums = evidence.value.double().sum(dim=1)
        alone = classes == 1 or several or bool(((sums - 1).abs() < UNIT_TOLERANCE).all())
        scores = "probabilities" if _within_unit(evidence.value) and alone else "logits"
    return Classification(
        evidence.name,
        "multi-label" if several else "binary" if classes == 1 else "multi-class",
        scores,
        classes,
        options.threshold,
        reason,
        evidence.class_names,
    )


def _segmentation(evidence: Evidence, options: TaskOptions, reason: str) -> SegmentationTask:
    channels = evidence.value.shape[1]
    labels = max(channels, 2)
    scores = options.scores
    if scores == "auto":
        scores = "probabilities" if _within_unit(evidence.value) else "logits"
    names = evidence.class_names or tuple(f"class {label}" for label in range(labels))
    first = 0 if options.with_background else 1
    classes = tuple(
        (label, names[label] if label < len(names) else f"class {label}") for label in range(first, labels)
    )
    threshold = options.threshold if channels == 1 else None
    return SegmentationTask(evidence.name, scores, threshold, classes, labels, reason)


def _within_unit(value: torch.Tensor) -> bool:
    return bool(((value >= 0) & (value <= 1)).all())
