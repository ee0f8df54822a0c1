"""The one loop: batches through the model, sums folded in a fixed order, then the report."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eqaudit.data import Batch as Loaded
from eqaudit.data import Dataset, Images, open_images
from eqaudit.engine.assemble import Assembler
from eqaudit.engine.base import Key, Progress, Setting, as_tensor, run_on
from eqaudit.engine.channels import Fitting
from eqaudit.engine.describe import describe_model, describe_poses, describe_tool
from eqaudit.engine.determinism import check_determinism, with_conduct
from eqaudit.engine.floors import Floors, measure_floors
from eqaudit.engine.layouts import settle_layouts
from eqaudit.engine.measure import Unit, measure_batch
from eqaudit.engine.normalisation import suspect_normalisation
from eqaudit.engine.notes import Seen, notes
from eqaudit.engine.panel import draw_actions, draw_worst, worst_case
from eqaudit.engine.precision import convert, is_coarse, set_tf32
from eqaudit.engine.probe import make_setting, probe_model
from eqaudit.engine.receptive import receptive_radii
from eqaudit.engine.references import NOTHING_INSIDE, Batch, layout_of, with_channels
from eqaudit.engine.rerun import RerunResult, rerun_in_float64
from eqaudit.engine.samples import LEAST_IMAGES
from eqaudit.engine.shapes import RETURN_TENSOR, Choice
from eqaudit.engine.task import Evidence, choose_task
from eqaudit.errors import DataError, ModelError
from eqaudit.groups import IDENTITY
from eqaudit.loader import AuditModel, load_model
from eqaudit.metrics import Classification, SegmentationTask, Task, doubtful
from eqaudit.plan import AuditPlan, LayersPlan, RunOptions
from eqaudit.report import (
    ActionPicture,
    Audited,
    Determinism,
    Inputs,
    ListedLayer,
    Listing,
    Panel,
    Report,
    Resampling,
    Skipped,
    ValueRange,
    WindowEffect,
)
from eqaudit.transforms import UnknownLayoutError

RERUN_IMAGES = 4


def check(plan: AuditPlan, progress: Progress) -> Audited:
    """Load what the plan names and audit it.

    Raises
    ------
    EqauditError
        The model or the images cannot be used, or a layer pattern matches nothing.
    """
    device = choose_device(plan.run)
    set_tf32(plan.run)
    progress("loading", 0, 0)
    images = open_images(plan.inputs)
    return audit(load_model(plan.model, device), images, plan, progress)


def list_layers(plan: LayersPlan, progress: Progress) -> Listing:
    """Load a model and run it once on a random image; return its layers in order of execution."""
    device = choose_device(plan.run)
    set_tf32(plan.run)
    progress("loading", 0, 0)
    model = load_model(plan.model, device)
    model, choice = convert(model, None, plan.inputs, plan.run)
    layers = [
        ListedLayer(
            feature.name,
            feature.call,
            feature.type,
            feature.parameters,
            None if shape is None else list(shape),
            feature.reason,
        )
        for feature, shape in probe_model(model, choice).layers
    ]
    return Listing(
        model=describe_model(model), input_shape=choice.shape, shape_reason=choice.reason, layers=layers
    )


def choose_device(options: RunOptions) -> torch.device:
    """Set the number of threads and return the device; never falls back to another.

    Raises
    ------
    ModelError
        The device does not exist here.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"no device {options.device}: torch sees {torch.cuda.device_count()} GPUs",
            "leave --device out to run on the CPU",
        )
    return device


def audit(model: AuditModel, images: Images, plan: AuditPlan, progress: Progress) -> Audited:
    """Measure a loaded model on opened images; the verdict and the gate are left to the reader.

    Parameters
    ----------
    model
        From `eqaudit.loader`.
    images
        From `eqaudit.data`.
    plan
        Poses, layers, batch size, seed.
    progress
        Called with a stage, and how many of how many image poses are done.

    Returns
    -------
    Audited
        The report, and of a sweep the worst case as arrays, for whoever draws it.
    """
    progress("finding the input shape", 0, 0)
    model, choice = convert(model, images, plan.inputs, plan.run)
    run = _Run(model, images.prepare(choice.shape), make_setting(model, choice, plan), plan)
    run.measure(progress)
    progress("float64 rerun", 0, 0)
    return Audited(run.report(choice), run.panel(), run.actions())


@dataclass(frozen=True, slots=True)
class _Tick:
    """Counts the image poses of one batch towards all of them."""

    progress: Progress
    before: int
    images: int
    total: int

    def __call__(self, poses: int) -> None:
        self.progress("measuring", self.before + poses * self.images, self.total)


