"""The one loop: batches through the model, sums folded in a fixed order, then the report."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import msgspec
import torch

from eqaudit.allocator import large_blocks_kept
from eqaudit.data import Dataset, Images, none_left, open_images
from eqaudit.engine.assemble import Assembler
from eqaudit.engine.base import Progress, Setting, on_device
from eqaudit.engine.describe import describe_model, describe_poses, describe_tool
from eqaudit.engine.determinism import with_conduct
from eqaudit.engine.features import draw_features, pool_features
from eqaudit.engine.loop import Loop, Watched
from eqaudit.engine.measure import Unit
from eqaudit.engine.memory import Room
from eqaudit.engine.notes import Seen, notes
from eqaudit.engine.panel import draw_actions, draw_worst, worst_case
from eqaudit.engine.precision import convert, is_coarse, set_tf32
from eqaudit.engine.preparation import Prepared, prepare
from eqaudit.engine.probe import make_setting, probe_model
from eqaudit.engine.ranks import Alone, Ranks, join_ranks, local_device
from eqaudit.engine.references import NOTHING_INSIDE
from eqaudit.engine.rerun import RerunResult, rerun_in_float64
from eqaudit.engine.shapes import RETURN_TENSOR, Choice, choose_batch_size
from eqaudit.errors import ModelError
from eqaudit.loader import AuditModel, load_model, with_taps
from eqaudit.metrics import doubtful
from eqaudit.plan import AuditPlan, LayersPlan, RunOptions
from eqaudit.report import (
    ActionPicture,
    Audited,
    Determinism,
    Diagnosis,
    Features,
    Inputs,
    ListedLayer,
    Listing,
    Panel,
    Report,
    Resampling,
    Skipped,
    ValueRange,
    WindowEffect,
    with_lists,
)
from eqaudit.transforms import forget_operators

RERUN_IMAGES = 4


def check(plan: AuditPlan, progress: Progress, explain: Explain | None = None) -> Audited | None:
    """Load what the plan names and audit it, with the other ranks of a torchrun job if there are any.

    ``explain`` says of a measured audit why equivariance breaks, if anybody asks. Returns None on every rank
    but the first.

    Raises
    ------
    EqauditError
        The model or the images cannot be used, a layer pattern matches nothing, or a rank is gone.
    """
    device = choose_device(plan.run)
    set_tf32(plan.run)
    progress("loading", 0, 0)
    with join_ranks() as ranks:
        images = open_images(plan.inputs)
        return _audit(load_model(plan.model, device), images, plan, progress, ranks, explain)


def list_layers(plan: LayersPlan, progress: Progress) -> Listing:
    """Load a model and run it once on a random image; return its layers in order of execution."""
    device = choose_device(plan.run)
    set_tf32(plan.run)
    progress("loading", 0, 0)
    model = with_taps(load_model(plan.model, device), plan.taps)
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
    device = local_device(options.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"no device {options.device}: torch sees {torch.cuda.device_count()} GPUs",
            "leave --device out to run on the CPU",
        )
    return device


def audit(
    model: AuditModel, images: Images, plan: AuditPlan, progress: Progress, explain: Explain | None = None
) -> Audited:
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
    explain
        Says why equivariance breaks, for the report's ``diagnose``.

    Returns
    -------
    Audited
        The report, and of a sweep the worst case as arrays, for whoever draws it.
    """
    audited = _audit(model, images, plan, progress, Alone(), explain)
    if audited is None:
        raise RuntimeError("one process alone has no result")
    return msgspec.structs.replace(audited, report=with_lists(audited.report))


def _audit(
    model: AuditModel,
    images: Images,
    plan: AuditPlan,
    progress: Progress,
    ranks: Ranks,
    explain: Explain | None,
) -> Audited | None:
    progress("finding the input shape", 0, 0)
    model, choice = convert(with_taps(model, plan.taps), images, plan.inputs, plan.run)
    if not plan.inputs.batch_size:
        size = ranks.share(0 if ranks.rank else choose_batch_size(model, choice))
        plan = msgspec.structs.replace(plan, inputs=msgspec.structs.replace(plan.inputs, batch_size=size))
    dataset = images.prepare(choice.shape)
    setting = make_setting(model, choice, plan, len(dataset.names))
    _agree(ranks, model, dataset, setting)
    room = Room(setting.batch_size, fixed=setting.fixed_batch is not None)

    def prepare_few(count: int) -> Prepared:
        few = dataclasses.replace(setting, batch_size=count)
        return prepare(model, dataset, few, plan, progress)

    prepared = room.prepare(prepare_few)
    whole = dataclasses.replace(prepared.setting, batch_size=setting.batch_size, coarse=is_coarse(model))
    prepared = dataclasses.replace(prepared, setting=whole)
    loop = Loop(model, dataset, whole, room, ranks)
    with large_blocks_kept():
        sums = loop.run(progress)
    forget_operators()
    if ranks.rank:
        return None
    if sums is None:
        raise none_left(dataset.skipped)
    progress("float64 rerun", 0, 0)
    run = Run(model, dataset, plan, choice, prepared, loop, sums)
    report = run.report()
    if explain is not None:
        report = msgspec.structs.replace(report, diagnose=explain(run, report, progress))
    return Audited(report, run.panel(), run.actions(), run.features())


