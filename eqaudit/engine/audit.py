"""The one loop: batches through the model, sums folded in a fixed order, then the report."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import math
import platform
import sys

import numpy as np
import torch

from eqaudit.data import Dataset, Images, open_images
from eqaudit.engine.assemble import Assembler
from eqaudit.engine.base import Key, Progress, Setting, as_tensor
from eqaudit.engine.determinism import check_determinism
from eqaudit.engine.measure import Unit, measure_batch
from eqaudit.engine.normalisation import suspect_normalisation
from eqaudit.engine.rerun import RerunResult, rerun_in_float64
from eqaudit.engine.shapes import Choice, choose_shape
from eqaudit.errors import DataError, ModelError, UsageError
from eqaudit.groups import Group
from eqaudit.loader import AuditModel, Feature, load_model
from eqaudit.metrics import doubtful
from eqaudit.plan import CheckPlan, LayersPlan, RunOptions
from eqaudit.report import (
    Determinism,
    GroupElement,
    GroupRecord,
    Inputs,
    ListedLayer,
    Listing,
    Model,
    Report,
    Skipped,
    Tool,
    ValueRange,
    describe_shape,
)
from eqaudit.version import __version__

RERUN_IMAGES = 4
FEW_IMAGES = 16
NO_LAYERS = "none"


def check(plan: CheckPlan, progress: Progress) -> Report:
    """Load what the plan names and audit it.

    Raises
    ------
    EqauditError
        The model or the images cannot be used, or a layer pattern matches nothing.
    """
    device = choose_device(plan.run)
    progress("loading", 0, 0)
    images = open_images(plan.inputs)
    return audit(load_model(plan.model, device), images, plan, progress)


def list_layers(plan: LayersPlan, progress: Progress) -> Listing:
    """Load a model and run it once on a random image; return its layers in order of execution."""
    device = choose_device(plan.run)
    progress("loading", 0, 0)
    model = load_model(plan.model, device)
    choice = choose_shape(model, None, plan.inputs)
    layers = [
        ListedLayer(
            feature.name, feature.call, feature.type, feature.parameters, _shape_of(feature), feature.reason
        )
        for feature in _features(model, choice)
    ]
    return Listing(
        model=_describe_model(model), input_shape=choice.shape, shape_reason=choice.reason, layers=layers
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


def audit(model: AuditModel, images: Images, plan: CheckPlan, progress: Progress) -> Report:
    """Measure a loaded model on opened images; the verdict and the gate are left to the reader.

    Parameters
    ----------
    model
        From `eqaudit.loader`.
    images
        From `eqaudit.data`.
    plan
        Group, layers, batch size, seed.
    progress
        Called with a stage, and how many of how many images are done.
    """
    progress("finding the input shape", 0, 0)
    choice = choose_shape(model, images, plan.inputs)
    setting = _setting(model, choice, plan)
    if setting.swaps_sides and choice.shape[1] != choice.shape[2]:
        raise DataError(
            f"{setting.group.name} turns by 90 degrees and needs squares, not {describe_shape(choice.shape)}",
            "use --group D2 (half turns and mirrors), or --resize to a square",
        )
    run = _Run(model, images.prepare(choice.shape), setting)
    run.measure(progress)
    progress("float64 rerun", 0, 0)
    return run.report(choice, plan)


def _setting(model: AuditModel, choice: Choice, plan: CheckPlan) -> Setting:
    names = list(dict.fromkeys(feature.name for feature in _features(model, choice)))
    patterns = [pattern for pattern in plan.layers if pattern != NO_LAYERS]
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in names):
            close = ", ".join(difflib.get_close_matches(pattern, names, n=3) or names[:3])
            hint = f"there are {close} ... (eqaudit layers lists all)" if names else "the model has no layers"
            raise UsageError(f"--layers {pattern!r} matches no layer", hint)

    def keep(key: Key) -> bool:
        if key[0] == "output" or not plan.layers:
            return True
        return any(_matches(key[1], pattern) for pattern in patterns)

    batch_size = choice.fixed_batch or plan.inputs.batch_size
    return Setting(Group.named(plan.group), plan.inputs.seed, batch_size, choice.fixed_batch, keep)


def _matches(name: str, pattern: str) -> bool:
    # The parts of a tuple are named with brackets, which a glob would read as a set of characters.
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def _features(model: AuditModel, choice: Choice) -> list[Feature]:
    """Run one random image (or the model's one batch size) and return the features without tensors."""
    generator = torch.Generator().manual_seed(0)
    found: list[Feature] = []
    model.run(torch.rand((choice.fixed_batch or 1, *choice.shape), generator=generator), found.append)
    return found


class _Run:
    """One audit on its way: sums so far, and what was seen of the images."""

    def __init__(self, model: AuditModel, dataset: Dataset, setting: Setting) -> None:
        self.model, self.dataset, self.setting = model, dataset, setting
        self.unit: Unit | None = None
        self.determinism = Determinism(None, None, None)
        self.suspicion: str | None = None
        self._hash = hashlib.sha256()
        self._low, self._high, self._sum, self._count = np.inf, -np.inf, 0.0, 0

    def measure(self, progress: Progress) -> None:
        """Go through the images once, batch by batch."""
        done, total = 0, len(self.dataset.names)
        for names, array in self.dataset.batches(self.setting.batch_size):
            progress("measuring", done, total)
            self._watch(array)
            images = as_tensor(array).to(self.model.device)
            if self.unit is None:
                self.determinism = check_determinism(self.model, images, self.setting)
                self.suspicion = suspect_normalisation(self.model, images, self.setting)
            unit = measure_batch(self.model, images, names, done, self.setting)
            self.unit = unit if self.unit is None else self.unit.merge(unit)
            done += len(names)
            progress("measuring", done, total)

    def report(self, choice: Choice, plan: CheckPlan) -> Report:
        """Rerun in float64 where needed, and write everything down."""
        if self.unit is None:
            raise DataError("no image left", "see the reasons for which they were skipped")
        gating = self._gating(plan.output)
        rerun = self._rerun(gating)
        assembler = Assembler(self.unit, rerun, self.setting, gating)
        return Report(
            tool=describe_tool(plan, self.model.device),
            model=_describe_model(self.model),
            inputs=self._inputs(choice),
            group=_describe_group(self.setting.group),
            layers=assembler.layers(),
            outputs=assembler.outputs(),
            predictions=assembler.predictions(),
            per_image=assembler.per_image(),
            determinism=self.determinism,
            float64_images=rerun.images,
            warnings=self._warnings(rerun),
        )

    def _watch(self, array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        self._hash.update(np.ascontiguousarray(array).tobytes())
        self._low, self._high = min(self._low, float(array.min())), max(self._high, float(array.max()))
        self._sum += float(array.sum(dtype=np.float64))
        self._count += array.size

    def _gating(self, name: str) -> Key:
        outputs = {
            key: sums for key, sums in (self.unit.taps if self.unit else {}).items() if key[0] == "output"
        }
        if name:
            for key in outputs:
                if key[1] in {name, f"output.{name}"}:
                    return key
            raise UsageError(
                f"--output {name!r} is no output of the model",
                f"there are {', '.join(key[1] for key in outputs)}",
            )
        for key, sums in outputs.items():
            if sums.skipped is None:
                return key
        raise ModelError(
            f"no output can be compared: {next(iter(outputs.values())).skipped}",
            "the model must return a floating tensor, batch first",
        )

    def _rerun(self, gating: Key) -> RerunResult:
        places = range(len(self.setting.elements))
        taps = [] if self.unit is None else [sums for sums in self.unit.taps.values() if sums.skipped is None]
        if self.unit is None or not any(doubtful(sums.measured(place)) for sums in taps for place in places):
            return RerunResult(0, {}, None)
        names = self._rerun_names(self.unit, gating)
        images = as_tensor(self.dataset.load(names)).to(self.model.device)
        return rerun_in_float64(self.model, images, names, self.setting)

    def _rerun_names(self, unit: Unit, gating: Key) -> tuple[str, ...]:
        """Choose the worst images of the gating output first, so that a rare defect is among them."""
        errors = unit.taps[gating].errors
        worst: list[str] = []
        if errors is not None:
            order = np.argsort(-errors.worst_error)
            worst = [
                unit.names[errors.worst_image[place]] for place in order if errors.worst_image[place] >= 0
            ]
        return tuple(dict.fromkeys([*worst, *unit.names]))[:RERUN_IMAGES]

    def _inputs(self, choice: Choice) -> Inputs:
        return Inputs(
            source=self.dataset.label,
            samples=len(self.unit.names) if self.unit else 0,
            shape=choice.shape,
            shape_reason=choice.reason,
            preprocessing=list(self.dataset.description),
            boundary="none",
            fingerprint=self._hash.hexdigest(),
            skipped=[Skipped(skipped.name, skipped.reason) for skipped in self.dataset.skipped],
            values=ValueRange(self._low, self._sum / self._count, self._high),
            batch_size=self.setting.batch_size,
        )

    def _warnings(self, rerun: RerunResult) -> list[str]:
        images = len(self.unit.names) if self.unit else 0
        found = list(self.model.notes)
        if images == 1:
            found.append("one image: chance is unknown, so nothing can be called exact; give more images")
        elif images < FEW_IMAGES:
            found.append(f"{images} images: shares of chance are known to about {_spread(images)} % only")
        if self.suspicion:
            found.append(self.suspicion)
        if rerun.reason:
            found.append(f"not confirmed in float64: {rerun.reason}")
        if self.determinism.note:
            found.append(f"determinism: {self.determinism.note}")
        return found


def _spread(images: int) -> int:
    """Percent by which chance varies between sets of images: about 15 at 32, 30 at 8, 50 at 4."""
    return round(85 / math.sqrt(images))


def describe_tool(plan: CheckPlan, device: torch.device) -> Tool:
    """Write down what measures: versions, device, threads, seed."""
    return Tool(
        version=__version__,
        torch=str(torch.__version__),
        python=platform.python_version(),
        platform=f"{sys.platform}-{platform.machine()}",
        device=str(device),
        dtype="float32",
        tf32=device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32,
        threads=torch.get_num_threads(),
        seed=plan.inputs.seed,
        command=list(plan.command),
    )


def _describe_model(model: AuditModel) -> Model:
    note = "; ".join(model.notes) or None
    return Model(model.spec, model.kind, model.sha256, model.parameters, note)


def _describe_group(group: Group) -> GroupRecord:
    elements = [GroupElement(str(g), g.degrees, g.mirrored, g.exact) for g in group.elements]
    return GroupRecord(group.name, elements)


def _shape_of(feature: Feature) -> list[int] | None:
    return None if feature.value is None else list(feature.value.shape[1:])
