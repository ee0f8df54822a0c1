"""The rule that tells which action a layer's channels have, and under which subgroup: five steps.

Calibrated by tests/calibration/representations.py: nothing false on plain networks, no miss on exact ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from eqaudit.groups import Element, Group
from eqaudit.representations.base import Action, Floats, Permutation, power
from eqaudit.representations.fit import (
    PERMUTATION_SHARE,
    PROVEN_SHARE,
    GeneratorFit,
    likely_limit,
    proven_limit,
)

TRIVIAL_ERROR = 1e-4
"""Beyond the rounding that a fit in float32 may have (`AMPLIFIED_ROUNDING` of the engine)."""
LIKELY_RELATION = 0.05
"""Also for proven permutations: channels that hardly ever live take any place, and their relations fail."""
PROVEN_RELATION = 1e-3
WORSE = 3.0
"""How many times worse than a smaller group a larger likely one may fit."""
SMALL_GROUP_SHARE = 0.25
"""For groups of at most two turns, whose relations say little, in place of `PERMUTATION_SHARE`."""
MOST_TURNS_OF_SMALL = 2

Kind = Literal["trivial", "permutation", "orthogonal"]
Generators = Mapping[Element, Action]


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """The action of one layer: its kind, the group at whose elements it is used, and the generators' actions.

    ``by_half`` has the generators as either half of the images gives them; a trivial action has none.
    ``group`` is None where no subgroup has an action; it is C1 never.
    """

    kind: Kind = "trivial"
    group: Group | None = None
    by_half: tuple[Generators, Generators] = field(default_factory=lambda: ({}, {}))
    error: float | None = None
    relation: float | None = None
    proven: bool = False

    def at(self, element: Element, half: int) -> Action | None:
        """Return the action of an element, from one half of the images; None where channels stay."""
        group = self.group
        if group is None or not self.by_half[half] or element not in group.elements:
            return None
        return word(group, self.by_half[half], element)


def generators_of(group: Group) -> tuple[Element, ...]:
    """Return the least turn, if there is one, and the least mirrored element, if there is one."""
    turns = (Element(mirrored=False, k=1, n=group.rotations),) if group.rotations > 1 else ()
    return turns if group.mirror is None else (*turns, group.mirror)


def word(group: Group, generators: Generators, element: Element) -> Action:
    """Return the action of any element of a group, composed of those of its generators."""
    parts: list[Action] = []
    turn = element.turn
    if element.mirrored and group.mirror is not None:
        parts.append(generators[group.mirror])
        turn -= group.mirror.turn
    steps = int((turn % 1) * group.rotations)
    if steps or not parts:
        first = generators[generators_of(group)[0]]
        parts.insert(0, power(first, steps))
    return parts[0] if len(parts) == 1 else parts[0] @ parts[1]


def relation_error(group: Group, generators: Generators, features: Floats) -> float:
    """Return by how much the relations of a group fail in the data: the largest |(word - 1) X| / |X - mean|.

    The words are r^n, m^2 and (m r)^2; ``features`` X is (N, C). In the matrix norm dead and duplicate
    channels, whose action no data can tell, would count as much as any other.
    """
    size = float(np.linalg.norm(features - features.mean(axis=0)))
    words: list[Callable[[Floats], Floats]] = []
    turn = Element(mirrored=False, k=1, n=group.rotations) if group.rotations > 1 else None
    if turn is not None:
        words.append(lambda x: _repeat(generators[turn], x, group.rotations))
    if group.mirror is not None:
        mirror = generators[group.mirror]
        words.append(lambda x: _repeat(mirror, x, 2))
        if turn is not None:
            both = mirror @ generators[turn]
            words.append(lambda x: _repeat(both, x, 2))
    errors = [float(np.linalg.norm(go(features) - features)) / size if size else 0.0 for go in words]
    return max(errors, default=0.0)


def _repeat(action: Action, samples: Floats, times: int) -> Floats:
    for _ in range(times):
        samples = action.on_samples(samples)
    return samples


def decide(group: Group, fits: Mapping[Element, GeneratorFit], features: Floats) -> Decision:
    """Return the action of a layer at the elements that move pixels to pixels.

    What is proven under some subgroup, the largest first, comes before what is only likely under another.

    Parameters
    ----------
    group
        What is asked for.
    fits
        Of each exact element that generates a subgroup.
    features
        Samples of the layer's features (N, C).
    """
    subgroups = [
        candidate
        for candidate in group.subgroups()
        if candidate.moving and all(generator in fits for generator in generators_of(candidate))
    ]
    for candidate in subgroups:
        decision = _proven(candidate, fits, features)
        if decision is not None:
            return decision
    likely = [_likely(candidate, fits, features) for candidate in subgroups]
    found = [(decision, decision.error or 0.0) for decision in likely if decision is not None]
    least = min((error for _, error in found), default=0.0)
    return next((decision for decision, error in found if error <= WORSE * least), Decision())


def _proven(group: Group, fits: Mapping[Element, GeneratorFit], features: Floats) -> Decision | None:
    """Take steps 1 to 3: trivial, else a permutation, else an orthogonal action, each all but exact."""
    trivial, chance = _yardsticks(group, fits)
    limit = proven_limit(trivial, chance)
    if trivial <= min(TRIVIAL_ERROR, PROVEN_SHARE * chance):
        return Decision("trivial", group, error=trivial, relation=0.0, proven=True)
    permuted, error = _combine("permutation", group, fits, features, limit, LIKELY_RELATION)
    if permuted is not None:
        return permuted
    limit = min(limit, PROVEN_SHARE * error)
    return _combine("orthogonal", group, fits, features, limit, PROVEN_RELATION)[0]


def _yardsticks(group: Group, fits: Mapping[Element, GeneratorFit]) -> tuple[float, float]:
    """Return the largest trivial error at the generators of a group, and chance."""
    asked = [fits[generator] for generator in generators_of(group)]
    return max(fit.trivial for fit in asked), min(fit.chance for fit in asked)


def _likely(group: Group, fits: Mapping[Element, GeneratorFit], features: Floats) -> Decision | None:
    """Take step 4: a permutation that explains most of what the plain reading misses."""
    trivial, chance = _yardsticks(group, fits)
    share = PERMUTATION_SHARE if group.rotations > MOST_TURNS_OF_SMALL else SMALL_GROUP_SHARE
    limit = likely_limit(trivial, chance, share)
    found, _ = _combine("permutation", group, fits, features, limit, LIKELY_RELATION)
    return None if found is None else dataclasses.replace(found, proven=False)


def _combine(
    kind: Literal["permutation", "orthogonal"],
    group: Group,
    fits: Mapping[Element, GeneratorFit],
    features: Floats,
    limit: float,
    relation_limit: float,
) -> tuple[Decision | None, float]:
    """Return the decision for one kind of action at all generators, and its error.

    None where one has no such fit, or where errors or relations are beyond the limits.
    """
    pick = _as_permutation if kind == "permutation" else _as_orthogonal
    channels = features.shape[1]
    picked = {generator: pick(fits[generator], channels) for generator in generators_of(group)}
    kept = {generator: fit for generator, fit in picked.items() if fit is not None}
    error = max(fit[1] for fit in kept.values()) if len(kept) == len(picked) else math.inf
    if error > limit:
        return None, error
    by_half = [{generator: fit[0][half] for generator, fit in kept.items()} for half in (0, 1)]
    relation = max(relation_error(group, generators, features) for generators in by_half)
    if relation > relation_limit:
        return None, error
    return Decision(kind, group, (by_half[0], by_half[1]), error, relation, proven=True), error


Picked = tuple[tuple[Action, Action], float]


def _as_permutation(fit: GeneratorFit, channels: int) -> Picked | None:
    if fit.trivial <= TRIVIAL_ERROR:
        same = Permutation.identity(channels)
        return (same, same), fit.trivial
    return None if fit.permutation is None else (fit.permutation.by_half, fit.permutation.error)


def _as_orthogonal(fit: GeneratorFit, channels: int) -> Picked | None:
    """Return the orthogonal fit, or the permutation where that is proven already."""
    if fit.orthogonal is None:
        found = _as_permutation(fit, channels)
        return found if found is not None and found[1] <= proven_limit(math.inf, fit.chance) else None
    return fit.orthogonal.by_half, fit.orthogonal.error


def undetermined(fits: Mapping[Element, GeneratorFit]) -> bool:
    """Whether at some element lengths are kept, but too few samples tell which action it is."""
    return any(not fit.determined for fit in fits.values())
