"""Where groups hold: on the judged output, at each layer, and from which layer on they no longer do."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, groupby

from eqaudit.groups import IDENTITY, LARGEST_ORDER, Element, Group, maximal_holding, spanned_group
from eqaudit.plan import AUTO, AUTO_GROUPS
from eqaudit.report import HOLDING, Class, GroupElement, Layer, LayerRange, Report, Representation

TURN_TOLERANCE = 1e-9
NOTHING = "C1"
MOST_RANGES = 4
"""Ranges of layers that a sentence has room for."""
FAILING: frozenset[Class] = frozenset({"approximate", "broken"})
UNCHANGED, INVARIANT, UNKNOWN = "plain maps", "invariance", "no action that was found"


def elements_of(report: Report) -> dict[str, Element]:
    """Return the elements of a report by name, the identity of a group too."""
    return {pose.name: _element(pose) for pose in report.group.elements}


def _element(pose: GroupElement) -> Element:
    # Degrees are written as a float; no group has more elements than this, and no angle more decimals.
    turn = Fraction(pose.degrees / 360).limit_denominator(LARGEST_ORDER)
    if abs(float(turn * 360) - pose.degrees) > TURN_TOLERANCE:
        turn = Fraction(pose.degrees).limit_denominator(10**6) / 360
    return Element(pose.mirrored, turn.numerator, turn.denominator)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The groups that may hold in a report; ``elements`` are what was measured, by name.

    Elements hold one by one, so the set need not be closed; what is claimed is always a group.
    """

    elements: Mapping[str, Element]
    automatic: bool

    @classmethod
    def of(cls, report: Report) -> Candidates:
        """Return every subgroup of what was measured; of ``auto`` only the groups that were tried."""
        return cls(elements_of(report), report.group.name == AUTO)

    def at(self, layer: Layer, classes: frozenset[Class]) -> frozenset[Element]:
        """Return the elements at which a layer is of some classes."""
        names = {error.element for error in layer.errors if error.class_ in classes}
        return frozenset(element for name, element in self.elements.items() if name in names)

    def names(self, groups: Sequence[Group]) -> frozenset[str]:
        """Return the names of what any of some groups moves by."""
        moving = {element for group in groups for element in group.moving}
        return frozenset(name for name, element in self.elements.items() if element in moving)

    def held(self, layer: Layer) -> tuple[Group, ...]:
        """Return the groups that hold at a layer and are part of no larger one, C1 where none does."""
        holding = self.at(layer, HOLDING)
        if not self.automatic:
            return _maximal(spanned_group(self.elements.values()), holding)
        kept: list[Group] = []
        for group in tried_groups():
            if holding.issuperset(group.moving) and not any(is_part(group, larger) for larger in kept):
                kept.append(group)
        return tuple(kept)


# Most layers hold the same, and large groups have many subgroups.
_maximal = lru_cache(maxsize=64)(maximal_holding)


def tried_groups() -> tuple[Group, ...]:
    """Return the groups that ``auto`` tries and C1, the largest first."""
    groups = [Group.named(name) for name in (*AUTO_GROUPS, NOTHING)]
    return tuple(sorted(groups, key=lambda group: (-len(group.elements), group.name)))


def is_part(group: Group, other: Group) -> bool:
    """Return whether every element of a group is one of another."""
    return set(group.elements) <= set(other.elements)


def holding_groups(report: Report) -> tuple[Group, ...]:
    """Return the maximal groups that hold on the gating output, the largest first."""
    return Candidates.of(report).held(report.gating_output)


def names_of(groups: Sequence[Group]) -> str:
    """Write groups as ``C4``, or ``D1 and C2``."""
    return " and ".join(group.name for group in groups)


def full_name(layer: Layer) -> str:
    """Return the name of a layer; later calls of the same module are numbered: ``conv1#1``."""
    return f"{layer.name}#{layer.call}" if layer.call else layer.name


def turns_channels(layer: Layer) -> bool:
    """Return whether an action of the channels was found, and is what the errors were measured under."""
    found = layer.representation
    return found is not None and found.kind in {"permutation", "orthogonal"}


def _telling(report: Report) -> list[Layer]:
    """Return the layers and the gating output that can tell where a group holds."""
    return [
        layer
        for layer in (*report.layers, report.gating_output)
        if layer.errors and not layer.degenerate and any(e.class_ != "degenerate" for e in layer.errors)
    ]


def layer_ranges(report: Report) -> list[LayerRange]:
    """Return the layers and the gating output in ranges at which one group holds in one way.

    None where nothing was moved: C1 holds everywhere.
    """
    candidates = Candidates.of(report)
    if set(candidates.elements.values()) <= {IDENTITY}:
        return []

    def key(layer: Layer) -> tuple[str, str]:
        name = names_of(candidates.held(layer))
        return name, UNKNOWN if name == NOTHING else _way(layer.representation)

    ranges = []
    for (name, way), found in groupby(_telling(report), key):
        layers = list(found)
        vectors = all(layer.layout == "BC" for layer in layers)
        by = INVARIANT if way == UNCHANGED and vectors else way
        ranges.append(LayerRange(full_name(layers[0]), full_name(layers[-1]), name, by))
    return ranges


def _way(found: Representation | None) -> str:
    """Say how channels turn: ``a regular representation``, ``mixed fields``, ``irreps``, ``plain maps``."""
    if found is None or found.kind not in {"permutation", "orthogonal"}:
        return UNCHANGED
    kinds = {field.name.partition(" ")[0] for field in found.fields} - {"dead"}
    if found.kind == "orthogonal":
        return "irreps" if kinds else "an orthogonal action"
    if not kinds or "irregular" in kinds:
        return "a permutation"
    return f"a {kinds.pop()} representation" if len(kinds) == 1 else "mixed fields"


def broken_from(report: Report) -> str | None:
    """Return the first layer from which on the largest group that held before it holds no more.

    Where no layer holds anything that is the first layer that fails; None where the group holds to the end.
    """
    candidates = Candidates.of(report)
    layers = _telling(report)
    failing = [candidates.at(layer, FAILING) for layer in layers]
    held = [[group for group in candidates.held(layer) if group.moving] for layer in layers]
    if not any(held):
        return next((full_name(layer) for layer, bad in zip(layers, failing, strict=True) if bad), None)
    largest: set[Group] = set()
    later = list(accumulate((frozenset(groups) for groups in reversed(held)), operator.or_))[::-1]
    for place, layer in enumerate(layers):
        for group in largest:
            if failing[place] & set(group.moving) and not any(is_part(group, kept) for kept in later[place]):
                return full_name(layer)
        largest |= set(held[place])
        size = max((len(group.elements) for group in largest), default=0)
        largest = {group for group in largest if len(group.elements) == size}
    return None


def describe_ranges(ranges: Sequence[LayerRange]) -> str:
    """Say where which group holds: ``conv1 to relu2: C4 by a regular representation, broken from conv3 on``.

    Empty where nothing holds anywhere.
    """
    places = [place for place, part in enumerate(ranges) if part.group != NOTHING]
    said = [_describe_range(ranges[place]) for place in places]
    if len(said) > MOST_RANGES:
        said[MOST_RANGES - 1 :] = [f"and so on in {len(said) - MOST_RANGES + 1} more ranges"]
    if said and places[-1] + 1 < len(ranges):
        said[-1] += f", broken from {ranges[places[-1] + 1].first} on"
    return "; ".join(said)


def _describe_range(part: LayerRange) -> str:
    where = part.first if part.first == part.last else f"{part.first} to {part.last}"
    return f"{where}: {part.group} by {part.by}"
