"""One batch of images through the model and its moved copies: the unit of work."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eqaudit.engine.arena import Arena
from eqaudit.engine.base import Key, Setting, finite_or_none
from eqaudit.engine.references import NOT_ALWAYS, Batch, Reference, judge, moved_pass, reference_pass
from eqaudit.engine.still import MovedImages
from eqaudit.groups import IDENTITY
from eqaudit.loader import AuditModel, Feature
from eqaudit.metrics import (
    ChanceSums,
    ErrorSums,
    GrownValues,
    Measured,
    PairNorms,
    Pairs,
    Stack,
    Values,
    append_fields,
    collect,
)
from eqaudit.statistics import Floats, poisson_weights
from eqaudit.transforms import Layout


@dataclass(frozen=True, slots=True)
class BatchNorms:
    """What one batch gives for one tensor: norms (poses, B), read as plain maps too, and its images.

    ``plain`` is None where channels are plain maps. ``weights`` (B, replicates) are those of the bootstrap.
    """

    norms: PairNorms
    plain: PairNorms | None
    weights: Floats
    places: tuple[int, ...]


@dataclass(slots=True)
class TapSums:
    """What is known of one tensor: what it is, and its sums; ``skipped`` says why there are none.

    ``chances`` has one entry for each pose: inside the valid mask where it resamples, else over every cell.
    ``plain`` are the errors with channels read as plain maps, where ``errors`` are not. What was not merged
    yet is small: sums are made from ``batch`` when they are needed.
    """

    feature: Feature
    shape: tuple[int, ...] | None
    layout: Layout | None
    same_as: Key | None
    batch: BatchNorms | None
    chances: dict[bool, ChanceSums]
    exact: tuple[bool, ...]
    skipped: str | None
    _sums: tuple[ErrorSums, ErrorSums | None] | None = None

    @property
    def errors(self) -> ErrorSums | None:
        """The sums of the errors; None where the tensor was skipped."""
        return self._summed()[0]

    @property
    def plain(self) -> ErrorSums | None:
        """The sums of the errors with channels read as plain maps, where they are not."""
        return self._summed()[1]

    def _summed(self) -> tuple[ErrorSums | None, ErrorSums | None]:
        if self._sums is None and self.batch is not None:
            errors, plain = _sum_batch(self.batch)
            self._sums, self.batch = (errors.lasting(), plain.lasting() if plain else None), None
        return self._sums or (None, None)

    def merge(self, other: TapSums) -> TapSums:
        """Add the sums of other images, which are used up, as is this; return what to go on with."""
        if self.skipped is not None:
            return self
        if other.skipped is not None:
            return other
        if self.shape != other.shape:
            return self.skip(f"shape changes with the image: {self.shape} and {other.shape}")
        found = other._sums or (_sum_batch(other.batch) if other.batch else (None, None))
        for mine, theirs in zip(self._summed(), found, strict=True):
            if mine is not None and theirs is not None:
                mine.add(theirs)
        self.same_as = self.same_as if self.same_as == other.same_as else None
        self.chances = {exact: chance.merge(other.chances[exact]) for exact, chance in self.chances.items()}
        return self

    def plain_error(self, place: int) -> float | None:
        """Return the error at one pose with channels read as plain maps."""
        sums = self.plain or self.errors
        return None if sums is None else finite_or_none(sums.errors[place])

    def measured(self, place: int) -> Measured:
        """Return the error at one pose with its yardstick; nothing where the tensor was skipped."""
        if self.errors is None:
            return Measured(None, None)
        error = finite_or_none(self.errors.errors[place])
        chance = self.chances[self.exact[place]].chance
        return Measured(error, chance, int(self.errors.nonfinite[place]))

    def skip(self, reason: str) -> TapSums:
        """Return the same tensor without sums."""
        return TapSums(self.feature, self.shape, self.layout, None, None, {}, self.exact, reason)


@dataclass(frozen=True, slots=True)
class OutputValues:
    """Per-image values of the output tensors: kept, because there are few of them.

    ``norms`` (poses, B) for each output; ``still`` and ``moved`` (poses, B) are what the task makes of the
    judged output; ``window`` is the pair that the un-windowed images make with the windowed ones, and
    ``unwindowed`` what the task makes of that. Where there is nothing for some images, there is nothing for
    all.
    """

    norms: dict[Key, PairNorms]
    still: Values | None
    moved: Values | None
    window: PairNorms | None
    unwindowed: Values | None


class GrownOutputs:
    """Values of the outputs to which those of other images are appended."""

    def __init__(self, first: OutputValues) -> None:
        self._norms = {key: GrownValues(norms, axis=1) for key, norms in first.norms.items()}
        others = {name: getattr(first, name) for name in ("still", "moved", "window", "unwindowed")}
        self._others = {
            name: None if part is None else GrownValues(part, axis=1 if name == "moved" else 0)
            for name, part in others.items()
        }

    def append(self, other: OutputValues) -> None:
        """Append the values of other images."""
        self._norms = {key: norms for key, norms in self._norms.items() if key in other.norms}
        for key, norms in self._norms.items():
            norms.append(other.norms[key])
        append_fields(self._others, other)

    def values(self) -> OutputValues:
        """Return the values of all images."""
        norms = {key: grown.values for key, grown in self._norms.items()}
        others = {name: None if grown is None else grown.values for name, grown in self._others.items()}
        return OutputValues(norms, **others)


@dataclass(slots=True)
class Unit:
    """The result of one batch, or of several that were merged in order."""

    names: list[str]
    taps: dict[Key, TapSums]
    outputs: OutputValues | GrownOutputs

    @property
    def values(self) -> OutputValues:
        """The values of all images."""
        return self.outputs.values() if isinstance(self.outputs, GrownOutputs) else self.outputs

    def merge(self, other: Unit) -> Unit:
        """Append the images of another unit, which is used up; return this one."""
        self.names += other.names
        self.taps = _merge_taps(self.taps, other.taps)
        if not isinstance(self.outputs, GrownOutputs):
            self.outputs = GrownOutputs(self.outputs)
        self.outputs.append(other.values)
        return self


def _merge_taps(ours: dict[Key, TapSums], theirs: dict[Key, TapSums]) -> dict[Key, TapSums]:
    return {
        key: ours[key].merge(theirs[key])
        if key in ours and key in theirs
        else (ours.get(key) or theirs[key]).skip(NOT_ALWAYS)
        for key in {**ours, **theirs}
    }


def measure_batch(
    model: AuditModel,
    given: Batch,
    setting: Setting,
    on_pose: Callable[[int], None] = lambda _done: None,
    arena: Arena | None = None,
) -> Unit:
    """Measure one batch: every kept tap and every output tensor, at every pose.

    Parameters
    ----------
    model
        The model, on its device.
    given
        Images as the model would receive them, float32 or float64, not windowed, with their names, their
        places among all images, on which bootstrap weights depend, and their truth.
    setting
        Poses, batch size, and which layers are kept.
    on_pose
        Called after each pose with how many are done.
    arena
        Where features of the unmoved images are kept; cleared first.
    """
    arena = Arena() if arena is None else arena
    unit = _measure(model, given, setting, on_pose, arena, careful=False)
    if not any(sums.batch.norms.nonfinite.any() for sums in unit.taps.values() if sums.batch):
        return unit
    # Rare, so that it may cost a second run: now every value is looked at.
    return _measure(model, given, setting, on_pose, arena, careful=True)


def _measure(
    model: AuditModel,
    given: Batch,
    setting: Setting,
    on_pose: Callable[[int], None],
    arena: Arena,
    *,
    careful: bool,
) -> Unit:
    """Measure one batch, with values looked at one by one or not."""
    arena.clear()
    images = setting.space.window(given.images) if setting.resamples else given.images
    batch = dataclasses.replace(given, images=images, halves=setting.channels.of(given.names))
    references = reference_pass(model, images, setting, careful=careful, arena=arena)
    chances = {key: _chances(reference, setting) for key, reference in references.items()}
    moved = Stack(len(setting.poses))
    copies = MovedImages(images, setting.space.images)
    order = sorted(range(len(setting.poses)), key=lambda place: copies.order(setting.poses[place].element))
    for number, place in enumerate(order, start=1):
        element = setting.poses[place].element
        if not element.exact:
            _give_up_maps(references)
        values = moved_pass(model, copies.at(element), batch, element, references, setting)
        if values is not None:
            moved.put(place, values)
        on_pose(number)
    still, window, unwindowed = _unmoved(model, given, batch, references, setting)
    measured = {key: reference for key, reference in references.items() if reference.skipped is None}
    rows = {id(row): row for reference in measured.values() for row in (reference.compared, reference.plain)}
    norms = dict(zip(rows, collect(list(rows.values()), order), strict=True))
    weights = poisson_weights(setting.seed, given.places)
    taps = {
        key: _sum(reference, norms, chances[key], weights, given.places, setting)
        for key, reference in references.items()
    }
    outputs = {key: norms[id(part.compared)] for key, part in measured.items() if key[0] == "output"}
    return Unit(list(given.names), taps, OutputValues(outputs, still, moved.values(), window, unwindowed))


def _give_up_maps(references: dict[Key, Reference]) -> None:
    """Keep of layers, from the first resampled pose on, only what such poses need."""
    wanted = {id(reference.still) for key, reference in references.items() if key[0] == "output"}
    for reference in references.values():
        if reference.still is not None and id(reference.still) not in wanted:
            reference.still.give_up_maps()


def _chances(reference: Reference, setting: Setting) -> dict[bool, ChanceSums]:
    """Return the moments of one tensor, for poses that move every cell and for those that are sampled."""
    if reference.skipped is not None:
        return {}
    held = reference.held
    return {
        kind: ChanceSums.of_batch(held.value, held.norms) if kind else ChanceSums.of_batch(held.sampled())
        for kind in dict.fromkeys(pose.exact for pose in setting.poses)
    }


def _unmoved(
    model: AuditModel, given: Batch, batch: Batch, references: dict[Key, Reference], setting: Setting
) -> tuple[Values | None, PairNorms | None, Values | None]:
    """Return what the task makes of the unmoved images, and how far the window moves the judged output."""
    reference = references.get(setting.gating)
    if reference is None or reference.skipped is not None:
        return None, None, None
    still = None
    if setting.task is not None:
        still = judge(reference, reference.value, IDENTITY, batch.targets, setting)
    if given.images is batch.images or setting.space.boundary != "disc":
        return still, None, None
    alone = {setting.gating: dataclasses.replace(reference, compared=Pairs(), plain=Pairs())}
    values = moved_pass(model, given.images, given, IDENTITY, alone, setting)
    return still, collect([alone[setting.gating].compared])[0].at(0), values


def _sum(
    reference: Reference,
    norms: Mapping[int, PairNorms],
    chances: dict[bool, ChanceSums],
    weights: Floats,
    places: tuple[int, ...],
    setting: Setting,
) -> TapSums:
    exact = tuple(pose.exact for pose in setting.poses)
    known = (reference.feature, reference.shape, reference.layout)
    if reference.skipped is not None:
        return TapSums(*known, None, None, {}, exact, reference.skipped)
    plain = None if reference.compared is reference.plain else norms[id(reference.plain)]
    batch = BatchNorms(norms[id(reference.compared)], plain, weights, places)
    return TapSums(*known, reference.same_as, batch, chances, exact, None)


def _sum_batch(batch: BatchNorms) -> tuple[ErrorSums, ErrorSums | None]:
    plain = None if batch.plain is None else ErrorSums.of_batch(batch.plain, batch.weights, batch.places)
    return ErrorSums.of_batch(batch.norms, batch.weights, batch.places), plain
