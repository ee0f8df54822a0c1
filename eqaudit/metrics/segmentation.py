"""Masks: Dice and IoU of the moved mask with the mask of the moved image, and of both with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from eqaudit.metrics.base import Controls, Observed, Scene, as_integers, finite_images, spreads
from eqaudit.report import ClassOverlap, ElementOverlap, Segmentation, Spread
from eqaudit.statistics import Floats, Integers

IGNORED = -1
NEGLIGIBLE_LOSS = 0.01


@dataclass(frozen=True, slots=True)
class SegmentationValues:
    """Pixels of some images by class, (B, classes) each: in both masks, in the one, in the other.

    The second three compare the mask of the moved image with the moved truth; None without.
    """

    finite: NDArray[np.bool_]
    both: Integers
    expected: Integers
    found: Integers
    truth_both: Integers | None
    truth: Integers | None
    truth_found: Integers | None

    @property
    def dice(self) -> Floats:
        """Dice of each image and class; 1 where both masks are empty, 0 where one is."""
        return _overlap(2 * self.both, self.expected + self.found)

    @property
    def image_dice(self) -> Floats:
        """Dice of each image, the mean over classes, (B,); NaN where the scores are not finite."""
        return self._by_image(self.dice)

    @property
    def image_truth_dice(self) -> Floats | None:
        """Dice of each image with the truth, likewise; None without truth."""
        pair = self.against_truth()
        return None if pair is None else self._by_image(pair[0])

    def _by_image(self, overlaps: Floats) -> Floats:
        return np.where(self.finite, overlaps.mean(axis=-1), np.nan)

    @property
    def iou(self) -> Floats:
        """Intersection over union, likewise."""
        return _overlap(self.both, self.expected + self.found - self.both)

    def against_truth(self) -> tuple[Floats, Floats] | None:
        """Return Dice and IoU with the truth, likewise."""
        if self.truth_both is None or self.truth is None or self.truth_found is None:
            return None
        sizes = self.truth + self.truth_found
        return _overlap(2 * self.truth_both, sizes), _overlap(self.truth_both, sizes - self.truth_both)


def _overlap(shared: Integers, size: Integers) -> Floats:
    return np.where(size > 0, shared / np.maximum(size, 1), 1.0)


@dataclass(frozen=True, slots=True)
class SegmentationTask:
    """How a map of scores (B, K, H, W) becomes a hard mask: the largest score, or one score and a threshold.

    ``classes`` are those that count, by index and name.
    """

    output: str
    scores: Literal["logits", "probabilities"]
    threshold: float | None
    classes: tuple[tuple[int, str], ...]
    labels: int
    reason: str

    def mask(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the hard mask, (B, H, W) int64."""
        if self.threshold is None:
            return scores.argmax(dim=1)
        probabilities = scores[:, 0].sigmoid() if self.scores == "logits" else scores[:, 0]
        return (probabilities >= self.threshold).long()

    def compare(self, still: torch.Tensor, moved: torch.Tensor, scene: Scene) -> SegmentationValues:
        """Count pixels inside the valid mask; ``still`` and ``moved`` are (B, K, H, W)."""
        finite = finite_images(still, moved)
        found = self.mask(moved)
        both, expected, in_found = self._count(scene.move_labels(self.mask(still)), found, scene)
        truth = self._truth(scene, found)
        return SegmentationValues(finite.cpu().numpy(), both, expected, in_found, *truth)

    def misfit(self, targets: NDArray[np.int64]) -> tuple[int, str] | None:
        """Return the first image whose mask holds a class that the model lacks, and what is wrong."""
        wrong = (targets != IGNORED) & ((targets < 0) | (targets >= self.labels))
        images = np.flatnonzero(wrong.reshape(len(targets), -1).any(axis=1))
        if not images.size:
            return None
        value = targets[images[0]][wrong[images[0]]].max()
        return int(images[0]), f"class {value}, and the model has {self.labels} (0 to {self.labels - 1})"

    def summarise(self, observed: Observed[SegmentationValues]) -> Segmentation | None:
        """Return the record of the images that are finite at every pose; None when there is none."""
        observed = observed.finite()
        if not observed.names:
            return None
        names, seed = observed.names, observed.seed
        rows = [("e", observed.still), *observed.poses]
        floors = [None, *(None if control is None else dice_floor(control) for control in observed.controls)]
        dice = spreads([values.dice.mean(axis=1) for _, values in rows], names, seed, floors)
        iou = spreads([values.iou.mean(axis=1) for _, values in rows], names, seed)
        truth = self._against_truth(rows, names, seed)
        records = [
            self._element(name, values, dice[place], iou[place], truth[place])
            for place, (name, values) in enumerate(rows)
        ]
        return Segmentation(
            output=self.output,
            classes=[name for _, name in self.classes],
            images=len(names),
            reason=self.reason,
            scores=self.scores,
            threshold=self.threshold,
            unmoved=records[0],
            by_element=records[1:],
        )

    def _element(
        self,
        name: str,
        values: SegmentationValues,
        dice: Spread,
        iou: Spread,
        truth: tuple[Spread | None, Spread | None],
    ) -> ElementOverlap:
        against = values.against_truth()
        empty = (values.expected == 0).astype(int) + (values.found == 0)
        return ElementOverlap(
            element=name,
            dice=dice,
            iou=iou,
            truth_dice=truth[0],
            truth_iou=truth[1],
            classes=[
                ClassOverlap(
                    label,
                    float(values.dice[:, place].mean()),
                    float(values.iou[:, place].mean()),
                    None if against is None else float(against[0][:, place].mean()),
                )
                for place, (_, label) in enumerate(self.classes)
            ],
            both_empty=int((empty == 2).sum()),  # noqa: PLR2004 - the two masks of a pair
            one_empty=int((empty == 1).sum()),
        )

    def _against_truth(
        self, rows: list[tuple[str, SegmentationValues]], names: Sequence[str], seed: int
    ) -> list[tuple[Spread | None, Spread | None]]:
        pairs = [pair for _, values in rows if (pair := values.against_truth()) is not None]
        if not pairs:
            return [(None, None)] * len(rows)
        dice = spreads([pair[0].mean(axis=1) for pair in pairs], names, seed)
        return list(zip(dice, spreads([pair[1].mean(axis=1) for pair in pairs], names, seed), strict=True))

    def _count(
        self, one: torch.Tensor, other: torch.Tensor, scene: Scene, kept: torch.Tensor | None = None
    ) -> tuple[Integers, Integers, Integers]:
        inside = torch.ones_like(other, dtype=torch.bool) if scene.inside is None else scene.inside
        inside = inside if kept is None else inside & kept
        sums = []
        for label, _ in self.classes:
            first, second = (one == label) & inside, (other == label) & inside
            sums.append([part.flatten(1).sum(dim=1) for part in (first & second, first, second)])
        both, in_one, in_other = (as_integers(torch.stack(part, dim=1)) for part in zip(*sums, strict=True))
        return both, in_one, in_other

    def _truth(
        self, scene: Scene, found: torch.Tensor
    ) -> tuple[Integers | None, Integers | None, Integers | None]:
        if scene.targets is None:
            return None, None, None
        truth = torch.from_numpy(scene.targets).to(found.device)
        if truth.shape[1:] != found.shape[1:]:
            sized = functional.interpolate(truth.unsqueeze(1).float(), found.shape[1:], mode="nearest-exact")
            truth = sized[:, 0].long()
        moved = scene.move_labels(truth)
        both, in_truth, in_found = self._count(moved, found, scene, moved != IGNORED)
        return both, in_truth, in_found


def dice_floor(controls: Controls) -> float | None:
    """Return the mean Dice that the measurement alone leaves, from shifts within a period and a round trip.

    The losses 1 - Dice add up as the two parts of the floor of an error do: sqrt(shift^2 + round^2 / 3). None
    where a shift that no grid can see costs more than that: the masks do not even follow translations.
    """
    shift = float(np.mean([_loss(values) for values in controls.shifts]))
    floor = float(np.sqrt(shift**2 + _loss(controls.round_trip) ** 2 / 3))
    return 1 - floor if _loss(controls.whole_period) <= max(floor, NEGLIGIBLE_LOSS) else None


def _loss(values: object) -> float:
    if not isinstance(values, SegmentationValues) or not values.finite.any():
        return float("nan")
    return 1 - float(values.dice[values.finite].mean())
