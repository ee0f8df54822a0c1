"""Class scores: consistency and total variation; with labels accuracy, cross-entropy and AUC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from torch.nn import functional

from eqaudit.groups import IDENTITY
from eqaudit.metrics.base import Observed, Scene, as_floats, as_integers, finite_images
from eqaudit.report import ElementConsistency, Estimate, Predictions, WorstAccuracy
from eqaudit.statistics import NORMAL_QUANTILE, Floats, Integers, mean_intervals, mean_ranks, share_interval

Kind = Literal["multi-class", "binary", "multi-label"]
LARGEST_AUC_CLASSES = 100
LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True)
class ClassificationValues:
    """One pose of some images: decisions (B, 1), or (B, K) of several labels, and how they compare.

    ``kept`` is whether the decision is that of the unmoved image, ``right`` the share of right decisions of
    each image; ``scores`` (B, K) and ``truth`` (B, K) of 0 and 1 are kept for the AUC. Without labels the
    last are None, but for the scores of the unmoved images.
    """

    decided: Integers
    kept: NDArray[np.bool_]
    finite: NDArray[np.bool_]
    variation: Floats
    right: Floats | None
    loss: Floats | None
    scores: Floats | None
    truth: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Classification:
    """How class scores (B, K) are read. ``threshold`` decides where there is one score, or several labels."""

    output: str
    kind: Kind
    scores: Literal["logits", "probabilities"]
    classes: int
    threshold: float
    reason: str
    class_names: tuple[str, ...] = ()

    def compare(self, still: torch.Tensor, moved: torch.Tensor, scene: Scene) -> ClassificationValues:
        """Compare the scores of moved images with those of the unmoved ones, both (B, K)."""
        finite = finite_images(still, moved)
        before, after = (self.probabilities(torch.nan_to_num(scores.double())) for scores in (still, moved))
        decided = self._decide(after)
        share = 0.5 if self.kind == "multi-class" else 1 / self.classes
        right = loss = scores = truth = None
        if self.classes <= LARGEST_AUC_CLASSES and (scene.targets is not None or scene.action == IDENTITY):
            # For one curve the order is all that counts, and a sigmoid would make sure scores equal.
            scores = as_floats(after if self.kind == "multi-class" else torch.nan_to_num(moved.double()))
        if scene.targets is not None:
            truth = self._truth(scene.targets)
            right = (as_integers(decided) == self._decisions(truth)).mean(axis=1)
            loss = self._loss(moved, after, torch.from_numpy(truth).to(after.device))
        return ClassificationValues(
            decided=as_integers(decided),
            kept=(decided == self._decide(before)).all(dim=1).cpu().numpy(),
            finite=finite.cpu().numpy(),
            variation=as_floats((after - before).abs().sum(dim=1) * share),
            right=right,
            loss=loss,
            scores=scores,
            truth=truth,
        )

    def misfit(self, targets: NDArray[np.int64]) -> tuple[int, str] | None:
        """Return the first image whose label the model cannot give, and what is wrong with it."""
        if self.kind == "multi-label":
            return None
        most = max(self.classes, 2)
        wrong = np.flatnonzero((targets < 0) | (targets >= most))
        if not wrong.size:
            return None
        return int(wrong[0]), f"label {targets[wrong[0]]}, and the model has {most} classes (0 to {most - 1})"

    def summarise(self, observed: Observed[ClassificationValues]) -> Predictions:
        """Return the record of the images that are finite at every pose."""
        observed = observed.finite()
        still, rows = observed.still, [("e", observed.still), *observed.poses]
        records = self._elements(rows, still, observed.seed) if observed.names else []
        orbit = np.logical_and.reduce([values.kept for _, values in observed.poses])
        accuracies = [(row.accuracy.value, row.element) for row in records[1:] if row.accuracy]
        worst = min(accuracies, default=None)
        return Predictions(
            task="classification",
            output=self.output,
            classes=self.classes,
            images=len(observed.names),
            by_element=records[1:] or [ElementConsistency(name, None, None) for name, _ in observed.poses],
            orbit_consistency=float(orbit.mean()) if orbit.size else None,
            orbit_ci95=share_interval(int(orbit.sum()), orbit.size),
            kind=self.kind,
            reason=self.reason,
            scores=self.scores,
            threshold=None if self.kind == "multi-class" else self.threshold,
            class_names=list(self.class_names),
            class_images=None if still.truth is None else still.truth.sum(axis=0).tolist(),
            unmoved=records[0] if records else None,
            worst_accuracy=None if worst is None else WorstAccuracy(worst[1], worst[0]),
        )

    def _elements(
        self, rows: list[tuple[str, ClassificationValues]], still: ClassificationValues, seed: int
    ) -> list[ElementConsistency]:
        means = [[values.variation for _, values in rows]]
        means += [
            [column for _, values in rows if (column := getattr(values, name)) is not None]
            for name in ("right", "loss")
        ]
        variation, right, loss = (_estimates(columns, seed) or [None] * len(rows) for columns in means)
        return [
            ElementConsistency(
                element=name,
                consistency=float(values.kept.mean()),
                ci95=share_interval(int(values.kept.sum()), values.kept.size),
                total_variation=variation[place],
                accuracy=self._accuracy(values, right[place]),
                cross_entropy=loss[place],
                auc=_auc(values, self.kind),
                consistency_when_right=_share(values.kept[still.right == 1])
                if still.right is not None
                else None,
                class_accuracy=self._class_accuracy(values),
            )
            for place, (name, values) in enumerate(rows)
        ]

    def _accuracy(self, values: ClassificationValues, mean: Estimate | None) -> Estimate | None:
        if values.right is None or self.kind == "multi-label":
            return mean
        return _share(values.right == 1)

    def _class_accuracy(self, values: ClassificationValues) -> list[float | None] | None:
        """Return, by class, the share of its images that are right (of several labels: of all images)."""
        if values.right is None or values.truth is None:
            return None
        if self.kind == "multi-label":
            return [float(share) for share in (values.decided == values.truth).mean(axis=0)]
        members = [values.right[values.truth[:, place]] for place in range(values.truth.shape[1])]
        return [float(member.mean()) if member.size else None for member in members]

    def probabilities(self, scores: torch.Tensor) -> torch.Tensor:
        """Return scores (B, K) as probabilities."""
        if self.scores == "probabilities":
            return scores
        return scores.softmax(dim=1) if self.kind == "multi-class" else scores.sigmoid()

    def _decide(self, probabilities: torch.Tensor) -> torch.Tensor:
        if self.kind == "multi-class":
            return probabilities.argmax(dim=1, keepdim=True)
        return (probabilities >= self.threshold).long()

    def _truth(self, targets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return labels as rows of 0 and 1: (B, K), and (B, 2) for one score."""
        if self.kind == "multi-label":
            return targets.astype(bool)
        return np.equal(targets.reshape(-1, 1), np.arange(max(self.classes, 2)))

    def _decisions(self, truth: NDArray[np.bool_]) -> Integers:
        return truth.astype(np.int64) if self.kind == "multi-label" else truth.argmax(axis=1).reshape(-1, 1)

    def _loss(self, moved: torch.Tensor, probabilities: torch.Tensor, truth: torch.Tensor) -> Floats:
        """Return the cross-entropy of each image in nats, (B,)."""
        moved = torch.nan_to_num(moved.double())
        if self.kind == "multi-class":
            logs = probabilities.clamp_min(LEAST_PROBABILITY).log()
            logs = moved.log_softmax(dim=1) if self.scores == "logits" else logs
            return as_floats(-logs[truth])
        wanted = (truth[:, 1:] if self.kind == "binary" else truth).double()
        if self.scores == "logits":
            losses = functional.binary_cross_entropy_with_logits(moved, wanted, reduction="none")
        else:
            losses = functional.binary_cross_entropy(probabilities.clamp(0, 1), wanted, reduction="none")
        return as_floats(losses.mean(dim=1))


