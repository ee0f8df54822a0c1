"""The steps of a model: the tensors that its modules and operations compute, and how each moves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from eqaudit.engine.base import Key, Setting, stream
from eqaudit.engine.references import layout_of
from eqaudit.errors import ModelError
from eqaudit.groups import Element
from eqaudit.loader import AuditModel, Feature, Operation, with_operations
from eqaudit.representations import Action, LayerAction, with_one_channel_dimension
from eqaudit.transforms import Layout, UnknownLayoutError, act

NO_KEY: Key = ("", "", 0)


@dataclass(slots=True, eq=False)
class Step:
    """One tensor on the way, and how it moves with the image.

    ``operations`` are what led to it from the step ``before``. ``errors`` are the local errors by element.
    """

    key: Key
    name: str
    type: str
    layout: Layout
    shape: torch.Size
    operations: tuple[Operation, ...]
    action: LayerAction | None
    before: Step | None
    errors: dict[Element, float] = field(default_factory=dict)

    @property
    def local(self) -> float:
        """The local error over all elements (root mean square)."""
        return math.sqrt(sum(error**2 for error in self.errors.values()) / max(len(self.errors), 1))

    def expect(self, element: Element, still: torch.Tensor, setting: Setting) -> torch.Tensor:
        """Return ``rho(g) T_g`` of the step's tensor, batch first, as the model lays it out."""
        expected = still.clone()
        inside = self.layout.space_last(expected)
        moved = self.layout.space_last(still)
        if self.layout.spatial:
            moved = act(element, moved, setting.space.features)
        action = None if self.action is None else self.action.at(element, 0)
        if action is not None:
            moved = action.on_tensor(with_one_channel_dimension(moved, spatial=self.layout.spatial))
            self._act_on_extra(action, expected)
        inside.copy_(moved.reshape(inside.shape))
        return expected

    def _act_on_extra(self, action: Action, expected: torch.Tensor) -> None:
        """Act on the channels of tokens that are no part of the grid, in place."""
        tokens = self.layout.tokens
        if tokens is not None and tokens.extra:
            extra = expected.narrow(tokens.axis, 0, tokens.extra).movedim(tokens.axis, -1)
            extra.copy_(action.on_tensor(extra.reshape(len(extra), -1, tokens.extra)).reshape(extra.shape))


def relative_error(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return |one - other| relative to the mean power of the two; what is not finite is no error."""
    power = float(one.double().square().sum() + other.double().square().sum()) / 2
    error = math.sqrt(float((one.double() - other).square().sum()) / power) if power else 0.0
    return error if math.isfinite(error) else 0.0


class Survey:
    """One run that finds the steps: tensors in memory of their own, of known layout, and their operations."""

    def __init__(self, model: AuditModel, images: torch.Tensor, setting: Setting) -> None:
        self.setting, self.images = setting, images
        self.steps: dict[Key, Step] = {}
        self._pending: list[Operation] = []
        self._memory: dict[int, tuple[torch.Tensor, Key]] = {
            weight.untyped_storage().data_ptr(): (weight, NO_KEY)
            for weight in model.runner.tensors().values()
        }
        self._last: Step | None = None
        output: list[Step] = []

        def receive(key: Key, feature: Feature) -> None:
            step = self._receive(key, feature)
            if key == setting.gating and step is not None:
                output.append(step)

        stream(with_operations(model, self._pending.append), images, setting, receive)
        if not output:
            raise ModelError("the judged output cannot be compared", "name another with --output")
        self.output = output[0]

    def _receive(self, key: Key, feature: Feature) -> Step | None:
        value = feature.value
        if value is None:
            return None
        start = value.untyped_storage().data_ptr()
        known = self._memory.get(start)
        if known is not None:
            self._rename(known[1], feature)
            return self._view(key, feature, value, self.steps.get(known[1])) if key[0] == "output" else None
        if not len(value) or not _is_whole(value, self.setting.fixed_batch or len(value)):
            return None  # what an assignment to a part changed: the tensor itself comes later
        self._memory[start] = value, key
        step = self._make(key, feature, value)
        if step is not None:
            self.steps[key] = step
            self._pending.clear()
            self._last = step
        return step

    def _view(self, key: Key, feature: Feature, value: torch.Tensor, step: Step | None) -> Step | None:
        """Return the step that an output is, or one of its own for another view of the same memory."""
        return step if step and step.shape == value.shape else self._make(key, feature, value)

    def _make(self, key: Key, feature: Feature, value: torch.Tensor) -> Step | None:
        sides = (self.images.shape[-2], self.images.shape[-1])
        try:
            layout = layout_of(key, value, len(self.images), sides, self.setting)
        except UnknownLayoutError:
            return None
        action = self.setting.channels.by_key.get(key)
        used = action if action is not None and action.moves else None
        name = f"{feature.name}#{feature.call}" if feature.call else feature.name
        return Step(key, name, feature.type, layout, value.shape, tuple(self._pending), used, self._last)

    def _rename(self, key: Key, feature: Feature) -> None:
        """Call a step after the module that returns it, where that computes nothing else."""
        inside = [known for known in self.steps if known[1].startswith(f"{feature.name}.")]
        if inside == [key]:
            self.steps[key].name, self.steps[key].type = feature.name, feature.type


def _is_whole(value: torch.Tensor, batch: int) -> bool:
    """Whether a tensor is all of its memory, once: no part of another, and not expanded.

    Of a padded ``batch`` the tensor is only the rows that count.
    """
    return value.untyped_storage().nbytes() == value[0].numel() * batch * value.element_size()
