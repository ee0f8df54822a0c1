"""`eqaudit compare`: several models on the same images, beside each other and tested in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import typer

from eqaudit.cli.audits import Writers
from eqaudit.cli.files import check_output, per_image_path, write_comparison, write_drawn, write_file
from eqaudit.cli.flags import (
    Csv,
    ImageFlags,
    Json,
    Layouts,
    OutputName,
    Plots,
    Quiet,
    RunFlags,
    TapsFlag,
    TaskFlags,
    TurningFlags,
    command_line,
    input_files,
)
from eqaudit.cli.grouping import with_flags
from eqaudit.cli.progress import model_output, progress_bar
from eqaudit.cli.streams import require_stdout, stdout_style, write_stdout
from eqaudit.comparison import LETTERS, Comparison, Timing
from eqaudit.errors import EqauditError, ExitCode, UsageError
from eqaudit.parsing import parse_angles, parse_group, parse_layout, parse_model, parse_weights
from eqaudit.plan import NO_LAYERS, AuditPlan, ModelSpec, PythonObject, TimingPlan
from eqaudit.report import Features, Report, replace_text, to_json
from eqaudit.reporters.comparison import render_comparison
from eqaudit.reporters.csv_table import comparison_csv
from eqaudit.reporters.escape import hide_home
from eqaudit.worker import OnOutput, OnProgress, run_audit, run_timing

EXAMPLES = """Examples:

eqaudit compare model.pt new_model.pt --data slides/ --labels labels.csv

eqaudit compare plain.pt orbit.pt --data photos/ --labels folders --angles 0:360:10 --plots curves/

