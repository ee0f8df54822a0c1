"""A model as a chain of steps, run so that each step sees what a perfect network would have given it.

A step is a tensor that a module or an operation computed: views and copies of earlier ones are none. On moved
images every step is compared with ``rho(g) T_g`` of its own unmoved value and then overwritten by that, in
place. So whatever follows starts from exact inputs, and each step shows what it adds itself: the *local*
equivariance error. That needs no call of a layer by itself, and works alike for every kind of model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch

from eqaudit.diagnosis.steps import Step, Survey, relative_error
from eqaudit.engine.base import Key, Setting, stream
from eqaudit.errors import ModelError
from eqaudit.groups import IDENTITY, Element
from eqaudit.loader import AuditModel, Feature
from eqaudit.representations import LayerAction, with_one_channel_dimension
from eqaudit.transforms import act

LIMITS = {torch.float64: 1e-5, torch.float32: 1e-4}
"""Largest local error of an exact step: weights are often symmetric to the rounding of float32 only."""

Visit = Callable[[Step, torch.Tensor], object]
Correct = Callable[[Step, torch.Tensor, torch.Tensor], torch.Tensor | None]
"""From a step's tensor and what is expected of it: what to overwrite it with, None to leave it."""
Deviations = Mapping[Key, torch.Tensor]
NOTHING: Deviations = {}