def _estimates(columns: list[Floats], seed: int) -> list[Estimate | None]:
    if not columns:
        return []
    intervals = mean_intervals(np.stack(columns, axis=1), seed)
    return [
        Estimate(float(column.mean()), interval) for column, interval in zip(columns, intervals, strict=True)
    ]


def _share(hits: NDArray[np.bool_]) -> Estimate | None:
    if not hits.size:
        return None
    return Estimate(float(hits.mean()), share_interval(int(hits.sum()), hits.size))


def _auc(values: ClassificationValues, kind: Kind) -> Estimate | None:
    """Return the area under the ROC curve: of one class, or the mean over classes that have both sides."""
    if values.scores is None or values.truth is None:
        return None
    scores, truth = values.scores, values.truth
    if kind != "multi-label" and truth.shape[1] == 2:  # noqa: PLR2004 - two classes have one curve
        scores, truth = scores[:, -1:], truth[:, -1:]
    both = truth.any(axis=0) & ~truth.all(axis=0)
    if not both.any():
        return None
    parts = [auc_placements(scores[:, place], truth[:, place]) for place in np.flatnonzero(both)]
    area = float(np.mean([area for area, _ in parts]))
    influence = np.mean([part for _, part in parts], axis=0)
    error = float(np.sqrt(np.square(influence).sum()))
    if not 0 < area < 1 or not error:
        return Estimate(area, None)
    # On the logit scale the interval stays between 0 and 1 (Pepe 2003, section 5.2).
    spread = NORMAL_QUANTILE * error / (area * (1 - area))
    return Estimate(area, (float(expit(logit(area) - spread)), float(expit(logit(area) + spread))))


def auc_placements(scores: Floats, truth: NDArray[np.bool_]) -> tuple[float, Floats]:
    """Return the AUC and each image's influence on it, whose squares add up to its variance.

    Both follow from the placements of DeLong, DeLong and Clarke-Pearson (1988), counted by ranks; ties count
    half. Both sides must be present.
    """
    everyone = mean_ranks(scores)
    placements = everyone.copy()
    for side in (truth, ~truth):
        placements[side] -= mean_ranks(scores[side])
    positives, negatives = int(truth.sum()), int((~truth).sum())
    above = np.where(truth, placements / negatives, 1 - placements / positives)
    area = float(above[truth].mean())
    sizes = np.where(truth, positives, negatives)
    return area, (above - area) / np.sqrt(sizes * np.maximum(sizes - 1, 1))
