"""The diagnosis of one audit: steps with an error of their own, rules that say why, experiments that rank."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import msgspec
import torch

from eqaudit.diagnosis.base import Rule, Scene, Suspect
from eqaudit.diagnosis.lie import lie_derivatives
from eqaudit.diagnosis.network import Network
from eqaudit.diagnosis.rules import RULES
from eqaudit.diagnosis.sizes import fitting_sizes
from eqaudit.diagnosis.steps import relative_error
from eqaudit.engine import Run
from eqaudit.engine.base import Key, Progress, on_device
from eqaudit.engine.preparation import prepare
from eqaudit.engine.probe import make_setting
from eqaudit.errors import EqauditError, ModelError
from eqaudit.glossary import CAUSES
from eqaudit.groups import IDENTITY, Element
from eqaudit.loader import AuditModel, Conduct, describe, with_operations
from eqaudit.parsing import exact_group
from eqaudit.report import Averaging, CauseFound, Diagnosis, LieDerivative, LocalError, Report

IMAGES = 4
MOST_SYMMETRISED = 5
NEARLY_NOTHING = 0.01
"""Share of the error that needs no other cause."""
UNEXPLAINED = Rule(
    "unexplained", "look at this layer's code: what does it do to a turned input?", lambda _: iter(())
)


def explain(run: Run, report: Report, progress: Progress) -> Diagnosis:
    """Say where and why the output of a measured model breaks, or why that cannot be told."""
    group, reason = exact_group(run.plan.group), _untold(report)
    try:
        if reason is None:
            progress("diagnosing", 0, 0)
            with torch.no_grad():
                return _diagnose(run, report, progress)
    except (EqauditError, RuntimeError) as error:
        # What was measured before is no less true.
        reason = f"the model cannot be diagnosed: {describe(error)}"
    return Diagnosis(0, report.tool.dtype, group, "", None, None, [], [], reason=reason)


def _diagnose(run: Run, report: Report, progress: Progress) -> Diagnosis:
    network = _network(run, progress)
    element, error = _worst(network)
    if error > network.limit:
        network.measure()
        network.disregard_unknown(element)
        element, error = _worst(network)  # the output may have taken another action
    scene = Scene(network, run, report, element, error)
    causes = _rank(_causes(scene), scene)
    lie, lie_reason = _lie(network)
    return Diagnosis(
        images=len(network.images),
        dtype=str(network.model.dtype or torch.float32).removeprefix("torch."),
        group=exact_group(run.plan.group),
        element=str(element),
        error=scene.error,
        first=network.breaking[0].name if network.breaking else None,
        layers=_layers(scene, lie),
        causes=causes,
        averaged=_averaging(scene) if network.breaking else None,
        lie_derivative=lie.get(network.output.key),
        lie_reason=lie_reason,
    )


def _lie(network: Network) -> tuple[dict[Key, LieDerivative], str | None]:
    """Return the Lie derivatives, and why the output has none."""
    try:
        found = lie_derivatives(network)
    except ModelError as error:
        return {}, error.message
    if network.output.key in found:
        return found, None
    if network.output.action is not None:
        return found, "its channels turn with the image"
    return found, "it is zero inside the disc of the images, or they are too small"


def _worst(network: Network) -> tuple[Element, float]:
    errors = {element: network.output_error(element) for element in network.elements}
    worst = max(errors, key=lambda element: errors[element])
    return worst, errors[worst]


def _network(run: Run, progress: Progress) -> Network:
    """Prepare the model, in float64 if it can be, for the elements that move pixels to pixels."""
    try:
        return _prepared(run, run.model.cast(torch.float64), progress)
    except ModelError:
        return _prepared(run, run.model, progress)


def _prepared(run: Run, model: AuditModel, progress: Progress) -> Network:
    plan = msgspec.structs.replace(
        run.plan, taps="operations", layers=(), limited_layers=(), group=exact_group(run.plan.group)
    )
    # What is done to it here is no conduct of the model's own.
    stepped = with_operations(dataclasses.replace(model, conduct=Conduct()))
    setting = make_setting(stepped, run.choice, plan)
    count = min(IMAGES, setting.batch_size)
    setting = prepare(stepped, run.dataset, setting, plan, progress).setting
    images = on_device(run.dataset.sample(count).images, stepped)
    if model.dtype is not None:
        images = images.to(model.dtype)
    return Network(stepped, images, setting)


def _untold(report: Report) -> str | None:
    """Say why the errors of an output mean nothing; None where they do."""
    for error in report.gating_output.errors:
        if error.nonfinite or error.error is None:
            return "the output is not finite: look for the first layer that is not, in the table of check"
        if error.class_ == "degenerate":
            return "the output is always the same: there is nothing that could break"
    return None


def _causes(scene: Scene) -> list[CauseFound]:
    found = [(rule, list(rule.find(scene))) for rule in RULES]
    proven = {suspect.step for _, suspects in found for suspect in suspects if not suspect.likely}
    found = [
        (rule, [suspect for suspect in suspects if not suspect.likely or suspect.step not in proven])
        for rule, suspects in found
    ]
    explained = {suspect.step for _, suspects in found for suspect in suspects}
    left = [step for step in scene.network.breaking if step not in explained]
    found.append((UNEXPLAINED, [Suspect(f"local error {step.local:.2g}", step) for step in left]))
    return [_try(rule, suspects, scene) for rule, suspects in found if suspects]


def _try(rule: Rule, suspects: Sequence[Suspect], scene: Scene) -> CauseFound:
    """Take a cause away, and measure the output."""
    steps = {suspect.step.key: suspect.step for suspect in suspects if suspect.step is not None}
    sizes = fitting_sizes(scene.network, scene.element) if rule.id == "subsampling" else []
    tried = suspects[0]
    experiment, before, left = tried.experiment, tried.before, tried.after
    if not experiment:
        taken = scene.network.deviations(scene.element, steps)
        left = scene.network.output_error(scene.element, taken)
        experiment, before = "what these layers add taken away", scene.error
    best = min(sizes, key=lambda size: size.error, default=None)
    # Without what it adds any layer would be exact: that another size makes it so says more.
    if best is not None and best.error <= max(left, scene.network.limit):
        experiment, before, left = "input of {}x{} pixels".format(*best.size), scene.error, best.error
    return CauseFound(
        id=rule.id,
        explanation=CAUSES[rule.id],
        layers=[step.name for step in steps.values()],
        evidence=[
            f"{suspect.step.name}: {suspect.evidence}" if suspect.step else suspect.evidence
            for suspect in suspects
        ],
        fix=rule.fix,
        experiment=experiment,
        error_before=before,
        error_without=left,
        removed=max(0.0, 1 - left / before) if before else 0.0,
        error_together=left,
        sizes=sizes,
    )


def _rank(causes: Sequence[CauseFound], scene: Scene) -> list[CauseFound]:
    """Order causes by what goes with each alone; leave out what the others explain without it."""
    # Of equals the one that another input size proves: without what its layers add any layer would be exact.
    ranked = sorted(causes, key=lambda cause: (-round(cause.removed, 2), not cause.sizes))
    if scene.report.determinism.cause is not None:  # no two runs are alike: sets of causes cannot be tried
        return [cause for cause in ranked if cause.removed > NEARLY_NOTHING]
    network, kept, taken, enough = scene.network, list[CauseFound](), set[str](), False
    for cause in ranked:
        if not cause.layers:  # no layer breaks: the error is another one, and so is the experiment
            kept += [cause] if cause.removed > NEARLY_NOTHING else []
        elif not enough:
            taken.update(cause.layers)
            keys = [step.key for step in network.breaking if step.name in taken]
            left = network.output_error(scene.element, network.deviations(scene.element, keys))
            kept.append(msgspec.structs.replace(cause, error_together=left))
            enough = left <= max(network.limit, NEARLY_NOTHING * scene.error)
    return kept


def _layers(scene: Scene, lie: Mapping[Key, LieDerivative]) -> list[LocalError]:
    steps = list(scene.network.steps.values())
    total = math.fsum(step.local**2 for step in steps)
    worst = sorted(scene.network.breaking, key=lambda step: -step.local)[:MOST_SYMMETRISED]
    after = scene.network.symmetrised_errors(worst, scene.element)
    return [
        LocalError(
            name=step.name,
            type=step.type,
            local_error=step.local,
            share=step.local**2 / total if total else 0.0,
            elements=[str(element) for element, error in step.errors.items() if error > scene.network.limit],
            symmetrised_error=after.get(step.key),
            lie_derivative=lie.get(step.key),
        )
        for step in steps
    ]


def _averaging(scene: Scene) -> Averaging:
    network = scene.network
    still, moved = (network.averaged_output(start) for start in (IDENTITY, scene.element))
    return Averaging(
        error=network.compare_outputs(still, moved, scene.element),
        change=relative_error(network.outputs[IDENTITY], still),
        runs=1 + len(network.elements),
    )
