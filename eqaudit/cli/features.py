"""`eqaudit features`: see what layers make of an image and of its turned copies."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from eqaudit.cli.audits import Writers
from eqaudit.cli.configured import is_left_out
from eqaudit.cli.flags import (
    ImageFlags,
    Json,
    Layouts,
    Mirror,
    ModelFlags,
    Plots,
    Quiet,
    RunFlags,
    TapsFlag,
    TurningFlags,
    command_line,
    input_files,
)
from eqaudit.cli.grouping import with_flags
from eqaudit.cli.progress import model_output, progress_bar
from eqaudit.cli.streams import require_stdout, stdout_style, write_stdout
from eqaudit.errors import ExitCode, UsageError
from eqaudit.gate import Limits, judge
from eqaudit.parsing import parse_angles, parse_data, parse_layout
from eqaudit.plan import AuditPlan, InputOptions, TruthOptions
from eqaudit.report import replace_text, to_json
from eqaudit.reporters.escape import hide_home
from eqaudit.reporters.feature_table import render_features
from eqaudit.worker import run_audit

MOST_ANGLES = 8

EXAMPLES = """Examples:

eqaudit features model.pt --layer conv1 --plots seen/

eqaudit features model.pt --layer conv1 --image slide.png --angles 0,90,30 --plots seen/

eqaudit features models.py:make_net --layer 'p4conv*' --image slide.png --data slides/ --plots seen/"""


@with_flags
def features(
    context: typer.Context,
    *,
    model: ModelFlags,
    layer: Annotated[
        list[str], typer.Option(metavar="GLOB", help="Layers to draw, and to measure (repeatable).")
    ],
    image: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The image to draw, and without --data all that is measured; else one of --data.",
        ),
    ] = None,
    angles: Annotated[
        str, typer.Option(metavar="A,B,...", help="Counter-clockwise degrees, at most 8.")
    ] = "0,90,30",
    mirror: Mirror = False,
    taps: TapsFlag = "modules",
    layout: Layouts = None,
    images: ImageFlags,
    turning: TurningFlags,
    json: Json = None,
    plots: Plots = None,
    run: RunFlags,
    quiet: Quiet = False,
) -> int:
    """Draw feature maps of an image and of its turned copies, turned back, and their difference.

    Writes features.png and kernels.png into --plots, and prints how the channels of each layer turn, with the
    error at each angle. Nothing is judged.
    """
    turns = parse_angles(angles)
    if len(turns) > MOST_ANGLES:
        raise UsageError(
            f"--angles {angles!r} gives {len(turns)} angles, at most {MOST_ANGLES} are drawn",
            "eqaudit sweep-angles measures many",
        )
    inputs, drawn = _inputs(context, images.parse(), image)
    plan = AuditPlan(
        model=model.parse(),
        inputs=inputs,
        run=run.parse(),
        angles=turns,
        mirror=mirror,
        space=turning.parse(),
        layers=tuple(layer),
        layouts=tuple(parse_layout(text) for text in layout or ()),
        taps=taps,
        command=command_line(),
        drawn=drawn,
    )
    require_stdout()
    writers = Writers(json, plots)
    writers.check((*input_files(plan.model, inputs), *input_files(plan.model, drawn)))
    with progress_bar(quiet=quiet) as on_progress, model_output(verbose=run.verbose) as on_output:
        audited = run_audit(plan, run.timeout, on_progress, on_output)
    if audited is None:
        return ExitCode.PASSED
    report = judge(replace_text(audited.report, hide_home), Limits(judged=False))
    audited = msgspec.structs.replace(audited, report=report)
    writers.write(audited)
    found = to_json(report) if json == "-" else render_features(audited, stdout_style())
    write_stdout(found)
    return ExitCode.PASSED


def _inputs(
    context: typer.Context, inputs: InputOptions, image: str | None
) -> tuple[InputOptions, InputOptions]:
    """Return what is measured, and what is drawn: one image, of the same preparation."""
    data = inputs.data if image is None else parse_data(image, "--image")
    drawn = msgspec.structs.replace(inputs, data=data, samples=1, truth=TruthOptions())
    alone = image is not None and is_left_out(context, "data")
    return (drawn if alone else inputs), drawn
