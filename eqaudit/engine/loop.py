"""All images, unit by unit: shared among ranks, within memory, folded in one order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from eqaudit.data import Batch as Loaded
from eqaudit.data import Dataset, Skipped
from eqaudit.engine.arena import Arena
from eqaudit.engine.base import Progress, Setting, on_device
from eqaudit.engine.measure import Unit, measure_batch
from eqaudit.engine.memory import Room
from eqaudit.engine.ranks import Ranks
from eqaudit.engine.references import Batch
from eqaudit.errors import DataError
from eqaudit.loader import AuditModel, Conduct


@dataclass(frozen=True, slots=True)
class Watched:
    """What the images were: the least, the greatest, the sum and the count of their values."""

    low: float
    high: float
    total: float
    count: int

    @classmethod
    def of(cls, loaded: Loaded) -> Watched:
        """Look at one batch."""
        images = loaded.images
        total = float(images.sum(dtype=np.float64))
        return cls(float(images.min()), float(images.max()), total, images.size)

    def merge(self, other: Watched) -> Watched:
        """Add the images that come next."""
        return Watched(
            min(self.low, other.low),
            max(self.high, other.high),
            self.total + other.total,
            self.count + other.count,
        )


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank found in one unit: nothing measured where no image of it was usable.

    ``digests`` holds one of 32 bytes for each image.
    """

    measured: tuple[Unit, Watched] | None
    digests: bytes
    skipped: tuple[Skipped, ...]
    said: frozenset[tuple[int, str]]
    notes: tuple[str, ...]
    conduct: Conduct


class Loop:
    """One audit on its way through the images."""

    def __init__(
        self, model: AuditModel, dataset: Dataset, setting: Setting, room: Room, ranks: Ranks
    ) -> None:
        self.model, self.dataset, self.setting = model, dataset, setting
        self.room, self.ranks = room, ranks
        self.notes: dict[str, None] = {}
        self._images = hashlib.sha256()
        self._sums: tuple[Unit, Watched] | None = None

    @property
    def fingerprint(self) -> str:
        """A digest of all images so far in order, whatever batches they came in."""
        return self._images.hexdigest()

    def run(self, progress: Progress) -> tuple[Unit, Watched] | None:
        """Measure every unit, each on one rank; return the sums on rank 0, None on the others.

        Raises
        ------
        DataError
            A label cannot be right, or an image changed while it was used.
        WorkerError
            Another rank is gone.
        """
        progress("measuring", 0, len(self.dataset.names) * len(self.setting.poses))
        units, arena = self.dataset.units(self.setting.batch_size), Arena()
        for start in range(0, units, self.ranks.size):
            self._round(start + self.ranks.rank, units, progress, arena)
        return self._sums

    def _round(self, number: int, units: int, progress: Progress, arena: Arena) -> None:
        """Measure one unit on each rank; fold them in order. None of them is kept for the next round."""
        share = self._share(number, progress, arena) if number < units else None
        for found in self.ranks.gather(share):
            if found is not None:
                self._fold(found)

    def _share(self, number: int, progress: Progress, arena: Arena) -> Share:
        already = len(self.dataset.skipped)
        loaded = self.dataset.unit(number, self.setting.batch_size)
        measured, digests = None, b""
        if loaded is not None:
            self._check_targets(loaded)
            measured = self._measure(loaded, number, progress, arena), Watched.of(loaded)
            digests = b"".join(hashlib.sha256(image.tobytes()).digest() for image in loaded.images)
        return Share(
            measured,
            digests,
            tuple(self.dataset.skipped[already:]),
            frozenset(self.dataset.said),
            tuple(self.room.notes),
            self.model.conduct,
        )

    def _measure(self, loaded: Loaded, number: int, progress: Progress, arena: Arena) -> Unit:
        poses, size = len(self.setting.poses), self.setting.batch_size
        before, total = number * size * poses, len(self.dataset.names) * poses
        batch = Batch(on_device(loaded.images, self.model), loaded.names, loaded.places, loaded.targets)

        def measure(part: Batch, setting: Setting) -> Unit:
            done = before + (part.places[0] - number * size) * poses
            return measure_batch(
                self.model,
                part,
                setting,
                lambda count: progress("measuring", done + count * len(part.places), total),
                arena,
            )

        return self.room.measure(measure, batch, self.setting)

    def _fold(self, share: Share) -> None:
        known = {skipped.name for skipped in self.dataset.skipped}
        self.dataset.skipped.extend(skipped for skipped in share.skipped if skipped.name not in known)
        self.dataset.said.update(share.said)
        self.notes |= dict.fromkeys(share.notes)
        self.model.conduct.join(share.conduct)
        self._images.update(share.digests)
        if share.measured is None:
            return
        unit, watched = share.measured
        if self._sums is not None:
            unit, watched = self._sums[0].merge(unit), self._sums[1].merge(watched)
        self._sums = unit, watched

    def _check_targets(self, loaded: Loaded) -> None:
        if loaded.targets is None or self.setting.task is None:
            return
        found = self.setting.task.misfit(loaded.targets)
        if found is not None:
            place, problem = found
            raise DataError(
                f"{self.dataset.truth_place(loaded.names[place])}: {problem}",
                "correct that label, or say --mask-values or --ignore-index if these are masks",
            )
