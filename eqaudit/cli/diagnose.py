"""`eqaudit diagnose`: where and why equivariance breaks."""

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
    command_line,
)
from eqaudit.cli.gating import GateFlags
from eqaudit.cli.grouping import with_flags
from eqaudit.limits import limited_layers
from eqaudit.parsing import parse_group, parse_layout
from eqaudit.plan import AuditPlan

EXAMPLES = """Examples:

eqaudit diagnose model.pt --group C4

eqaudit diagnose models.py:make_net --weights best.pth --data slides/ --plots why/

eqaudit diagnose model.pt --input-shape 3,33,33 --json why.json"""


@with_flags
def diagnose(
    *,
    model: ModelFlags,
    group: Annotated[
        str, typer.Option(help="Symmetries to explain: C2, C4, D4; of others what moves pixels to pixels.")
    ] = "D4",
    layout: Layouts = None,
    output: OutputName = None,
    images: ImageFlags,
    task: TaskFlags,
    gate: GateFlags,
    json: Json = None,
    plots: Plots = None,
    run: RunFlags,
    quiet: Quiet = False,
) -> Asked:
    """Say where the equivariance of MODEL breaks, why, and what would repair it, each proven by experiment.

    Exits with 1, as check does, when the group does not hold.
    """
    limits = gate.parse()
    plan = AuditPlan(
        model=model.parse(),
        inputs=images.parse(),
        run=run.parse(),
        group=parse_group(group),
        task=task.parse(),
        layouts=tuple(parse_layout(text) for text in layout or ()),
        limited_layers=limited_layers(limits.asked),
        output=output or "",
        command=command_line(),
        diagnose=True,
    )
    return Asked(plan, gate, limits, Writers(json, plots), run, quiet)
