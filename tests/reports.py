"""Small reports made by hand: one canned set of results for the gate and the reporters."""

from eqaudit.groups import Group
from eqaudit.report import (
    Cause,
    Class,
    Determinism,
    ElementConsistency,
    ElementError,
    GroupElement,
    GroupRecord,
    Inputs,
    Layer,
    Model,
    Output,
    PerImage,
    Predictions,
    Report,
    Representation,
    Skipped,
    Tool,
    ValueRange,
)


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
