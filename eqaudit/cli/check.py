"""`eqaudit check`: audit a model and judge it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from eqaudit.cli.audits import Asked, Writers, parse_reports
from eqaudit.cli.configured import is_left_out, run_configured
from eqaudit.cli.flags import (
    ImageFlags,
    Json,
    Layouts,
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
from eqaudit.cli.gating import GateFlags, ShorthandFlags
from eqaudit.cli.grouping import with_flags
from eqaudit.errors import ExitCode, UsageError
from eqaudit.limits import limited_layers
from eqaudit.parsing import parse_group, parse_layout
from eqaudit.plan import AuditPlan

EXAMPLES = """Examples:

eqaudit check model.pt

eqaudit check model.pt --group C4 --data slides/ --mean 0.5 --std 0.25 --json report.json

eqaudit check models.py:make_net --arg width=32 --input-shape 3,96,96 --max-error 0.05

eqaudit check models.py:make_net --weights best.pth --data slides/

eqaudit check resnet.pt --taps operations --layers 'layer1.*'

eqaudit check model.pt --limit 'output.normalised < 0.1' --limit 'layers["conv*"].error < 1e-3 @ r90,r180'

eqaudit check model.pt --group C4 --explain

eqaudit check --only lenet

eqaudit check model.pt --report junit=equivariance.xml --report markdown=comment.md"""


@dataclass(frozen=True, slots=True)
class CheckedModelFlags(ModelFlags):
    """Which model; left out, the models of the configuration."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A TorchScript file or exported program (.pt2), package.module:factory, or file.py:factory; "
            "left out, every check of the configuration.",
            show_default=False,
        ),
    ] = ""


@with_flags
def check(
    *,
    context: typer.Context,
    model: CheckedModelFlags,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Without MODEL: the configuration; else eqaudit.toml or pyproject.toml, here or above.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Without MODEL: only this check of the configuration (repeatable)."
        ),
    ] = None,
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
    taps: TapsFlag = "modules",
    layout: Layouts = None,
    output: OutputName = None,
    images: ImageFlags,
    turning: TurningFlags,
    task: TaskFlags,
    gate: GateFlags,
    shorthand: ShorthandFlags,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="When the gate fails, say where and why, as diagnose does."),
    ] = False,
    json: Json = None,
    plots: Plots = None,
    report: Reports = None,
    run: RunFlags,
    quiet: Quiet = False,
) -> Asked | ExitCode:
    """Audit MODEL layer by layer under a group of symmetries; exit with 1 when the group does not hold.

    Without MODEL every check of the configuration runs, each with the options that it names.
    """
    if is_left_out(context, "model"):
        return run_configured(context, config, only or ())
    if config is not None or only:
        raise UsageError("--config and --only go without MODEL", "leave MODEL out to run what is configured")
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
        taps=taps,
        limited_layers=limited_layers(limits.asked),
        output=output or "",
        command=command_line(),
    )
    writers = Writers(json, plots, reports=parse_reports(report or []))
    return Asked(plan, gate, limits, writers, run, quiet, explain)
