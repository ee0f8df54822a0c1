"""What a report cannot hold, as arrays for pictures: the worst case of a sweep, and how channels turn."""

from __future__ import annotations

import numpy as np
import torch

from eqaudit.engine.base import Setting, full_name, run_on
from eqaudit.engine.measure import Unit
from eqaudit.engine.references import layout_of, with_channels
from eqaudit.groups import Pose
from eqaudit.loader import AuditModel
from eqaudit.metrics import Classification, Scene, SegmentationTask, SegmentationValues, image_errors
from eqaudit.report import ActionPicture, Panel, PanelImage
from eqaudit.representations import Channels
from eqaudit.transforms import act, is_exact

MOST_DRAWN_CHANNELS = 256


def worst_case(unit: Unit, setting: Setting) -> tuple[str, Pose] | None:
    """Return the image and the pose with the least Dice, or the largest error; None when none is finite."""
    table, values = np.empty((0, 0)), unit.values
    if isinstance(values.moved, SegmentationValues):
        table = 1 - values.moved.image_dice
    elif setting.gating in values.norms:
        table = image_errors(values.norms[setting.gating])
    if not np.isfinite(table).any():
        return None
    pose, image = np.unravel_index(np.nanargmax(table), table.shape)
    return unit.names[image], setting.poses[pose]


def draw_worst(model: AuditModel, image: torch.Tensor, name: str, pose: Pose, setting: Setting) -> Panel:
    """Run one image (1, C, H, W), windowed already, and its moved copy.

    Return x, T x, f(x), f(T x), T f(x), and the difference.
    """
    moved = act(pose.element, image, setting.space.images).contiguous()
    outputs = [_output(model, part, setting) for part in (image, moved)]
    layout = layout_of(setting.gating, outputs[0], 1, (image.shape[-2], image.shape[-1]), setting)
    spatial = layout.spatial
    still, found = (with_channels(layout.space_last(output), spatial=spatial) for output in outputs)
    cell = setting.space.cells.get(setting.gating, 1.0)
    scene = Scene(pose.element, setting.space.features, None, cell, None)
    shown = [_show(output, setting) for output in (still, found)]
    if isinstance(setting.task, SegmentationTask):
        expected = scene.move_labels(shown[0].long()).float()
    else:
        expected = scene.move_map(shown[0]) if spatial else shown[0]
    difference = shown[1] - expected
    if spatial and not is_exact(pose.element):
        difference = difference * setting.space.mask(setting.gating, *difference.shape[-2:]).to(difference)
    parts = {"x": image[0], "T x": moved[0], "f(x)": shown[0], "f(T x)": shown[1], "T f(x)": expected}
    pictures = [as_picture(title, part) for title, part in parts.items()]
    what = "masks" if isinstance(setting.task, SegmentationTask) else "output"
    return Panel(
        name,
        pose.name,
        pose.degrees,
        f"the {what} of f at its worst",
        [*pictures, as_picture("f(T x) - T f(x)", difference)],
    )


def draw_actions(channels: Channels) -> list[ActionPicture]:
    """Return the matrices of the generators, layer by layer, of layers up to a size that can be seen."""
    pictures = []
    for key, layer in channels.by_key.items():
        for element, action in layer.generators.items():
            if layer.moves and action.channels <= MOST_DRAWN_CHANNELS:
                values = action.matrix.astype(np.float32).tobytes()
                pictures.append(
                    ActionPicture(full_name(key), layer.named.words, str(element), action.channels, values)
                )
    return pictures


def _output(model: AuditModel, image: torch.Tensor, setting: Setting) -> torch.Tensor:
    outputs = run_on(model, image, setting)
    value = next(output.value for output in outputs if output.name == setting.gating[1])
    if value is None:
        raise ValueError(f"{setting.gating[1]} is no tensor")
    return value


def _show(output: torch.Tensor, setting: Setting) -> torch.Tensor:
    """Return what is shown of one image's output: hard mask (H, W), probabilities (K,), or the values."""
    match setting.task:
        case SegmentationTask() as task:
            return task.mask(output)[0].float()
        case Classification() as task:
            return task.probabilities(output.double())[0].float()
        case _:
            return output[0].float()


def as_picture(title: str, tensor: torch.Tensor) -> PanelImage:
    """Return an array as it travels to whoever draws it."""
    array = np.ascontiguousarray(tensor.cpu().numpy(), dtype=np.float32)
    return PanelImage(title, array.shape, array.tobytes())