class _Run:
    """One audit on its way: sums so far, and what was seen of the images."""

    def __init__(self, model: AuditModel, dataset: Dataset, setting: Setting, plan: AuditPlan) -> None:
        self.model, self.dataset, self.plan = model, dataset, plan
        self.setting = dataclasses.replace(setting, coarse=is_coarse(model))
        self.unit: Unit | None = None
        self.floors = Floors(0, square=True)
        self.fitting: Fitting | None = None
        self.determinism = Determinism(None, None, None)
        self.suspicion: str | None = None
        self._hash = hashlib.sha256()
        self._low, self._high, self._sum, self._count = np.inf, -np.inf, 0.0, 0

    def measure(self, progress: Progress) -> None:
        """Go through the images once, batch by batch; the floor is measured before them."""
        done, poses = 0, len(self.setting.poses)
        total = len(self.dataset.names) * poses
        progress("measuring", 0, total)
        for loaded in self.dataset.batches(self.setting.batch_size):
            self._watch(loaded.images)
            batch = Batch(self._to_device(loaded.images), loaded.targets)
            if self.unit is None:
                self._look_at(batch.images)
                self._settle_layouts(batch)
                self.setting = dataclasses.replace(self.setting, task=self._task(batch))
                self._measure_floors(progress)
                self._fit_channels(progress)
            self._check_targets(loaded)
            images = len(loaded.names)
            tick = _Tick(progress, done * poses, images, total)
            unit = measure_batch(self.model, batch, loaded.names, done, self.setting, tick)
            self.unit = unit if self.unit is None else self.unit.merge(unit)
            done += images

    def report(self, choice: Choice) -> Report:
        """Rerun in float64 where needed, and write everything down."""
        unit = self._measured()
        reason = unit.taps[self.setting.gating].skipped
        if reason and not self.plan.output:
            hint = RETURN_TENSOR
            if reason == NOTHING_INSIDE:
                hint = (
                    "choose --boundary disc, or fix the margin with --margin PIXELS (0 counts the border too)"
                )
            raise ModelError(f"no output can be compared: {reason}", hint)
        rerun = self._rerun(unit)
        self.determinism = with_conduct(self.determinism, self.model.conduct)
        assembler = Assembler(unit, rerun, self.floors, self.plan.space.floor_factor, self.setting)
        return Report(
            kind="sweep" if self.plan.angles else "check",
            tool=describe_tool(self.plan, self.model),
            model=describe_model(self.model),
            inputs=self._inputs(choice),
            group=describe_poses(self.plan),
            layers=assembler.layers(),
            outputs=assembler.outputs(),
            per_image=assembler.per_image(),
            resampling=self._resampling(assembler),
            determinism=self.determinism,
            float64_images=rerun.images,
            warnings=notes(self._seen(rerun, assembler.window_effect())),
            **assembler.task_records(),
        )

    def panel(self) -> Panel | None:
        """Return the worst case of a sweep as arrays."""
        case = worst_case(self._measured(), self.setting) if self.plan.angles else None
        if case is None:
            return None
        name, pose = case
        image = self._to_device(self.dataset.load([name]))
        if self.setting.resamples:
            image = self.setting.space.window(image)
        return draw_worst(self.model, image, name, pose, self.setting)

    def actions(self) -> list[ActionPicture]:
        """Return what the generators do to the channels of each layer that turns, as matrices."""
        return draw_actions(self.setting.channels)

    def _measured(self) -> Unit:
        if self.unit is None:
            raise DataError("no image left", "see the reasons for which they were skipped")
        return self.unit

    def _to_device(self, images: NDArray[np.float32]) -> torch.Tensor:
        return as_tensor(images).to(self.model.device)

    def _look_at(self, images: torch.Tensor) -> None:
        self.determinism = check_determinism(self.model, images, self.setting)
        self.suspicion = suspect_normalisation(self.model, images, self.setting)

    def _task(self, batch: Batch) -> Task | None:
        """Decide from the output of the first batch what the model is for."""
        images, (channels, height, width) = batch.images, self.dataset.shape
        outputs = run_on(self.model, images, self.setting)
        value = next(output.value for output in outputs if output.name == self.setting.gating[1])
        if value is None:
            return None
        try:
            layout = layout_of(self.setting.gating, value, len(images), (height, width), self.setting)
        except UnknownLayoutError:
            return None
        spatial = layout.spatial
        evidence = Evidence(
            name=self.setting.gating[1],
            value=with_channels(layout.space_last(value), spatial=spatial),
            spatial=spatial,
            image=(channels, height, width),
            truth=self.dataset.truth,
            labels=None if batch.targets is None else batch.targets.shape[-1],
            class_names=self.dataset.class_names,
        )
        return choose_task(evidence, self.plan.task)

    def _measure_floors(self, progress: Progress) -> None:
        """Measure receptive radii, if the boundary needs them, and floors, on images spread over the set."""
        samples = self.plan.space.floor_samples
        if not self.setting.resamples:
            return
        progress("measuring the floor", 0, 0)
        images = self._to_device(self.dataset.sample(max(samples, 1)).images)
        if self.setting.space.margin is None:
            space = dataclasses.replace(
                self.setting.space,
                radii=receptive_radii(self.model, images[: self.setting.fixed_batch], self.setting),
            )
            self.setting = dataclasses.replace(self.setting, space=space)
        if samples:
            self.floors = measure_floors(self.model, images, self.setting, self.plan.base_turns)

    def _settle_layouts(self, batch: Batch) -> None:
        """Decide by trying between the readings of a tensor, where its shape allows several."""
        exact = [pose.element for pose in self.setting.poses if pose.exact and pose.element != IDENTITY]
        if exact:
            layouts = settle_layouts(self.model, batch.images, self.setting, exact[0])
            self.setting = dataclasses.replace(self.setting, layouts=layouts)

    def _fit_channels(self, progress: Progress) -> None:
        """Find how channels turn, on as many images as one batch has, and at least two."""
        progress("fitting how channels turn", 0, 0)
        loaded = self.dataset.sample(max(self.setting.batch_size, LEAST_IMAGES))
        self.fitting = Fitting(
            self._to_device(loaded.images),
            loaded.names,
            self.plan.spanned,
            self.plan.base_turns,
            self._turnable(),
            self.floors,
        )
        channels = self.fitting.fit(self.model, self.setting)
        output = channels.by_key.get(self.setting.gating)
        guessed = self.plan.task.task == "auto" and isinstance(self.setting.task, SegmentationTask)
        # Channels that turn with the image are no classes.
        task = None if guessed and output is not None and output.moves else self.setting.task
        self.setting = dataclasses.replace(self.setting, channels=channels, task=task)

    def _turnable(self) -> Callable[[Key], bool]:
        """Return which tensors may turn by their channels: not an output that is said to be class scores."""
        scores = isinstance(self.setting.task, (Classification, SegmentationTask))
        said = self.plan.task.task != "auto" or self.dataset.truth != "none"
        return lambda key: not (scores and said and key == self.setting.gating)

    def _check_targets(self, loaded: Loaded) -> None:
        if loaded.targets is None or self.setting.task is None:
            return
        found = self.setting.task.misfit(loaded.targets)
        if found is not None:
            place, problem = found
            raise DataError(
                f"{self.dataset.truth_place(loaded.names[place])}: {problem}",
                "correct that label, or say --mask-values or --ignore-index if these are masks",
            )

    def _watch(self, array: NDArray[np.float32]) -> None:
        self._hash.update(np.ascontiguousarray(array).tobytes())
        self._low, self._high = min(self._low, float(array.min())), max(self._high, float(array.max()))
        self._sum += float(array.sum(dtype=np.float64))
        self._count += array.size

    def _rerun(self, unit: Unit) -> RerunResult:
        places = [place for place, pose in enumerate(self.setting.poses) if pose.exact]
        taps = [sums for sums in unit.taps.values() if sums.skipped is None]
        doubts = (
            doubtful(sums.measured(place), coarse=self.setting.coarse) for sums in taps for place in places
        )
        if not any(doubts):
            return RerunResult(0, (), {}, None)
        names = self._rerun_names(unit, places)
        images = self._to_device(self.dataset.load(names))
        if self.setting.resamples:
            images = self.setting.space.window(images)
        return rerun_in_float64(self.model, images, names, self.setting.only_exact(), self.fitting)

    def _rerun_names(self, unit: Unit, places: list[int]) -> tuple[str, ...]:
        """Choose the worst images of the gating output first, so that a rare defect is among them."""
        errors = unit.taps[self.setting.gating].errors
        worst: list[str] = []
        if errors is not None:
            order = sorted(places, key=lambda place: -errors.worst_error[place])
            worst = [
                unit.names[errors.worst_image[place]] for place in order if errors.worst_image[place] >= 0
            ]
        return tuple(dict.fromkeys([*worst, *unit.names]))[:RERUN_IMAGES]

    def _inputs(self, choice: Choice) -> Inputs:
        return Inputs(
            source=self.dataset.label,
            samples=len(self._measured().names),
            shape=choice.shape,
            shape_reason=choice.reason,
            preprocessing=list(self.dataset.description),
            boundary=self.setting.space.boundary if self.setting.resamples else "none",
            fingerprint=self._hash.hexdigest(),
            skipped=[Skipped(skipped.name, skipped.reason) for skipped in self.dataset.skipped],
            values=ValueRange(self._low, self._sum / self._count, self._high),
            batch_size=self.setting.batch_size,
        )

    def _resampling(self, assembler: Assembler) -> Resampling | None:
        if not self.setting.resamples:
            return None
        options = self.plan.space
        return Resampling(
            boundary=options.boundary,
            interpolation=options.interpolation,
            feature_interpolation=options.feature_interpolation,
            margin=self.setting.space.margin,
            floor_images=self.floors.images,
            floor_factor=options.floor_factor,
            window=assembler.window_effect(),
        )

    def _seen(self, rerun: RerunResult, window: WindowEffect | None) -> Seen:
        return Seen(
            images=len(self._measured().names),
            model=self.model.notes,
            suspicion=self.suspicion,
            window=window,
            rerun=rerun.reason,
            determinism=self.determinism,
        )
