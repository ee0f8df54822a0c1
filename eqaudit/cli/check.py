"""`eqaudit check`: audit a model and judge it."""

from __future__ import annotations

from typing import Annotated

import typer

from eqaudit.cli.audits import Writers, finish, measure, parse_reports
from eqaudit.cli.flags import (
    ImageFlags,
    Json,
    Layouts,
    ModelFlags,
    NoGate,
    OutputName,
    Plots,
    Quiet,
    Reports,
    RunFlags,
    Strict,
    TaskFlags,
    TurningFlags,
    command_line,
    with_flags,
)
from eqaudit.gate import Limits
from eqaudit.plan import AuditPlan, parse_group, parse_layout, parse_optional_limit

EXAMPLES = """Examples:

eqaudit check model.pt

eqaudit check model.pt --group C4 --data slides/ --mean 0.5 --std 0.25 --json report.json

eqaudit check models.py:make_net --arg width=32 --input-shape 3,96,96 --max-error 0.05

eqaudit check models.py:make_net --weights best.pth --data slides/

eqaudit check model.pt --report junit=equivariance.xml --report markdown=comment.md"""
GATE = "Gate"


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
    max_error: Annotated[
        float | None,
        typer.Option(
            metavar="E",
            help="Allow this relative error, instead of asking that the group holds.",
            rich_help_panel=GATE,
        ),
    ] = None,
    max_normalised_error: Annotated[
        float | None,
        typer.Option(
            metavar="S", help="Allow this share of chance (0.1 is 10 %), likewise.", rich_help_panel=GATE
        ),
    ] = None,
    max_layer_error: Annotated[
        float | None,
        typer.Option(
            metavar="E",
            help="Also require of every measured layer, under the action found.",
            rich_help_panel=GATE,
        ),
    ] = None,
    min_consistency: Annotated[
        float | None,
        typer.Option(
            metavar="P", help="Also require this share of equal predictions (0 to 1).", rich_help_panel=GATE
        ),
    ] = None,
    no_gate: NoGate = False,
    strict: Strict = False,
    json: Json = None,
    plots: Plots = None,
    report: Reports = None,
    run: RunFlags,
    quiet: Quiet = False,
) -> int:
    """Audit MODEL layer by layer under a group of symmetries; exit with 1 when the group does not hold."""
    plan = AuditPlan(
        model=model.parse(),
        inputs=images.parse(),
        run=run.parse(),
        group=parse_group(group),
        space=turning.parse(),
        task=task.parse(),
        layers=tuple(layers or ()),
        layouts=tuple(parse_layout(text) for text in layout or ()),
        output=output or "",
        command=command_line(),
    )
    limits = Limits(
        parse_optional_limit("--max-error", max_error),
        parse_optional_limit("--max-normalised-error", max_normalised_error),
        parse_optional_limit("--max-layer-error", max_layer_error),
        parse_optional_limit("--min-consistency", min_consistency, largest=1.0),
    )
    writers = Writers(json, plots, reports=parse_reports(report or []))
    audited = measure(plan, limits, writers, run, quiet=quiet)
    return finish(audited, writers, quiet=quiet, strict=strict, gate=not no_gate)