def _agree(ranks: Ranks, model: AuditModel, dataset: Dataset, setting: Setting) -> None:
    """Make sure that all ranks have the same work: what differs would be folded without a word."""
    ranks.agree("the model file's digest", str(model.sha256))
    names = hashlib.sha256("\n".join(dataset.names).encode(errors="replace")).hexdigest()
    ranks.agree("the digest of the list of images", names)
    ranks.agree("the input shape", str(dataset.shape))
    ranks.agree("the batch size", str(setting.batch_size))
    ranks.agree("the number of threads", str(torch.get_num_threads()))


class Run:
    """One audit that was measured: what is left is to judge its doubts, and to write everything down."""

    def __init__(
        self,
        model: AuditModel,
        dataset: Dataset,
        plan: AuditPlan,
        choice: Choice,
        prepared: Prepared,
        loop: Loop,
        sums: tuple[Unit, Watched],
    ) -> None:
        self.model, self.dataset, self.plan, self.choice = model, dataset, plan, choice
        self.prepared, self.loop = prepared, loop
        self.setting = prepared.setting
        self.unit, self.watched = sums

    def report(self) -> Report:
        """Rerun in float64 where needed, and write everything down."""
        unit = self.unit
        reason = unit.taps[self.setting.gating].skipped
        if reason and not self.plan.output:
            hint = RETURN_TENSOR
            if reason == NOTHING_INSIDE:
                hint = (
                    "choose --boundary disc, or fix the margin with --margin PIXELS (0 counts the border too)"
                )
            raise ModelError(f"no output can be compared: {reason}", hint)
        rerun = self._rerun(unit)
        determinism = with_conduct(self.prepared.determinism, self.model.conduct)
        assembler = Assembler(
            unit, self.dataset.names, rerun, self.prepared.floors, self.plan.space.floor_factor, self.setting
        )
        return Report(
            kind="sweep" if self.plan.angles else "check",
            tool=describe_tool(self.plan, self.model),
            model=describe_model(self.model),
            inputs=self._inputs(),
            group=describe_poses(self.plan),
            layers=assembler.layers(),
            outputs=assembler.outputs(),
            per_image=assembler.per_image(),
            resampling=self._resampling(assembler),
            determinism=determinism,
            float64_images=rerun.images,
            warnings=notes(self._seen(rerun, determinism, assembler.window_effect())),
            **assembler.task_records(),
        )

    def panel(self) -> Panel | None:
        """Return the worst case of a sweep as arrays."""
        case = worst_case(self.unit, self.setting) if self.plan.angles else None
        if case is None:
            return None
        name, pose = case
        image = on_device(self.dataset.load([name]), self.model)
        if self.setting.resamples:
            image = self.setting.space.window(image)
        return draw_worst(self.model, image, name, pose, self.setting)

    def features(self) -> Features | None:
        """Return what the layers make of one image and of its turned copies, as arrays."""
        if self.plan.drawn is None:
            return None
        loaded = open_images(self.plan.drawn).prepare(self.dataset.shape).sample(1)
        image = on_device(loaded.images, self.model)
        draw = pool_features if self.plan.pooled else draw_features
        return draw(self.model, image, loaded.names[0], self.setting)

    def actions(self) -> list[ActionPicture]:
        """Return what the generators do to the channels of each layer that turns, as matrices."""
        return draw_actions(self.setting.channels)

    def _rerun(self, unit: Unit) -> RerunResult:
        places = [place for place, pose in enumerate(self.setting.poses) if pose.exact]
        taps = [sums for sums in unit.taps.values() if sums.skipped is None]
        doubts = (
            doubtful(sums.measured(place), coarse=self.setting.coarse) for sums in taps for place in places
        )
        if not any(doubts):
            return RerunResult(0, (), {}, None)
        names = self._rerun_names(unit, places)
        images = on_device(self.dataset.load(names), self.model)
        if self.setting.resamples:
            images = self.setting.space.window(images)
        setting = dataclasses.replace(self.setting.only_exact(), batch_size=self.loop.room.images)
        with large_blocks_kept():
            return rerun_in_float64(self.model, images, names, setting, self.prepared.fitting)

    def _rerun_names(self, unit: Unit, places: list[int]) -> tuple[str, ...]:
        """Choose the worst images of the gating output first, so that a rare defect is among them."""
        errors = unit.taps[self.setting.gating].errors
        worst: list[str] = []
        if errors is not None:
            order = sorted(places, key=lambda place: -errors.worst_error[place])
            found = [int(errors.worst_image[place]) for place in order]
            worst = [self.dataset.names[image] for image in found if image >= 0]
        return tuple(dict.fromkeys([*worst, *unit.names]))[:RERUN_IMAGES]

    def _inputs(self) -> Inputs:
        return Inputs(
            source=self.dataset.label,
            samples=len(self.unit.names),
            shape=self.choice.shape,
            shape_reason=self.choice.reason,
            preprocessing=list(self.dataset.description),
            boundary=self.setting.space.boundary if self.setting.resamples else "none",
            fingerprint=self.loop.fingerprint,
            skipped=[Skipped(skipped.name, skipped.reason) for skipped in self.dataset.skipped],
            values=ValueRange(self.watched.low, self.watched.total / self.watched.count, self.watched.high),
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
            floor_images=self.prepared.floors.images,
            floor_factor=options.floor_factor,
            window=assembler.window_effect(),
            points=options.points,
        )

    def _seen(self, rerun: RerunResult, determinism: Determinism, window: WindowEffect | None) -> Seen:
        return Seen(
            images=len(self.unit.names),
            model=(*self.model.notes, *self.loop.notes),
            suspicion=self.prepared.suspicion,
            window=window,
            rerun=rerun.reason,
            determinism=determinism,
        )


Explain = Callable[[Run, Report, Progress], Diagnosis | None]