eqaudit compare nets.py:make nets.py:make --weights first.pth --weights second.pth --json comparison.json"""


@dataclass(frozen=True, slots=True)
class ComparedFlags:
    """Which models."""

    models: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [C ...]",
            help="Two to eight models: files, package.module:factory, or file.py:factory.",
            show_default=False,
        ),
    ]
    arg: Annotated[
        list[str] | None,
        typer.Option(
            "--arg", metavar="NAME=VALUE", help="Argument of every Python factory among them (repeatable)."
        ),
    ] = None
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="One for each Python model among them, in their order (repeatable)."
        ),
    ] = None
    no_strict_weights: Annotated[
        bool, typer.Option("--no-strict-weights", help="Load the weights that fit, and say which do not.")
    ] = False

    def parse(self) -> list[ModelSpec]:
        """Check the options and return them as parts of plans."""
        if not 1 < len(self.models) <= len(LETTERS):
            raise UsageError(
                f"compare takes 2 to {len(LETTERS)} models, not {len(self.models)}", "eqaudit compare A B"
            )
        plain = [parse_model(text, []) for text in self.models]
        code = [place for place, model in enumerate(plain) if isinstance(model, PythonObject)]
        paths = self.weights or []
        if paths and len(paths) != len(code):
            raise UsageError(
                f"there are {len(paths)} --weights and {len(code)} models of Python code",
                "give one to each of them, in their order",
            )
        if (self.arg or self.no_strict_weights) and not code:
            raise UsageError(
                "--arg and --no-strict-weights go with Python code, of which there is none", "leave them out"
            )
        for number, place in enumerate(code):
            model = parse_model(self.models[place], self.arg or [])
            path = paths[number] if paths else None
            plain[place] = parse_weights(model, path, strict=not self.no_strict_weights)
        return plain


@with_flags
def compare(
    *,
    models: ComparedFlags,
    group: Annotated[
        str | None,
        typer.Option(help="Symmetries to test, as in check; D4 without --angles.", show_default=False),
    ] = None,
    angles: Annotated[
        str | None,
        typer.Option(
            metavar="START:STOP:STEP|A,B,...",
            help="Turn by these degrees instead, as in sweep-angles.",
            show_default=False,
        ),
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="With --angles: also mirror, then turn, by every angle.")
    ] = False,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Layers to measure (repeatable): all when left out, with --angles none.",
        ),
    ] = None,
    taps: TapsFlag = "modules",
    layout: Layouts = None,
    output: OutputName = None,
    images: ImageFlags,
    turning: TurningFlags,
    task: TaskFlags,
    json: Json = None,
    csv: Csv = None,
    plots: Plots = None,
    run: RunFlags,
    quiet: Quiet = False,
) -> ExitCode:
    """Audit several models on the same images, and test in pairs by how much they differ.

    Nothing is judged: the code is 0 wherever all of them can be measured.
    """
    require_stdout()
    if angles is not None and group is not None:
        raise UsageError("--group goes without --angles", "leave one of them out")
    if mirror and angles is None:
        raise UsageError("--mirror goes with --angles", "a group Dn has its mirrors")
    specs = models.parse()
    plan = AuditPlan(
        model=specs[0],
        inputs=images.parse(),
        run=run.parse(),
        group=parse_group(group or "D4"),
        angles=() if angles is None else parse_angles(angles),
        mirror=mirror,
        space=turning.parse(),
        task=task.parse(),
        layers=tuple(layers or ([NO_LAYERS] if angles is not None else [])),
        layouts=tuple(parse_layout(text) for text in layout or ()),
        taps=taps,
        output=output or "",
        command=command_line(),
    )
    writers = Writers(json, plots, csv)
    inputs = tuple(path for spec in specs for path in input_files(spec, plan.inputs))
    writers.check(inputs)
    if json not in {None, "-"}:
        for letter in LETTERS[: len(specs)]:
            check_output(per_image_path(str(json), letter), inputs)
    if plots is not None:
        plan = msgspec.structs.replace(plan, drawn=plan.inputs, pooled=True)
    features: list[Features] = []
    found = _measure(plan, specs, run, features, quiet=quiet)
    if found is not None:
        write(found, writers, features, quiet=quiet)
    return ExitCode.PASSED


def write(
    comparison: Comparison, writers: Writers, features: Sequence[Features] = (), *, quiet: bool
) -> None:
    """Write what was asked for, pictures first, and show the comparison."""
    if writers.plots is not None:
        # As costly to import as the pictures of one audit.
        from eqaudit.reporters.comparison_pictures import draw_comparison  # noqa: PLC0415

        write_drawn(writers.plots, draw_comparison(comparison, features))
    if writers.csv is not None:
        write_file(writers.csv, comparison_csv(comparison))
    if writers.json not in {None, "-"}:
        write_comparison(str(writers.json), comparison)
    if writers.json == "-":
        write_stdout(to_json(comparison))
    else:
        write_stdout(render_comparison(comparison, stdout_style(), quiet=quiet))


def _measure(
    plan: AuditPlan, specs: Sequence[ModelSpec], run: RunFlags, features: list[Features], *, quiet: bool
) -> Comparison | None:
    """Audit one model after the other, then time all; None where another rank has the reports.

    The features of each model are added to those that are given.
    """
    # Imported late: numpy and scipy.
    from eqaudit.comparing import audit_each, compare_reports  # noqa: PLC0415

    with progress_bar(quiet=quiet) as on_progress, model_output(verbose=run.verbose) as on_output:

        def audit(place: int, shape: tuple[int, int, int] | None) -> Report | None:
            inputs = msgspec.structs.replace(plan.inputs, input_shape=shape)
            asked = msgspec.structs.replace(plan, model=specs[place], inputs=inputs)
            audited = run_audit(asked, run.timeout, _of_model(LETTERS[place], on_progress), on_output)
            if audited is None:
                return None
            features.extend([] if audited.features is None else [audited.features])
            return replace_text(audited.report, hide_home)

        reports = audit_each([str(spec) for spec in specs], plan.inputs.input_shape, audit)
        if not reports:
            return None
        inputs = msgspec.structs.replace(plan.inputs, input_shape=reports[0].inputs.shape)
        timing, failure = _time(
            TimingPlan(tuple(specs), inputs, plan.run), run.timeout, on_progress, on_output
        )
    return compare_reports(reports, plan.task.threshold, timing, failure)


def _time(
    plan: TimingPlan, timeout: float, on_progress: OnProgress, on_output: OnOutput
) -> tuple[list[Timing], list[str]]:
    """Time all models in one process; a failure costs no more than the times."""
    try:
        return run_timing(plan, timeout, on_progress, on_output).models, []
    except EqauditError as error:
        return [], [hide_home(f"forward times were not measured: {error.message}")]


def _of_model(letter: str, on_progress: OnProgress) -> OnProgress:
    return lambda event: on_progress(msgspec.structs.replace(event, stage=f"{letter}: {event.stage}"))