class Network:
    """The steps of a model on a few images (B, C, H, W), which are not windowed.

    ``setting`` has the exact elements of a group as poses, and was prepared with taps at operations.
    ``outputs`` are those of the images moved by each element.
    """

    def __init__(self, model: AuditModel, images: torch.Tensor, setting: Setting) -> None:
        self.model, self.images, self.setting = model, images, setting
        self.elements = tuple(pose.element for pose in setting.poses if pose.element != IDENTITY)
        self.limit = LIMITS.get(model.dtype or torch.float32, LIMITS[torch.float32])
        survey = Survey(model, images, setting)
        self.steps, self.output = survey.steps, survey.output
        self._known: dict[int, list[LayerAction | None]] = {}
        self.outputs = {element: self.walk(self.move(element)) for element in (IDENTITY, *self.elements)}
        if torch.equal(self.outputs[IDENTITY], self.walk(images, lambda _step, value: value.zero_())):
            # Features of quantised layers, say, are copies in another precision.
            raise ModelError("the tensors of its layers cannot be overwritten")

    @property
    def breaking(self) -> list[Step]:
        """The steps that add an error of their own, in order of execution."""
        return [step for step in self.steps.values() if max(step.errors.values(), default=0.0) > self.limit]

    def walk(self, images: torch.Tensor, visit: Visit | None = None) -> torch.Tensor:
        """Run the model, hand over each step's tensor, which may be written to, and return the output."""
        found: list[torch.Tensor] = []

        def receive(key: Key, feature: Feature) -> None:
            step = self.steps.get(key)
            if feature.value is not None and step is not None and visit is not None:
                with torch.inference_mode(feature.value.is_inference()):
                    visit(step, feature.value)
            if feature.value is not None and key == self.setting.gating:
                found.append(feature.value.clone())

        stream(self.model, images, self.setting, receive)
        if not found:
            raise ModelError(f"{self.setting.gating[1]} is no tensor", "name another with --output")
        return found[0]

    def record(self, images: torch.Tensor) -> dict[Key, torch.Tensor]:
        """Return every step's tensor."""
        kept: dict[Key, torch.Tensor] = {}

        def keep(step: Step, value: torch.Tensor) -> None:
            kept[step.key] = value.clone()

        self.walk(images, keep)
        return kept

    def move(self, element: Element, images: torch.Tensor | None = None) -> torch.Tensor:
        """Return the images under an exact element."""
        images = self.images if images is None else images
        return act(element, images, self.setting.space.images).contiguous()

    def force(
        self,
        still: Mapping[Key, torch.Tensor],
        moved: torch.Tensor,
        element: Element,
        correct: Correct,
    ) -> None:
        """Run moved images; overwrite each step by what ``correct`` makes of it and of what is expected."""

        def visit(step: Step, value: torch.Tensor) -> None:
            right = correct(step, value, step.expect(element, still[step.key], self.setting))
            if right is not None:
                value.copy_(right)

        self.walk(moved, visit)

    def measure(self) -> None:
        """Measure the local error of every step at every element."""
        for step in self.steps.values():
            step.errors.clear()
        self._settle_actions()
        still = self.record(self.images)
        for element in self.elements:
            self._measure_at(element, still)

    def _measure_at(
        self, element: Element, still: Mapping[Key, torch.Tensor], chosen: Step | None = None
    ) -> tuple[int, float]:
        """Measure at one element; return how many steps break, and the error of the chosen one.

        Steps behind the chosen one may take the action of another layer where they are exact under that.
        """
        behind: list[Step] = []

        def correct(step: Step, value: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
            step.errors[element] = relative_error(value, expected)
            if behind and step.errors[element] > self.limit:
                expected = self._adapt(step, value, still[step.key], element)
            behind.extend([step] if step is chosen else [])
            return expected

        self.force(still, self.move(element), element, correct)
        breaking = sum(step.errors[element] > self.limit for step in self.steps.values())
        return breaking, 0.0 if chosen is None else chosen.errors[element]

    def _adapt(self, step: Step, value: torch.Tensor, still: torch.Tensor, element: Element) -> torch.Tensor:
        own = step.action
        for action in self._other_actions(step):
            step.action = action
            expected = step.expect(element, still, self.setting)
            error = relative_error(value, expected)
            if error <= self.limit:
                step.errors[element] = error
                return expected
        step.action = own
        return step.expect(element, still, self.setting)

    def _settle_actions(self) -> None:
        """Try the actions of other layers on breaking steps, and keep those with the fewest breaking steps.

        What was fitted to a broken layer may be wrong, and then layers that follow seem to break too.
        """
        element, still = self.elements[0], self.record(self.images)
        self._known = self._known_actions(element)
        self._measure_at(element, still)
        tried: set[Key] = set()
        while left := [other for other in self.breaking if other.key not in tried]:
            step = left[0]
            tried.add(step.key)
            others = self._other_actions(step)
            if not others:
                continue
            before = {other.key: other.action for other in self.steps.values()}
            found = []
            for action in [step.action, *others]:
                self._assign({**before, step.key: action})
                result = self._measure_at(element, still, step)
                found.append((result, {other.key: other.action for other in self.steps.values()}))
            self._assign(min(found, key=lambda each: each[0])[1])
            self._measure_at(element, still)

    def _assign(self, actions: Mapping[Key, LayerAction | None]) -> None:
        for key, action in actions.items():
            self.steps[key].action = action

    def _other_actions(self, step: Step) -> list[LayerAction | None]:
        """Return the actions, each once, that layers of as many channels have, and none."""
        inside = step.layout.space_last(torch.empty(step.shape, device="meta"))
        channels = with_one_channel_dimension(inside, spatial=step.layout.spatial).shape[1]
        return [action for action in self._known.get(channels, [None]) if action is not step.action]

    def _known_actions(self, element: Element) -> dict[int, list[LayerAction | None]]:
        """Return the proven actions that layers have at an element, by their number of channels."""
        found: dict[tuple[int, bytes], LayerAction] = {}
        for step in self.steps.values():
            action = None if step.action is None else step.action.at(element, 0)
            if step.action is not None and action is not None and step.action.decision.proven:
                step.action = found.setdefault((action.channels, action.matrix.tobytes()), step.action)
        known: dict[int, list[LayerAction | None]] = {}
        for (channels, _), same in found.items():
            known.setdefault(channels, [None]).append(same)
        return known

    def disregard_unknown(self, element: Element) -> None:
        """Drop steps that only seem to break: left as they are, and what follows too, a later step is exact.

        Their tensors move with the image in a way that was not found, as attention weights may.
        """
        breaking = {step.key for step in self.breaking}
        self._drop_between(element, breaking, self.steps.keys() - breaking)
        for first in (0, 1):
            order = [step.key for step in self.breaking]
            self._drop_between(element, set(order[first::2]), set(order[first + 1 :: 2]))
        if order := [step.key for step in self.breaking]:
            # An average over turned copies of a network is exact, though what it averages is not.
            keys = list(self.steps)
            self._drop_between(element, {order[0]}, set(keys[keys.index(order[-1]) + 1 :]), patient=True)

    def _drop_between(
        self, element: Element, opening: Collection[Key], closing: Collection[Key], *, patient: bool = False
    ) -> None:
        """Leave steps alone from an opening one to a closing one; drop them where that one then is exact.

        A ``patient`` try goes on to the next closing one where it is not.
        """
        waiting: list[Step] = []
        groups: list[list[Step]] = []

        def correct(step: Step, value: torch.Tensor, expected: torch.Tensor) -> torch.Tensor | None:
            exact = step.key in closing and relative_error(value, expected) <= self.limit
            if exact or (step.key in closing and not patient):
                groups.extend([waiting.copy()] if exact and waiting else [])
                waiting.clear()
            elif waiting or step.key in opening:
                waiting.append(step)
                return None
            return expected

        self.force(self.record(self.images), self.move(element), element, correct)
        if not self._drop([step for group in groups for step in group]) and len(groups) > 1:
            for group in groups:
                self._drop(group)

    def _drop(self, steps: Collection[Step]) -> bool:
        """Drop steps, unless others break then: the one that was exact may have been on another branch."""
        if not steps:
            return True
        before = {step.key for step in self.breaking}
        kept = [(step, step.action, dict(step.errors)) for step in self.steps.values()]
        for step in steps:
            del self.steps[step.key]
        self.measure()
        if before.issuperset(step.key for step in self.breaking):
            return True
        for step, action, errors in kept:
            step.action, step.errors = action, errors
        self.steps = {step.key: step for step, _, _ in kept}
        return False

    def deviations(self, element: Element, keys: Collection[Key]) -> dict[Key, torch.Tensor]:
        """Return what some steps add at an element, given exact inputs: tensors of their own shape."""
        still, found = self.record(self.images), dict[Key, torch.Tensor]()

        def correct(step: Step, value: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
            if step.key in keys:
                found[step.key] = value - expected
            return expected

        self.force(still, self.move(element), element, correct)
        return found

    def output_error(self, element: Element, without: Deviations = NOTHING) -> float:
        """Return the error of the output at an element, with what some steps add taken away."""

        def visit(step: Step, value: torch.Tensor) -> None:
            if step.key in without:
                value.sub_(without[step.key])

        moved = self.walk(self.move(element), visit) if without else self.outputs[element]
        return self.compare_outputs(self.outputs[IDENTITY], moved, element)

    def compare_outputs(self, still: torch.Tensor, moved: torch.Tensor, element: Element) -> float:
        """Return the equivariance error between two outputs."""
        return relative_error(moved, self.output.expect(element, still, self.setting))

    def symmetrised_errors(self, steps: Collection[Step], element: Element) -> dict[Key, float]:
        """Return the output error with each step made the average of ``rho(h)^-1 T_h^-1 l(rho(h) T_h z)``."""
        still, moved = (self._averages(steps, self.move(start)) for start in (IDENTITY, element))
        return {step.key: self.compare_outputs(still[step.key], moved[step.key], element) for step in steps}

    def _averages(self, steps: Collection[Step], images: torch.Tensor) -> dict[Key, torch.Tensor]:
        """Return the output with each step alone averaged over the group, exact inputs given."""
        still = self.record(images)
        totals = {step.key: still[step.key].clone() for step in steps}

        def correct(step: Step, value: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
            if step.key in totals:
                totals[step.key] += step.expect(~element, value, self.setting)
            return expected

        for element in self.elements:
            self.force(still, self.move(element, images), element, correct)

        outputs = {}
        for key, total in totals.items():

            def replace(step: Step, value: torch.Tensor, key: Key = key, total: torch.Tensor = total) -> None:
                if step.key == key:
                    value.copy_(total / (1 + len(self.elements)))

            outputs[key] = self.walk(images, replace)
        return outputs

    def averaged_output(self, start: Element) -> torch.Tensor:
        """Return the output averaged over the group, of the images moved by an element of it."""
        answers = [
            self.output.expect(~element, self.outputs[element @ start], self.setting)
            for element in self.outputs
        ]
        return torch.stack(answers).mean(0)
