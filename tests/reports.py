"""Small reports made by hand: one canned set of results for the gate and the reporters."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import msgspec
import numpy as np

from eqaudit.gate import Limits, judge
from eqaudit.groups import Group, Pose, angle_poses, spanned_group
from eqaudit.report import (
    BaselineRecord,
    Cause,
    CauseFound,
    Change,
    Class,
    ClassOverlap,
    Dense,
    Determinism,
    Diagnosis,
    ElementConsistency,
    ElementCosine,
    ElementError,
    ElementFidelity,
    ElementOverlap,
    Embedding,
    Estimate,
    Gate,
    GateCheck,
    GroupElement,
    GroupRecord,
    Inputs,
    Layer,
    Model,
    Outcome,
    Output,
    Panel,
    PanelImage,
    PerImage,
    Predictions,
    Report,
    Representation,
    Resampling,
    Segmentation,
    Skipped,
    Spread,
    Tool,
    ValueRange,
    WindowEffect,
    WorstAccuracy,
)

TaskKind = Literal["classification", "segmentation", "dense", "embedding"]
QUARTERS = range(0, 361, 15)


def make_error(
    element: str,
    class_: Class = "exact",
    error: float | None = 1e-7,
    chance: float | None = 0.5,
    nonfinite: int = 0,
) -> ElementError:
    """Return one error; its share of chance follows from the two numbers."""
    return ElementError(
        element=element,
        class_=class_,
        error=error,
        normalised=None if error is None or chance is None else error / chance,
        ci95=None if error is None else (error * 0.9, error * 1.1),
        p50=error,
        p95=error,
        worst_image="photo-003",
        floor=None,
        chance=chance,
        trivial_error=error,
        float64_error=None,
        float64_normalised=None,
        nonfinite=nonfinite,
    )


def make_layer(
    name: str,
    *,
    errors: list[ElementError] | None = None,
    skipped: str | None = None,
    gating: bool | None = None,
    call: int = 0,
) -> Output:
    """Return a layer or, with ``gating``, an output."""
    return Output(
        name=name,
        call=call,
        type="Conv2d",
        shape=[8, 32, 32],
        layout="BCHW",
        parameters=224,
        skipped=skipped,
        degenerate=False,
        same_as=None,
        representation=None if skipped else Representation("trivial", 1),
        errors=[] if skipped else errors or [],
        gating=bool(gating),
    )


def make_report(
    *,
    layers: list[Output] | None = None,
    outputs: list[Output] | None = None,
    group: str = "C4",
    class_: Class = "exact",
    cause: Cause | None = None,
    consistency: float | None = 1.0,
    skipped: list[Skipped] | None = None,
) -> Report:
    """Return a report that is not judged yet; without ``outputs`` one output of the given class."""
    elements = Group.named(group).elements
    errors = [make_error(str(element), class_) for element in elements[1:]]
    rows = [ElementConsistency(str(element), consistency, (0.5, 1.0)) for element in elements[1:]]
    return Report(
        tool=Tool(
            "0.1.0",
            "2.13.0",
            "3.11.7",
            "linux-x86_64",
            "cpu",
            "float32",
            False,
            2,
            0,
            ["eqaudit", "check", "m.pt"],
        ),
        model=Model("models/m.pt", "torchscript", "0" * 64, 12_345),
        inputs=Inputs(
            source="builtin:photos",
            samples=64,
            shape=(3, 32, 32),
            shape_reason="from --input-shape",
            preprocessing=["decoded", "scaled to 0..1 by the maximum of uint8"],
            boundary="none",
            fingerprint="1" * 64,
            skipped=skipped or [],
            values=ValueRange(0.0, 0.4, 1.0),
            batch_size=16,
        ),
        group=GroupRecord(group, [GroupElement(str(g), g.degrees, g.mirrored, g.exact) for g in elements]),
        layers=[
            Layer(**{name: getattr(layer, name) for name in Layer.__struct_fields__})
            for layer in layers or []
        ],
        outputs=outputs if outputs is not None else [make_layer("output", errors=errors, gating=True)],
        predictions=Predictions("classification", "output", 5, 64, rows, consistency, (0.5, 1.0))
        if consistency is not None
        else None,
        per_image=PerImage(["photo-003"], {"r90": [1e-7]}, {"e": [1], "r90": [1]}),
        determinism=Determinism(0.0, 1e-7, cause),
        float64_images=0,
        warnings=[],
    )


def make_outcome(name: str, *extra: GateCheck, class_: Class = "exact", layers: int = 3) -> Outcome:
    """Return a judged check, with extra limits, of a network whose layers and output are of one class."""
    errors = [make_error(element, class_, 0.3 if class_ != "exact" else 1e-7) for element in ("r90", "r180")]
    rows = [make_layer(f"stage{row}.conv", errors=errors) for row in range(layers)]
    report = judge(make_report(layers=rows, class_=class_), Limits())
    assert report.gate is not None
    checks = [*report.gate.checks, *extra]
    gate = Gate(all(check.passed for check in checks), checks)
    return Outcome(name, msgspec.structs.replace(report, gate=gate))


def undecided_check(reason: str = "between 0.91 and 0.96 keep their class") -> GateCheck:
    """Return a limit that can neither be passed nor failed for certain."""
    return GateCheck("min consistency", 0.93, 0.95, False, reason, undecided=True, source="eqaudit.toml:12")


def diagnosed(outcome: Outcome, found: Diagnosis) -> Outcome:
    """Return the check with a diagnosis."""
    assert outcome.report is not None
    return msgspec.structs.replace(outcome, report=msgspec.structs.replace(outcome.report, diagnose=found))


def make_diagnosis(first: str) -> Diagnosis:
    """Return a diagnosis of two causes."""
    layers = [first, "c2", "c3", "c4", "c5"]
    causes = [
        CauseFound(
            "subsampling",
            "a stride does not fit",
            layers,
            [],
            "choose another size",
            "33x33 pixels",
            0.3,
            0,
            1,
            0,
        ),
        CauseFound(
            "kernel", "weights", ["c6"], [], "train with turned images", "taken away", 0.3, 0.2, 0.3, 0
        ),
    ]
    return Diagnosis(4, "float64", "C4", "r90", 0.3, first, [], causes)


def against_baseline(outcome: Outcome, *changes: Change) -> Outcome:
    """Return the check, compared with an older report."""
    assert outcome.report is not None
    assert outcome.report.gate is not None
    gate = msgspec.structs.replace(
        outcome.report.gate, baseline=BaselineRecord("old/report.json", 0.1, list(changes))
    )
    return msgspec.structs.replace(outcome, report=msgspec.structs.replace(outcome.report, gate=gate))


def make_sweep(
    task: TaskKind | None = None,
    angles: Sequence[float] = QUARTERS,
    *,
    mirror: bool = False,
    truth: bool = True,
    floor: bool = True,
) -> Report:
    """Return a sweep that is not judged yet: at its worst where the image is turned by 45 degrees.

    ``truth`` gives labels or masks; without ``floor`` the network is not equivariant to translations either.
    """
    poses = angle_poses([Fraction(angle) for angle in angles], mirror=mirror)
    errors = [_sweep_error(pose, floor=floor) for pose in poses]
    output = make_layer("output", errors=errors, gating=True)
    if not floor:
        output = msgspec.structs.replace(output, no_floor="no floor: not equivariant to translations either")
    report = make_report(layers=[make_layer("conv", errors=errors)], outputs=[output], consistency=None)
    elements = [GroupElement(pose.name, pose.degrees, pose.element.mirrored, pose.exact) for pose in poses]
    return msgspec.structs.replace(
        report,
        kind="sweep",
        group=GroupRecord(spanned_group(pose.element for pose in poses).name, elements),
        resampling=Resampling("disc", "spline", "spline", 0.0, 8, 2.0, WindowEffect(0.3, 0.9)),
        predictions=_decisions(poses, truth=truth) if task == "classification" else None,
        segmentation=_overlaps(poses, truth=truth, floor=floor) if task == "segmentation" else None,
        dense=_fidelities(poses) if task == "dense" else None,
        embedding=_cosines(poses) if task == "embedding" else None,
        per_image=PerImage(
            ["a.png", "b.png"],
            {pose.name: [_loss(pose), None] for pose in poses},
            {"e": [1, 2]} | {pose.name: [1, -1] for pose in poses} if task == "classification" else {},
            {pose.name: [1 - _loss(pose), None] for pose in poses} if task == "segmentation" else {},
        ),
    )


def make_panel(shape: tuple[int, ...] = (12, 12), image: tuple[int, ...] = (1, 12, 12)) -> Panel:
    """Return a worst case: random images, and an output of a shape."""
    random = np.random.default_rng(0)
    shapes = {"x": image, "T x": image} | dict.fromkeys(
        ("f(x)", "f(T x)", "T f(x)", "f(T x) - T f(x)"), shape
    )
    pictures = [
        PanelImage(title, size, random.normal(size=size).astype(np.float32).tobytes())
        for title, size in shapes.items()
    ]
    return Panel("a$b.png", "r45", 45.0, "the output of f at its worst", pictures)


def _loss(pose: Pose) -> float:
    """Return what is lost at a pose, up to 0.2: nothing at quarter turns."""
    return 0.0 if pose.exact else 0.2 * math.sin(math.radians(2 * pose.degrees)) ** 2


def _sweep_error(pose: Pose, *, floor: bool) -> ElementError:
    if pose.exact:
        return make_error(pose.name, "exact", 0.0 if pose.name == "e" else 1e-7)
    loss = _loss(pose)
    class_: Class = "unresolved" if not floor else "at the floor" if loss <= 0.1 else "approximate"
    return msgspec.structs.replace(make_error(pose.name, class_, loss), floor=0.05 if floor else None)


def make_spread(mean: float, floor: float | None = None) -> Spread:
    """Return values around a mean, with one outlier below."""
    return Spread(
        mean=mean,
        ci95=(mean - 0.01, mean + 0.01),
        p5=mean - 0.08,
        p25=mean - 0.03,
        p50=mean + 0.005,
        p75=mean + 0.03,
        p95=mean + 0.05,
        whiskers=(mean - 0.1, mean + 0.05),
        outliers=[mean - 0.15],
        worst_image="=cmd.png",
        floor=floor,
    )


def _estimate(value: float) -> Estimate:
    return Estimate(value, (value - 0.04, value + 0.04))


def _decision(element: str, loss: float, *, truth: bool) -> ElementConsistency:
    accuracy = 0.9 - 2 * loss
    return ElementConsistency(
        element,
        1 - 2 * loss,
        (0.95 - 2 * loss, 1.0),
        total_variation=_estimate(loss),
        accuracy=_estimate(accuracy) if truth else None,
        cross_entropy=_estimate(2 * loss) if truth else None,
        auc=_estimate(1 - loss) if truth else None,
        consistency_when_right=_estimate(1 - loss) if truth else None,
        class_accuracy=[accuracy, 1.0, None] if truth else None,
    )


def _decisions(poses: Sequence[Pose], *, truth: bool) -> Predictions:
    worst = max(poses, key=_loss)
    return Predictions(
        "classification",
        "output",
        3,
        64,
        [_decision(pose.name, _loss(pose), truth=truth) for pose in poses],
        0.4,
        (0.3, 0.5),
        class_names=["cat", "d$o$g", "eel"] if truth else [],
        class_images=[40, 24, 0] if truth else None,
        unmoved=_decision("e", 0.0, truth=truth),
        worst_accuracy=WorstAccuracy(worst.name, 0.9 - 2 * _loss(worst)) if truth else None,
    )


def _overlap(element: str, loss: float, *, truth: bool, floor: float | None) -> ElementOverlap:
    against = make_spread(0.8 - loss) if truth else None
    return ElementOverlap(
        element,
        dice=make_spread(0.95 - loss, floor),
        iou=make_spread(0.9 - loss),
        truth_dice=against,
        truth_iou=against,
        classes=[ClassOverlap("cell", 0.9, 0.8, 0.7 if truth else None)],
        both_empty=0,
        one_empty=1,
    )


def _overlaps(poses: Sequence[Pose], *, truth: bool, floor: bool) -> Segmentation:
    return Segmentation(
        output="output",
        classes=["cell"],
        images=60,
        reason="--task segmentation",
        scores="logits",
        threshold=0.5,
        unmoved=_overlap("e", 0.0, truth=truth, floor=None),
        by_element=[
            _overlap(pose.name, _loss(pose), truth=truth, floor=0.9 if floor and not pose.exact else None)
            for pose in poses
        ],
    )


def _fidelities(poses: Sequence[Pose]) -> Dense:
    rows = []
    for pose in poses:
        decibels = None if pose.exact else 30 - 40 * _loss(pose)
        interval = None if decibels is None else (decibels - 1, decibels + 1)
        rows.append(ElementFidelity(pose.name, decibels, interval, "a.png"))
    return Dense("output", 64, "the output is a map like the image", 2.5, rows)


def _cosines(poses: Sequence[Pose]) -> Embedding:
    rows = [ElementCosine(pose.name, make_spread(0.9 - _loss(pose))) for pose in poses]
    return Embedding("output", 64, "vectors of length 1", rows)
