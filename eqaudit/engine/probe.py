"""What one random image shows of a model: its layers, the output that is judged, and the grid of each map."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

import torch

from eqaudit.engine.base import MANY_IMAGES, Key, Setting, Space
from eqaudit.engine.layouts import Layouts, find_all_layouts, map_side, why_unknown
from eqaudit.engine.shapes import RETURN_TENSOR, Choice
from eqaudit.errors import DataError, ModelError, UsageError
from eqaudit.limits import matches
from eqaudit.loader import AuditModel, Feature
from eqaudit.plan import NO_LAYERS, AuditPlan, Extension, SpaceOptions
from eqaudit.report import describe_shape
from eqaudit.transforms import Resampler

EMPTY_RING = 0.1
"""Width of the ring that the disc leaves empty, as a share of the radius, where ``--margin`` does not say it.

It keeps what a network does at the border of its maps (padding, above all where features without content are
not zero) away from the picture: with it the error of truly equivariant networks is their floor, without it up
to three times that (tests/calibration/floors.py).
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """The features of one image, in order: layers, then outputs, with the shape of each and no values."""

    features: list[tuple[Key, Feature, tuple[int, ...] | None]]

    @property
    def shapes(self) -> dict[Key, tuple[int, ...]]:
        """The shape of one image's feature of each tensor that has one."""
        return {key: shape for key, _, shape in self.features if shape is not None}

    @property
    def layers(self) -> list[tuple[Feature, tuple[int, ...] | None]]:
        """The features of layers, and the shape of one image's."""
        return [(feature, shape) for key, feature, shape in self.features if key[0] == "layer"]


def probe_model(model: AuditModel, choice: Choice) -> Probe:
    """Run one random image (or the model's one batch size)."""
    generator = torch.Generator().manual_seed(0)
    found: list[tuple[Key, Feature, tuple[int, ...] | None]] = []

    def keep(kind: str, feature: Feature) -> None:
        shape = None if feature.value is None else tuple(feature.value.shape[1:])
        found.append(((kind, feature.name, feature.call), feature.replace(None), shape))

    batch = torch.rand((choice.fixed_batch or 1, *choice.shape), generator=generator)
    outputs = model.run(batch, lambda feature: keep("layer", feature))
    for output in outputs:
        keep("output", output)
    return Probe(found)


def make_setting(model: AuditModel, choice: Choice, plan: AuditPlan, samples: int = MANY_IMAGES) -> Setting:
    """Decide what is measured on so many images; the task is left open until real ones were seen.

    Raises
    ------
    UsageError
        A layer pattern matches nothing, or ``--output`` names no output.
    DataError
        The images are no squares, and a pose turns them by 90 degrees.
    ModelError
        No output can be compared.
    """
    probe = probe_model(model, choice)
    names = list(dict.fromkeys(feature.name for feature, _ in probe.layers))
    patterns = [pattern for pattern in plan.layers if pattern != NO_LAYERS]
    for pattern in patterns:
        _find_layer(pattern, names, f"the pattern {pattern!r} matches no layer")

    def keep(key: Key) -> bool:
        if key[0] == "output" or not plan.layers:
            return True
        return any(matches(key[1], pattern) for pattern in patterns)

    measured = [name for name in names if keep(("layer", name, 0))]
    for pattern in plan.limited_layers:
        _find_layer(pattern, measured, f"a limit on layers[{pattern!r}] matches no layer that is measured")

    swaps_sides = any(pose.exact and pose.element.quarter_turns % 2 for pose in plan.poses)
    if swaps_sides and choice.shape[1] != choice.shape[2]:
        turns = f"--group {plan.group}" if not plan.angles else "--angles"
        raise DataError(
            f"{turns} turns by 90 degrees and needs squares, not {describe_shape(choice.shape)}",
            "leave out 90 and 270 degrees (--group D2), or --resize to a square",
        )
    layouts = find_all_layouts(probe.shapes, choice.shape[1:], plan.layouts, swaps_sides=swaps_sides)
    grids = _grids(probe, choice.shape[1:], layouts)
    return Setting(
        poses=plan.poses,
        seed=plan.inputs.seed,
        batch_size=choice.fixed_batch or plan.inputs.batch_size,
        fixed_batch=choice.fixed_batch,
        swaps_sides=swaps_sides,
        keep=keep,
        layers=bool(patterns) or not plan.layers,
        gating=_find_gating(probe, plan.output, choice, layouts),
        space=_make_space(plan.space, choice.shape[1:], samples, *grids),
        layouts=layouts,
    )


def _find_layer(pattern: str, names: list[str], problem: str) -> None:
    if not any(matches(name, pattern) for name in names):
        close = ", ".join(difflib.get_close_matches(pattern, names, n=3) or names[:3])
        hint = f"there are {close} ... (eqaudit layers lists all)" if names else "no layer is measured"
        raise UsageError(problem, hint)


def _make_space(
    options: SpaceOptions,
    image: tuple[int, int],
    samples: int,
    cells: dict[Key, float],
    periods: dict[Key, float],
) -> Space:
    # A windowed picture is zero beyond its border; its features are not, and continue there as they are.
    extension: Extension = "blank" if options.boundary == "disc" else options.boundary
    ring = EMPTY_RING * min(image) / 2 if options.boundary == "disc" else None
    return Space(
        Resampler(options.interpolation, extension),
        Resampler(options.feature_interpolation, extension),
        options.boundary,
        ring if options.margin is None else options.margin,
        cells,
        periods,
        every_point=options.points == "all",
        samples=samples,
    )


def _find_gating(probe: Probe, name: str, choice: Choice, layouts: Layouts) -> Key:
    outputs = [(key, feature, shape) for key, feature, shape in probe.features if key[0] == "output"]
    if name:
        for key, _, _ in outputs:
            if key[1] in {name, f"output.{name}"}:
                return key
        raise UsageError(
            f"--output {name!r} is no output of the model",
            f"there are {', '.join(key[1] for key, _, _ in outputs)}",
        )
    reasons = []
    for key, feature, shape in outputs:
        if key in layouts:
            return key
        reasons.append(feature.reason if shape is None else why_unknown(shape, choice.shape[1:]))
    raise ModelError(
        f"no output can be compared: {reasons[0] if reasons else 'there is none'}",
        RETURN_TENSOR,
    )


def _grids(
    probe: Probe, image: tuple[int, int], layouts: Layouts
) -> tuple[dict[Key, float], dict[Key, float]]:
    """Return the side of one cell of each tensor in pixels of the image, and of the coarsest cell so far.

    Strides multiply along the model, by what each step makes of the size; a size that was met before keeps
    its cell. What has no space, or a single cell, has the coarsest cell before it: its values saw that one.
    """
    known: dict[int, float] = {image[0]: 1.0}
    before, coarsest = image[0], 1.0
    cells: dict[Key, float] = {}
    periods: dict[Key, float] = {}
    for key, _, shape in probe.features:
        side = None if shape is None or key not in layouts else map_side(shape, layouts[key][0])
        if side is not None:
            if side not in known:
                known[side] = known[before] * _stride(before, side)
            before, coarsest = side, max(coarsest, known[side])
        cells[key] = coarsest if side is None else known[side]
        periods[key] = coarsest
    return cells, periods


def _stride(before: int, after: int) -> float:
    """Return by how much a layer subsamples, from the two sizes: 33 to 17 is 2, 12 to 8 (no padding) is 1."""
    if before % after == 0:
        return before // after
    if after > before:
        return 1.0 if after < 2 * before - 1 else 1 / round(after / before)
    return math.floor((before - 1) / (after - 1))
