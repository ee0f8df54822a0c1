"""`eqaudit sweep-angles`: error, consistency, accuracy or Dice against the angle."""

from __future__ import annotations

from typing import Annotated

import typer

from eqaudit.cli.audits import Asked, Writers, parse_reports
from eqaudit.cli.flags import (
    OUTPUT,
    Csv,
    ImageFlags,
    Json,
    Layouts,
    Mirror,
    ModelFlags,
    OutputName,
    Plots,
    Quiet,
    Reports,
    RunFlags,
    TapsFlag,
    TaskFlags,
    TurningFlags,
    command_line,
)
from eqaudit.cli.gating import GateFlags
from eqaudit.cli.grouping import with_flags
from eqaudit.errors import UsageError
from eqaudit.limits import limited_layers
from eqaudit.parsing import parse_angles, parse_layout
from eqaudit.plan import NO_LAYERS, AuditPlan

EXAMPLES = """Examples:

eqaudit sweep-angles model.pt --data photos/ --labels folders --plots curves/

eqaudit sweep-angles unet.pt --data images/ --masks masks/ --angles 0:90:5 --csv dice.csv

eqaudit sweep-angles lenet.pt --data digits.npz --angles 0,90,180,270,360"""


@with_flags
def sweep_angles(
    *,
    model: ModelFlags,
    angles: Annotated[
        str,
        typer.Option(
            metavar="START:STOP:STEP|A,B,...",
            help="Counter-clockwise degrees; 360 is a control that must give 0.",
        ),
    ] = "0:360:5",
    mirror: Mirror = False,
    layers: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Layers to measure too (repeatable); '*' for all."),
    ] = None,
    taps: TapsFlag = "modules",
    layout: Layouts = None,
    output: OutputName = None,
    images: ImageFlags,
    task: TaskFlags,
    turning: TurningFlags,
    gate: GateFlags,
    json: Json = None,
    csv: Csv = None,
    per_image: Annotated[
        bool,
        typer.Option(
            "--per-image", help="Of --csv: one row for each image and angle.", rich_help_panel=OUTPUT
        ),
    ] = False,
    plots: Plots = None,
    report: Reports = None,
    run: RunFlags,
    quiet: Quiet = False,
) -> Asked:
    """Turn the images of a data set by many angles and report what the output of MODEL does.

    Exits with 1 when the numbers mean nothing: an output that is random, not finite, or always the same.
    """
    if per_image and csv is None:
        raise UsageError("--per-image goes with --csv", "add --csv FILE")
    limits = gate.parse()
    plan = AuditPlan(
        model=model.parse(),
        inputs=images.parse(),
        run=run.parse(),
        angles=parse_angles(angles),
        mirror=mirror,
        space=turning.parse(),
        task=task.parse(),
        layers=tuple(layers or (NO_LAYERS,)),
        layouts=tuple(parse_layout(text) for text in layout or ()),
        taps=taps,
        limited_layers=limited_layers(limits.asked),
        output=output or "",
        command=command_line(),
    )
    writers = Writers(json, plots, csv, per_image, parse_reports(report or []))
    return Asked(plan, gate, limits, writers, run, quiet)
