"""Symmetry groups of the plane by name: elements, composition, subgroups. Numbers only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from eqaudit.errors import UsageError

LARGEST_ORDER = 360


@dataclass(frozen=True, slots=True, order=True)
class Element:
    """The mirror (flip of the width axis) or not, then a counter-clockwise turn by ``k / n`` of a circle.

    ``k / n`` is kept in lowest terms, so that elements compare as integers, whichever group they
    were made for. ``g @ h`` acts as ``h`` first, then ``g``; ``~g`` is the inverse.

    Examples
    --------
    >>> r90, m = Element(False, 1, 4), Element(True, 0, 1)
    >>> str(r90 @ m), str(m @ r90), str(~r90)
    ('m-r90', 'm-r270', 'r270')
    """

    mirrored: bool
    k: int
    n: int

    def __post_init__(self) -> None:
        turn = Fraction(self.k, self.n) % 1
        object.__setattr__(self, "k", turn.numerator)
        object.__setattr__(self, "n", turn.denominator)

    @property
    def turn(self) -> Fraction:
        """The counter-clockwise turn as a share of a full circle."""
        return Fraction(self.k, self.n)

    @property
    def degrees(self) -> float:
        """The counter-clockwise turn in degrees, for people."""
        return float(self.turn * 360)

    @property
    def exact(self) -> bool:
        """Whether the element moves pixels to pixels, without resampling."""
        return 4 % self.n == 0

    @property
    def quarter_turns(self) -> int:
        """How many quarter turns an exact element makes."""
        if not self.exact:
            raise ValueError(f"{self} is no multiple of 90 degrees")
        return self.k * (4 // self.n)

    def __matmul__(self, other: Element) -> Element:
        # T_a m = m T_-a: a mirror that is passed turns the other way.
        turn = self.turn + (-other.turn if self.mirrored else other.turn)
        return Element(self.mirrored != other.mirrored, turn.numerator, turn.denominator)

    def __invert__(self) -> Element:
        turn = self.turn if self.mirrored else -self.turn
        return Element(self.mirrored, turn.numerator, turn.denominator)

    def __str__(self) -> str:
        rotation = f"r{self.degrees:.6g}" if self.k else ""
        if self.mirrored:
            return f"m-{rotation}" if rotation else "m"
        return rotation or "e"


IDENTITY = Element(mirrored=False, k=0, n=1)
MIRROR = Element(mirrored=True, k=0, n=1)


@dataclass(frozen=True)
class Group:
    """A finite group of turns, with or without mirrors.

    ``rotations`` is the number of turns. ``mirror`` is None, or the least mirrored element: the
    mirrored elements are that one turned by all of the turns.
    """

    rotations: int
    mirror: Element | None = None

    @classmethod
    def named(cls, name: str) -> Group:
        """Return ``Cn`` (n rotations) or ``Dn`` (with the mirror).

        Raises
        ------
        UsageError
            The name is not ``C`` or ``D`` with a number from 1 to 360.
        """
        match = re.fullmatch(r"([CD])([1-9]\d{0,2})", name)
        if match is None or int(match[2]) > LARGEST_ORDER:
            raise UsageError(
                f"no group {name!r}",
                f"groups are C1 C2 C4 C8 ... C{LARGEST_ORDER} (rotations), D1 D2 D4 D8 ... (with mirrors)",
            )
        return cls(int(match[2]), MIRROR if match[1] == "D" else None)

    @cached_property
    def elements(self) -> tuple[Element, ...]:
        """Every element: the turns, then the mirrored ones."""
        turns = tuple(Element(mirrored=False, k=k, n=self.rotations) for k in range(self.rotations))
        return turns if self.mirror is None else turns + tuple(turn @ self.mirror for turn in turns)

    @cached_property
    def name(self) -> str:
        """``Cn`` or ``Dn`` where the group has that name, else its elements in braces."""
        if self.mirror is None:
            return f"C{self.rotations}"
        if self.mirror == MIRROR:
            return f"D{self.rotations}"
        return "{" + ", ".join(str(element) for element in self.elements) + "}"

    @property
    def moving(self) -> tuple[Element, ...]:
        """Every element but the identity."""
        return self.elements[1:]

    def subgroups(self) -> tuple[Group, ...]:
        """Every subgroup, larger ones first, those with a name before their twins."""
        orders = [order for order in range(self.rotations, 0, -1) if self.rotations % order == 0]
        cyclic = [Group(order) for order in orders]
        if self.mirror is None:
            return tuple(cyclic)
        dihedral = [
            Group(order, Element(mirrored=False, k=step, n=self.rotations) @ self.mirror)
            for order in orders
            for step in range(self.rotations // order)
        ]
        return tuple(sorted(dihedral + cyclic, key=lambda group: (-len(group.elements), len(group.name))))


@dataclass(frozen=True, slots=True)
class Pose:
    """One way to show the images: an element, under the name and the angle that were asked for.

    360 degrees is the identity again, and still a row of its own: a control.
    """

    name: str
    degrees: float
    element: Element

    @property
    def exact(self) -> bool:
        """Whether pixels move to pixels."""
        return self.element.exact


def group_poses(group: Group) -> tuple[Pose, ...]:
    """Return every element but the identity, which C1 alone compares with itself."""
    return tuple(Pose(str(g), g.degrees, g) for g in group.moving or group.elements)


def element_poses(elements: Iterable[Element]) -> tuple[Pose, ...]:
    """Return a pose for each element, once: the turns by angle, then the mirrored ones."""
    return tuple(
        Pose(str(g), g.degrees, g) for g in sorted(set(elements), key=lambda g: (g.mirrored, g.turn))
    )


def angle_poses(angles: Iterable[Fraction], *, mirror: bool) -> tuple[Pose, ...]:
    """Return a pose for each angle in degrees, then, with ``mirror``, the mirrored ones.

    Examples
    --------
    >>> [pose.name for pose in angle_poses([Fraction(0), Fraction(45), Fraction(360)], mirror=False)]
    ['e', 'r45', 'r360']
    """
    turns = list(angles)
    elements = [
        Element(mirrored, *(turn / 360).as_integer_ratio()) for mirrored in (False, True) for turn in turns
    ]
    poses = [_angle_pose(element, float(turn)) for element, turn in zip(elements, turns * 2, strict=True)]
    return tuple(poses if mirror else poses[: len(turns)])


def _angle_pose(element: Element, degrees: float) -> Pose:
    if not degrees:
        return Pose(str(element), degrees, element)
    # With all of its decimals: 89.99999 is no quarter turn, and must not take its name.
    return Pose(f"{'m-' if element.mirrored else ''}r{degrees:.10g}", degrees, element)


def spanned_group(elements: Iterable[Element]) -> Group:
    """Return the smallest Cn or Dn that contains the elements; beyond C360 only its quarter turns."""
    listed = list(elements)
    order = math.lcm(*(element.n for element in listed))
    mirror = MIRROR if any(element.mirrored for element in listed) else None
    return Group(order if order <= LARGEST_ORDER else 4, mirror)


def maximal_holding(group: Group, holding: frozenset[Element]) -> tuple[Group, ...]:
    """Return the subgroups whose every element holds and that no larger such subgroup contains.

    Elements hold one by one, so the set need not be closed; what is claimed is always a group.
    """
    kept: list[Group] = []
    for candidate in group.subgroups():
        members = set(candidate.elements)
        if members - {IDENTITY} <= holding and not any(members <= set(larger.elements) for larger in kept):
            kept.append(candidate)
    return tuple(kept)
