"""What is settled on a few images before all are measured: layouts, task, floors, how channels turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from eqaudit.data import Dataset
from eqaudit.engine.base import Key, Progress, Setting, on_device, run_on
from eqaudit.engine.channels import Fitting
from eqaudit.engine.determinism import check_determinism
from eqaudit.engine.floors import Floors, measure_floors
from eqaudit.engine.layer_fits import Sought
from eqaudit.engine.layouts import settle_layouts
from eqaudit.engine.normalisation import suspect_normalisation
from eqaudit.engine.receptive import receptive_radii
from eqaudit.engine.references import Batch, layout_of, with_channels
from eqaudit.engine.samples import LEAST_IMAGES
from eqaudit.engine.task import Evidence, choose_task
from eqaudit.groups import IDENTITY
from eqaudit.loader import AuditModel
from eqaudit.metrics import Classification, SegmentationTask, Task
from eqaudit.plan import AuditPlan
from eqaudit.report import Determinism
from eqaudit.transforms import UnknownLayoutError


@dataclass(frozen=True, slots=True)
class Prepared:
    """The setting, complete, and what was found beside it; ``suspicion`` is of how images are normalised."""

    setting: Setting
    fitting: Fitting
    floors: Floors
    determinism: Determinism
    suspicion: str | None


def prepare(
    model: AuditModel, dataset: Dataset, setting: Setting, plan: AuditPlan, progress: Progress
) -> Prepared:
    """Look at the first batch, then measure floors and fit channels on images spread over the set.

    Raises
    ------
    DataError
        No image is usable, or the truth does not fit the output.
    """
    loaded = next(dataset.batches(setting.batch_size))
    batch = Batch(on_device(loaded.images, model), targets=loaded.targets)
    determinism = check_determinism(model, batch.images, setting)
    suspicion = suspect_normalisation(model, batch.images, setting)
    exact = [pose.element for pose in setting.poses if pose.exact and pose.element != IDENTITY]
    if exact:
        layouts = settle_layouts(model, batch.images, setting, exact[0])
        setting = dataclasses.replace(setting, layouts=layouts)
    setting = dataclasses.replace(setting, task=_task(model, dataset, batch, setting, plan))
    floors = Floors(0, square=True)
    if setting.resamples:
        progress("measuring the floor", 0, 0)
        setting, floors = _measure_floors(model, dataset, setting, plan)
    progress("fitting how channels turn", 0, 0)
    setting, fitting = _fit_channels(model, dataset, setting, plan, floors)
    return Prepared(setting, fitting, floors, determinism, suspicion)


def _task(
    model: AuditModel, dataset: Dataset, batch: Batch, setting: Setting, plan: AuditPlan
) -> Task | None:
    """Decide from the output of the first batch what the model is for."""
    images, (channels, height, width) = batch.images, dataset.shape
    outputs = run_on(model, images, setting)
    value = next(output.value for output in outputs if output.name == setting.gating[1])
    if value is None:
        return None
    try:
        layout = layout_of(setting.gating, value, len(images), (height, width), setting)
    except UnknownLayoutError:
        return None
    spatial = layout.spatial
    evidence = Evidence(
        name=setting.gating[1],
        value=with_channels(layout.space_last(value), spatial=spatial),
        spatial=spatial,
        image=(channels, height, width),
        truth=dataset.truth,
        labels=None if batch.targets is None else batch.targets.shape[-1],
        class_names=dataset.class_names,
    )
    return choose_task(evidence, plan.task)


def _measure_floors(
    model: AuditModel, dataset: Dataset, setting: Setting, plan: AuditPlan
) -> tuple[Setting, Floors]:
    """Measure receptive radii, if the boundary needs them, and floors."""
    samples = plan.space.floor_samples
    images = on_device(dataset.sample(max(samples, 1)).images, model)
    if setting.space.margin is None:
        radii = receptive_radii(model, images[: setting.fixed_batch], setting)
        setting = dataclasses.replace(setting, space=dataclasses.replace(setting.space, radii=radii))
    if not samples:
        return setting, Floors(0, square=True)
    return setting, measure_floors(model, images, setting, plan.base_turns)


def _fit_channels(
    model: AuditModel, dataset: Dataset, setting: Setting, plan: AuditPlan, floors: Floors
) -> tuple[Setting, Fitting]:
    """Find how channels turn, on as many images as one batch has, and at least two."""
    loaded = dataset.sample(max(setting.batch_size, LEAST_IMAGES))
    fitting = Fitting(
        on_device(loaded.images, model),
        loaded.names,
        _turnable(dataset, setting, plan),
        Sought(plan.spanned, plan.base_turns, floors),
    )
    channels = fitting.fit(model, setting)
    output = channels.by_key.get(setting.gating)
    guessed = plan.task.task == "auto" and isinstance(setting.task, SegmentationTask)
    # Channels that turn with the image are no classes.
    task = None if guessed and output is not None and output.moves else setting.task
    return dataclasses.replace(setting, channels=channels, task=task), fitting


def _turnable(dataset: Dataset, setting: Setting, plan: AuditPlan) -> Callable[[Key], bool]:
    """Return which tensors may turn by their channels: not an output that is said to be class scores."""
    scores = isinstance(setting.task, (Classification, SegmentationTask))
    said = plan.task.task != "auto" or dataset.truth != "none"
    return lambda key: not (scores and said and key == setting.gating)
