"""The action of one layer's channels as an audit uses it: at any element, for either half of the images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from eqaudit.groups import IDENTITY, MIRROR, Element, Group
from eqaudit.report import ChannelAction, Representation
from eqaudit.representations.base import Action, Floats, Permutation
from eqaudit.representations.naming import Named, name_orthogonal, name_permutation
from eqaudit.representations.offgrid import Extension, extended_group
from eqaudit.representations.rule import Decision, generators_of

Status = Literal["used", "vacuous", "undetermined"]
LeftOut = Literal["undetermined", "degenerate"]
MOST_RECORDED = 1024
"""Channels of a permutation that the report still lists."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerAction:
    """What was decided for one layer.

    ``group`` is where the action is used, C1 for nowhere; ``generators`` are the actions, from the first half
    of the images, that ``named`` puts in words; ``reason`` says why an action is not used.
    """

    decision: Decision
    extension: Extension | None
    status: Status
    group: Group
    generators: Mapping[Element, Action]
    named: Named
    reason: str | None = None
    _known: dict[tuple[Element, int], Action | None] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        decision: Decision,
        extension: Extension | None,
        features: Floats,
        sizes: tuple[int, ...],
        unused: tuple[Status, str] | None = None,
    ) -> LayerAction:
        """Put a decision into words.

        Parameters
        ----------
        decision
            For the elements that move pixels to pixels.
        extension
            For resampled turns.
        features
            Samples of the layer (N, C).
        sizes
            Its channel dimensions.
        unused
            Why the action is shown only.
        """
        status, reason = unused or ("used", None)
        group = Group(1) if unused else _group(decision, extension, features)
        between = extension is not None and extension.how == "interpolated"
        named_group = decision.group or Group(1) if unused or between else group
        made = cls(decision, extension, "used", group, {}, Named("", [], None, None))
        find = decision.at if unused or between else made.at
        same = Permutation.identity(features.shape[1])
        generators = {generator: find(generator, 0) or same for generator in generators_of(named_group)}
        named = _name(named_group, generators, features, sizes)
        return cls(decision, extension, status, group, generators, named, reason)

    @property
    def moves(self) -> bool:
        """Whether channels are anything but plain maps at some element."""
        return self.status == "used" and (self.decision.kind != "trivial" or self.extension is not None)

    @property
    def mixes(self) -> bool:
        """Whether the action is a matrix, which is known only as well as the features it was fitted to."""
        if not self.moves:
            return False
        extended = self.extension is not None and self.extension.how == "orthogonal"
        return self.decision.kind == "orthogonal" or (extended and self.decision.kind == "trivial")

    def at(self, element: Element, half: int) -> Action | None:
        """Return the action of an element from one half of the images; None where channels are plain maps."""
        if not self.moves or element == IDENTITY:
            return None
        if (element, half) not in self._known:
            self._known[element, half] = self._find(element, half)
        return self._known[element, half]

    def _find(self, element: Element, half: int) -> Action | None:
        if element.exact:
            return self.decision.at(element, half)
        if self.extension is None or (element.mirrored and self.group.mirror is None):
            return None
        mirrors = (self.decision.at(MIRROR, 0), self.decision.at(MIRROR, 1))
        return self.extension.at(element, mirrors, half)

    def record(self, images: int) -> Representation:
        """Return what the report says; ``images`` were used for the fit."""
        named, kind = self.named, self._kind()
        return Representation(
            kind=kind,
            order=len(self.group.elements) if kind in {"permutation", "orthogonal"} else 1,
            relation_error=self.decision.relation,
            group=self.group.name,
            words=named.words if kind != "undetermined" else "undetermined",
            fields=named.fields,
            axis=named.axis,
            roll=named.roll,
            fit_error=self.decision.error,
            images=images,
            actions=[
                ChannelAction(str(element), [int(place) for place in action.source])
                for element, action in self.generators.items()
                if isinstance(action, Permutation) and self.moves and action.channels <= MOST_RECORDED
            ],
            off_grid=None if self.extension is None or not self.moves else self.extension.how,
            reason=self.reason,
        )

    def _kind(self) -> Literal["trivial", "permutation", "orthogonal", "vacuous", "undetermined"]:
        if self.status != "used":
            return self.status
        if self.decision.kind == "trivial" and self.extension is not None:
            return "permutation" if self.extension.how == "permutation" else "orthogonal"
        return self.decision.kind


def _group(decision: Decision, extension: Extension | None, features: Floats) -> Group:
    if extension is not None:
        return extended_group(extension, decision, features)
    return decision.group or Group(1)


def _name(
    group: Group, generators: Mapping[Element, Action], features: Floats, sizes: tuple[int, ...]
) -> Named:
    if not generators:
        return Named("none found", [], None, None)
    permutations = {
        element: action.source for element, action in generators.items() if isinstance(action, Permutation)
    }
    if len(permutations) == len(generators):
        return name_permutation(group, permutations, features.T, sizes)
    matrices = {element: action.matrix for element, action in generators.items()}
    return name_orthogonal(group, matrices, features.T)


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """The actions of all layers that have one, by key, and which half's fit each image is judged under.

    ``halves`` by name of image: those that the fit was made with are judged under the other half's.
    ``left_out`` says why a layer was not fitted.
    """

    images: int = 0
    by_key: Mapping[tuple[str, str, int], LayerAction] = field(default_factory=dict)
    halves: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[tuple[str, str, int], tuple[LeftOut, str]] = field(default_factory=dict)

    def record(self, key: tuple[str, str, int]) -> Representation:
        """Return what the report says of one layer."""
        if key in self.by_key:
            return self.by_key[key].record(self.images)
        if key not in self.left_out:
            return Representation("trivial", 1, words="not fitted")
        kind, reason = self.left_out[key]
        return Representation(kind, 1, words=kind, images=self.images, reason=reason)

    def moving(self, key: tuple[str, str, int]) -> LayerAction | None:
        """Return the action of a layer whose channels change at some element; None for plain maps."""
        action = self.by_key.get(key)
        return action if action is not None and action.moves else None

    def refined(self, others: Mapping[tuple[str, str, int], LayerAction]) -> Channels:
        """Return the same actions, with the matrices of another fit where that found some."""
        better = {key: other for key, other in others.items() if self.by_key[key].mixes and other.mixes}
        return dataclasses.replace(self, by_key={**self.by_key, **better})

    def of(self, names: tuple[str, ...]) -> torch.Tensor:
        """Return, for each image, which half's fit it is judged under, (B,)."""
        return torch.tensor([self.halves.get(name, 0) for name in names])


def move_channels(
    tensor: torch.Tensor, actions: tuple[Action, Action], halves: torch.Tensor, *, spatial: bool
) -> torch.Tensor:
    """Return a feature, space last, after each image's own half's action; channel dimensions count as one."""
    rows = with_one_channel_dimension(tensor, spatial=spatial)
    moved = torch.empty_like(rows)
    for half in (0, 1):
        chosen = (halves == half).to(rows.device)
        if bool(chosen.any()):
            moved[chosen] = actions[half].on_tensor(rows[chosen])
    return moved.reshape(tensor.shape)


def with_one_channel_dimension(tensor: torch.Tensor, *, spatial: bool) -> torch.Tensor:
    """Return a map as (B, C, H, W) and a vector as (B, C), whatever channel dimensions there are."""
    if not spatial:
        return tensor.reshape(len(tensor), -1)
    return tensor.reshape(len(tensor), -1, *tensor.shape[-2:])
