"""`eqaudit check`: audit a model and judge it."""

from __future__ import annotations

from typing import Annotated

import typer

from eqaudit.cli.audits import Asked, Writers
from eqaudit.cli.flags import (
    ImageFlags,
    Json,
    Layouts,
    ModelFlags,
    OutputName,
    Plots,
    Quiet,
    RunFlags,
    TaskFlags,
    TurningFlags,
    command_line,
    with_flags,
)
from eqaudit.cli.gating import GateFlags, ShorthandFlags
from eqaudit.limits import limited_layers
from eqaudit.plan import AuditPlan, parse_group, parse_layout

EXAMPLES = """Examples:

eqaudit check model.pt

eqaudit check model.pt --group C4 --data slides/ --mean 0.5 --std 0.25 --json report.json

eqaudit check models.py:make_net --arg width=32 --input-shape 3,96,96 --max-error 0.05

eqaudit check models.py:make_net --weights best.pth --data slides/"""


@with_flags
def check(
    *,
    model: ModelFlags,
    group: Annotated[
        str,
        typer.Option(
            help="Symmetries to test: C4, C8, Cn (turns), D4, Dn (with mirrors); auto finds the largest."
        ),
    ] = "D4",
    layers: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Layers to measure (repeatable); 'none' for the output only."),
    ] = None,
    layout: Layouts = None,
    output: OutputName = None,
    images: ImageFlags,
    turning: TurningFlags,
    task: TaskFlags,
    gate: GateFlags,
    shorthand: ShorthandFlags,
    json: Json = None,
    plots: Plots = None,
    run: RunFlags,
    quiet: Quiet = False,
) -> Asked:
    """Audit MODEL layer by layer under a group of symmetries; exit with 1 when the group does not hold."""
    limits = gate.parse(shorthand.parse())
    plan = AuditPlan(
        model=model.parse(),
        inputs=images.parse(),
        run=run.parse(),
        group=parse_group(group),
        space=turning.parse(),
        task=task.parse(),
        layers=tuple(layers or ()),
        layouts=tuple(parse_layout(text) for text in layout or ()),
        limited_layers=limited_layers(limits.asked),
        output=output or "",
        command=command_line(),
    )
    return Asked(plan, gate, limits, Writers(json=json, plots=plots), run, quiet)
