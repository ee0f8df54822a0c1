"""Put what a group does to the channels of a layer into words and counts. numpy only.

The data decide: on channels that are dead or alike a fitted action is arbitrary, so these are told apart
by what they carry, never by where the fit happens to send them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eqaudit.groups import Element, Group
from eqaudit.report import FieldCount, Roll

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

ALIKE = 1e-6
"""Distance of two channels by their norm, and norm of a channel by that of the largest, that is nothing."""
SAME_ACTION = 1e-5
"""Relative difference of two actions on the data up to which they are one."""
SPAN_ENERGY = 1e-10
"""Share of the largest eigenvalue of the features from which on a direction belongs to their span."""
WHOLE = 0.02
"""How far the multiplicity of an irrep may be from a whole number."""

TRIVIAL, REGULAR, QUOTIENT, IRREGULAR, DEAD = range(5)


@dataclass(frozen=True, slots=True)
class Named:
    """An action in words for people, and what the words are made of.

    ``fields`` together have every channel that the action was named on; ``axis`` says where the channels of
    one field lie: ``last`` (beside each other), ``first`` (evenly over all channels), or, of a layer with
    several channel axes, as ``2 of 8x12``.
    """

    words: str
    fields: list[FieldCount]
    axis: str | None
    roll: Roll | None


@dataclass(frozen=True, slots=True, eq=False)
class _Channels:
    """Channels by what they carry: their energy (C,) and their squared distances (C, C)."""

    energy: Floats
    apart: Floats

    @classmethod
    def of(cls, features: Floats) -> _Channels:
        gram = features @ features.T
        energy = gram.diagonal()
        return cls(energy, np.maximum(energy[:, None] + energy - 2 * gram, 0))

    @property
    def dead(self) -> Flags:
        return np.asarray(self.energy <= ALIKE**2 * self.energy.max())

    def agree(self, one: Integers, other: Integers) -> bool:
        """Whether two permutations do the same to the data."""
        return bool(self.apart[one, other].sum() <= SAME_ACTION**2 * self.energy.sum())

    def classes(self, sources: list[Integers]) -> Integers:
        """Return the class (C,) of each channel: one for dead ones, one for each kind of alike ones.

        A class whose channels are sent to different classes is split until each permutation in ``sources``
        moves classes as a whole, in the end into single channels.
        """
        alike = self.apart <= ALIKE**2 * np.minimum(self.energy[:, None], self.energy)
        labels = np.where(self.dead, -1, alike.argmax(axis=1)).astype(np.int64)
        kinds, last = len(np.unique(labels)), 0
        while last < kinds:
            keys = np.stack([labels, *(labels[source] for source in sources)])
            labels = np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)
            kinds, last = int(labels.max()) + 1, kinds
        return labels


@dataclass(frozen=True, slots=True, eq=False)
class _Orbit:
    """Classes that the group moves into each other. Each has ``multiplicity`` alike channels."""

    classes: Integers
    multiplicity: int
    kind: int
    name: str


def name_permutation(
    group: Group, generators: Mapping[Element, Integers], features: Floats, sizes: tuple[int, ...]
) -> Named:
    """Name a permutation action by its orbits, the axis along which they lie, and the roll of the turn.

    Parameters
    ----------
    generators
        For the turn r(360/n) and the mirror of the group, those that it has, ``source`` (C,): channel c
        becomes what channel ``source[c]`` was.
    features
        Samples of the layer's features, (C, N).
    sizes
        The channel axes of the layer, whose product is C.

    Examples
    --------
    >>> source = np.array([3, 0, 1, 2, 7, 4, 5, 6])
    >>> group, features = Group.named("C4"), np.random.default_rng(0).normal(size=(8, 20))
    >>> name_permutation(group, {Element(False, 1, 4): source}, features, (8,)).words
    '2 x regular C4, last, roll +1'
    """
    channels = _Channels.of(features)
    generating = _generating(group)
    sources = [generators[element] for element in generating]
    labels = channels.classes(sources)
    orbits = _orbits(group, sources, labels, channels.dead)
    fields = _count_fields(orbits)
    moving = [orbit.classes for orbit in orbits if orbit.kind not in {TRIVIAL, DEAD}]
    if not moving:
        return Named(_still_words(fields), fields, None, None)
    roll = _find_roll(channels, sources[0], sizes, generating[0]) if group.rotations > 1 else None
    axis, along = _layout(labels, moving, sizes, roll)
    kinds = [f"{field.count} {'' if field.name == 'dead' else 'x '}{field.name}" for field in fields]
    words = " + ".join(kinds) + along + _roll_words(roll, along, moving, sizes)
    return Named(words, fields, axis, roll)


def name_orthogonal(group: Group, generators: Mapping[Element, Floats], features: Floats) -> Named:
    """Name an orthogonal action by its real irreps on the span of the data.

    Of Cn they are frequencies, of Dn also parities: 1 is kept, 2 negated by the mirror of the group. Where
    the characters give no whole numbers the action is only called orthogonal.

    Parameters
    ----------
    generators
        For the turn r(360/n) and the mirror of the group, those that it has, a matrix (C, C).
    features
        Samples of the layer's features, (C, N).

    Examples
    --------
    >>> turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    >>> features = np.random.default_rng(0).normal(size=(3, 20))
    >>> name_orthogonal(Group.named("C4"), {Element(False, 1, 4): turn}, features).words
    'irreps: 1 x f0, 1 x f1'
    """
    energy, vectors = np.linalg.eigh(features @ features.T)
    span = vectors[:, energy > SPAN_ENERGY * energy[-1]]
    matrices = [span.T @ generators[element] @ span for element in _generating(group)]
    irreps = _multiplicities(group, *_characters(group, matrices, span.shape[1]))
    fields = [FieldCount(name, size, round(count)) for name, size, count in irreps if round(count)]
    whole = all(abs(count - max(round(count), 0)) <= WHOLE for _, _, count in irreps)
    if not whole or not fields:
        return Named("orthogonal", [], None, None)
    kinds = ", ".join(f"{field.count} x {field.name.replace('frequency ', 'f')}" for field in fields)
    return Named(kinds if fields[0].name in {"even", "odd"} else f"irreps: {kinds}", fields, None, None)


def _generating(group: Group) -> list[Element]:
    turn = [Element(mirrored=False, k=1, n=group.rotations)] if group.rotations > 1 else []
    return turn if group.mirror is None else [*turn, group.mirror]


def _orbits(group: Group, sources: list[Integers], labels: Integers, dead: Flags) -> list[_Orbit]:
    _, first, counts = np.unique(labels, return_index=True, return_counts=True)
    moves = [labels[source[first]] for source in sources]
    table, lawful = _every_element(group, moves, len(first))
    fixed = {element: row == table[0] for element, row in zip(group.elements, table, strict=True)}
    subgroups, root, found = group.subgroups(), _least_reached(moves, len(first)), []
    for start in np.unique(root):
        classes = np.flatnonzero(root == start)
        if dead[first[classes]].all():
            kind, name = DEAD, "dead"
        elif len(classes) == 1:
            kind, name = TRIVIAL, "trivial"
        elif not lawful[classes].all():
            kind, name = IRREGULAR, f"irregular of {len(classes)}"
        elif len(classes) == len(group.elements):
            kind, name = REGULAR, f"regular {group.name}"
        else:
            kind, name = QUOTIENT, f"quotient {group.name}/{_stabiliser(subgroups, classes, fixed)}"
        found.append(_Orbit(classes, int(counts[classes[0]]), kind, name))
    return found


def _least_reached(moves: list[Integers], classes: int) -> Integers:
    """Return for each class the least one of its orbit."""
    root, last = np.arange(classes), np.full(classes, -1)
    while not np.array_equal(root, last):
        last = root
        for move in moves:
            root = np.minimum(root, root[move])
    return root


def _every_element(group: Group, moves: list[Integers], classes: int) -> tuple[list[Integers], Flags]:
    """Return what each element does to the classes, and whether the group's relations hold on each class."""
    still = np.arange(classes)
    turn = moves[0] if group.rotations > 1 else still
    powers = [still]
    for _ in range(group.rotations):
        powers.append(powers[-1][turn])
    lawful = powers.pop() == still
    if group.mirror is None:
        return powers, lawful
    mirror = moves[-1]
    turned = mirror[turn]
    lawful &= (mirror[mirror] == still) & (turned[turned] == still)
    return powers + [mirror[power] for power in powers], lawful


