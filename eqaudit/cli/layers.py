"""`eqaudit layers`: what there is to measure in a model."""

from __future__ import annotations

from eqaudit.cli.files import check_output, write_file
from eqaudit.cli.flags import InputShape, Json, ModelFlags, Quiet, RunFlags, TapsFlag, input_files
from eqaudit.cli.grouping import with_flags
from eqaudit.cli.progress import model_output, progress_bar
from eqaudit.cli.streams import require_stdout, stdout_style, write_stdout
from eqaudit.errors import ExitCode
from eqaudit.parsing import parse_integers
from eqaudit.plan import InputOptions, LayersPlan
from eqaudit.report import to_json
from eqaudit.reporters.listing import render_layers
from eqaudit.worker import run_layers

EXAMPLES = """Examples:

eqaudit layers model.pt

eqaudit layers model.pt --taps operations

eqaudit layers models.py:make_net --arg width=32 --input-shape 3,96,96"""


@with_flags
def layers(
    *,
    model: ModelFlags,
    taps: TapsFlag = "modules",
    input_shape: InputShape = None,
    json: Json = None,
    run: RunFlags,
    quiet: Quiet = False,
) -> int:
    """List the layers of MODEL in order of execution, with type, shape and parameters."""
    require_stdout()
    shape = None if input_shape is None else parse_integers("--input-shape", input_shape, 3)
    inputs = InputOptions(input_shape=None if shape is None else (shape[0], shape[1], shape[2]))
    plan = LayersPlan(model.parse(), inputs, run.parse(), taps)
    if json not in {None, "-"}:
        check_output(str(json), input_files(plan.model))
    with progress_bar(quiet=quiet) as on_progress, model_output(verbose=run.verbose) as on_output:
        listing = run_layers(plan, run.timeout, on_progress, on_output)
    if json is not None and json != "-":
        write_file(json, to_json(listing))
    write_stdout(to_json(listing) if json == "-" else render_layers(listing, stdout_style()))
    return ExitCode.PASSED
