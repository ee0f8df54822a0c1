"""`eqaudit check`: audit a model and judge it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from eqaudit.cli import options
from eqaudit.cli.output import (
    check_folder,
    check_output,
    per_image_path,
    require_stdout,
    stdout_style,
    write_pictures,
    write_report,
    write_stderr,
    write_stdout,
)
from eqaudit.cli.progress import model_output, progress_bar
from eqaudit.errors import ExitCode
from eqaudit.gate import Limits, exit_code, incomplete, judge
from eqaudit.plan import (
    CheckPlan,
    FileModel,
    PathData,
    parse_group,
    parse_limit,
    parse_model,
    parse_optional_limit,
)
from eqaudit.report import Report, to_json
from eqaudit.reporters.base import show
from eqaudit.reporters.terminal import render_check, render_verdict
from eqaudit.worker import run_check

EXAMPLES = """Examples:

eqaudit check model.pt

eqaudit check model.pt --group C4 --data slides/ --mean 0.5 --std 0.25 --json report.json

eqaudit check models.py:make_net --arg width=32 --input-shape 3,96,96 --max-error 0.05"""


def check(
    model: options.Model,
    arg: options.Arg = None,
    group: Annotated[
        str, typer.Option(help="Symmetries to test: C1 C2 C4 (turns), D1 D2 D4 (with mirrors).")
    ] = "D4",
    data: options.Data = "builtin:photos",
    samples: options.Samples = 64,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 16,
    input_shape: options.InputShape = None,
    resize: options.Resize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Layers to measure (repeatable); 'none' for the output only."),
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which output is judged; the first when left out.")
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(metavar="E", help="Allow this relative error, instead of asking that the group holds."),
    ] = None,
    max_normalised_error: Annotated[
        float | None, typer.Option(metavar="S", help="Allow this share of chance (0.1 is 10 %), likewise.")
    ] = None,
    max_layer_error: Annotated[
        float | None, typer.Option(metavar="E", help="Also require of every measured layer, as plain maps.")
    ] = None,
    min_consistency: Annotated[
        float | None, typer.Option(metavar="P", help="Also require this share of equal predictions (0 to 1).")
    ] = None,
    plots: options.Plots = None,
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Exit with 0 also when the gate fails.")] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 5 when a layer was skipped or not finite, or an image unreadable."
        ),
    ] = False,
    json: options.Json = None,
    device: options.Device = "cpu",
    threads: options.Threads = 0,
    timeout: options.Timeout = 3600.0,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Audit MODEL layer by layer under a group of symmetries; exit with 1 when the group does not hold."""
    require_stdout()
    plan = CheckPlan(
        model=parse_model(model, arg or []),
        inputs=options.input_options(data, samples, seed, batch_size, input_shape, resize, mean, std),
        run=options.run_options(device, threads),
        group=parse_group(group),
        layers=tuple(layers or ()),
        output=output or "",
        command=("eqaudit", *sys.argv[1:]),
    )
    limits = Limits(
        parse_optional_limit("--max-error", max_error),
        parse_optional_limit("--max-normalised-error", max_normalised_error),
        parse_optional_limit("--max-layer-error", max_layer_error),
        parse_optional_limit("--min-consistency", min_consistency, largest=1.0),
    )
    if json not in {None, "-"}:
        check_output(str(json), _inputs(plan))
        check_output(per_image_path(str(json)), _inputs(plan))
    if plots is not None:
        check_folder(plots)
    with progress_bar(quiet=quiet) as on_progress, model_output(verbose=verbose) as on_output:
        report = judge(
            run_check(plan, parse_limit("--timeout", timeout), on_progress, on_output),
            limits,
        )
    if plots is not None:
        write_pictures(plots, report)
    _write(report, json, quiet=quiet)
    code = exit_code(report, strict=strict, gate=not no_gate)
    if code == ExitCode.INCOMPLETE:
        write_stderr("incomplete (--strict): " + show("; ".join(incomplete(report))))
    return code


def _inputs(plan: CheckPlan) -> tuple[str, ...]:
    model = plan.model.path if isinstance(plan.model, FileModel) else plan.model.source
    data = plan.inputs.data
    return (model, data.path) if isinstance(data, PathData) else (model,)


def _write(report: Report, json: str | None, *, quiet: bool) -> None:
    if json == "-":
        write_stdout(to_json(report))
        return
    if json is not None:
        write_report(json, report)
    render = render_verdict if quiet else render_check
    write_stdout(render(report, stdout_style()))