def _stabiliser(subgroups: tuple[Group, ...], classes: Integers, fixed: Mapping[Element, Flags]) -> str:
    """Name the largest subgroup that leaves some class of an orbit where it is."""
    return next(
        subgroup.name
        for subgroup in subgroups
        if np.logical_and.reduce([fixed[element][classes] for element in subgroup.elements]).any()
    )


def _count_fields(orbits: list[_Orbit]) -> list[FieldCount]:
    counted: Counter[tuple[int, int, str]] = Counter()
    for orbit in orbits:
        counted[orbit.kind, -len(orbit.classes), orbit.name] += orbit.multiplicity
    return [FieldCount(name, -size, count) for (_, size, name), count in sorted(counted.items())]


def _layout(
    labels: Integers, moving: list[Integers], sizes: tuple[int, ...], roll: Roll | None
) -> tuple[str | None, str]:
    """Return the axis along which the channels of one field lie, and the words for it."""
    if len(sizes) > 1:
        lying = (axis for axis in range(len(sizes)) if _lie_along(labels, moving, sizes, axis))
        axis = next((f"{axis + 1} of {'x'.join(str(size) for size in sizes)}" for axis in lying), None)
        return axis, f", axis {axis}" if axis else ""
    if all(_are_runs(labels, classes) for classes in moving):
        return "last", ", last"
    size = len(moving[0])
    evenly = len(labels) % size == 0 and all(len(classes) == size for classes in moving)
    if evenly and _lie_along(labels, moving, (size, len(labels) // size), 0):
        return "first", ", first"
    # Turns by less than the axis is made for reach only some of its places, and leave no full run.
    if roll is not None and _lie_along(labels, moving, *_rolled(roll, len(labels))):
        return roll.axis, f", {roll.axis} of {roll.length}"
    return None, ""


def _are_runs(labels: Integers, classes: Integers) -> bool:
    """Whether the channels of an orbit fall into runs that hold each class once."""
    runs = np.flatnonzero(np.isin(labels, classes)).reshape(-1, len(classes))
    return bool((np.diff(runs) == 1).all() and (np.sort(labels[runs]) == classes).all())


def _lie_along(labels: Integers, moving: list[Integers], shape: tuple[int, ...], axis: int) -> bool:
    """Whether each line along an axis holds as many channels of each class of an orbit."""
    lines = np.moveaxis(labels.reshape(shape), axis, -1).reshape(-1, shape[axis])
    held = np.zeros((len(lines), labels.max() + 1), dtype=np.int64)
    np.add.at(held, (np.arange(len(lines))[:, None], lines), 1)
    return all(bool((held[:, classes] == held[:, classes[:1]]).all()) for classes in moving)


def _roll_candidates(channels: int, sizes: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Yield the name of an axis, the shape of the channels that shows it, and its number in the shape."""
    if len(sizes) > 1:
        yield from ((str(axis + 1), sizes, axis) for axis in range(len(sizes)))
        return
    for length in range(2, channels + 1):
        if channels % length == 0:
            yield "last", (channels // length, length), 1
            yield "first", (length, channels // length), 0


def _find_roll(channels: _Channels, source: Integers, sizes: tuple[int, ...], turn: Element) -> Roll | None:
    """Return the roll that does to the data what the turn does: the shortest axis, then the least shift."""
    still = np.arange(len(source))
    if channels.agree(source, still):
        return None
    for axis, shape, number in _roll_candidates(len(source), sizes):
        length = shape[number]
        signed = [shift if shift <= length // 2 else shift - length for shift in range(1, length)]
        for shift in sorted(signed, key=lambda shift: (abs(shift), -shift)):
            if channels.agree(source, np.roll(still.reshape(shape), shift, number).reshape(-1)):
                return Roll(str(turn), axis, length, shift)
    return None


def _rolled(roll: Roll, channels: int) -> tuple[tuple[int, int], int]:
    outer = channels // roll.length
    return ((outer, roll.length), 1) if roll.axis == "last" else ((roll.length, outer), 0)


def _roll_words(roll: Roll | None, along: str, moving: list[Integers], sizes: tuple[int, ...]) -> str:
    if roll is None:
        return ""
    words = f", roll {roll.shift:+d}"
    if len(sizes) > 1:
        return words if along.startswith(f", axis {roll.axis} ") else f"{words} along axis {roll.axis}"
    if along.endswith(f" of {roll.length}") or (
        along == f", {roll.axis}" and all(len(classes) == roll.length for classes in moving)
    ):
        return words
    return f"{words} of {roll.axis} {roll.length}"


def _still_words(fields: list[FieldCount]) -> str:
    dead = ", ".join(f"{field.count} dead" for field in fields if field.name == "dead")
    if all(field.name == "dead" for field in fields):
        return dead
    return f"unchanged, {dead}" if dead else "unchanged"


def _characters(group: Group, matrices: list[Floats], rank: int) -> tuple[Floats, Floats]:
    """Return the traces of the turns, and of the turns after the mirror (empty without one)."""
    power, turns, mirrored = np.eye(rank), [], []
    for _ in range(group.rotations):
        turns.append(np.trace(power))
        if group.mirror is not None:
            mirrored.append((power * matrices[-1].T).sum())
        if group.rotations > 1:
            power = matrices[0] @ power
    return np.array(turns), np.array(mirrored)


def _multiplicities(group: Group, turns: Floats, mirrored: Floats) -> list[tuple[str, int, float]]:
    """Return name, size and multiplicity of every real irrep, by inner products of characters."""
    order, found = group.rotations, []
    for frequency in range(order // 2 + 1):
        wave = np.cos(2 * math.pi * frequency * np.arange(order) / order)
        turning = float(np.mean(turns * wave))
        size = 1 if 2 * frequency in {0, order} else 2
        if group.mirror is None:
            found.append((f"frequency {frequency}", size, turning))
        elif size > 1:
            found.append((f"E{frequency}", size, turning))
        else:
            flipping = float(np.mean(mirrored * wave))
            letter = "B" if frequency else "A"
            kept, negated = ("even", "odd") if order == 1 else (f"{letter}1", f"{letter}2")
            found += [(kept, 1, (turning + flipping) / 2), (negated, 1, (turning - flipping) / 2)]
    return found if group.mirror is None else sorted(found, key=lambda irrep: irrep[1])
