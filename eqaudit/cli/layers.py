"""`eqaudit layers`: what there is to measure in a model."""

from __future__ import annotations

from eqaudit.cli import options
from eqaudit.cli.output import check_output, require_stdout, stdout_style, write_file, write_stdout
from eqaudit.cli.progress import model_output, progress_bar
from eqaudit.errors import ExitCode
from eqaudit.plan import FileModel, InputOptions, LayersPlan, parse_integers, parse_limit, parse_model
from eqaudit.report import to_json
from eqaudit.reporters.listing import render_layers
from eqaudit.worker import run_layers

EXAMPLES = """Examples:

eqaudit layers model.pt

eqaudit layers models.py:make_net --arg width=32 --input-shape 3,96,96"""


def layers(
    model: options.Model,
    arg: options.Arg = None,
    input_shape: options.InputShape = None,
    json: options.Json = None,
    device: options.Device = "cpu",
    threads: options.Threads = 0,
    timeout: options.Timeout = 3600.0,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """List the layers of MODEL in order of execution, with type, shape and parameters."""
    require_stdout()
    shape = None if input_shape is None else parse_integers("--input-shape", input_shape, 3)
    inputs = InputOptions(input_shape=None if shape is None else (shape[0], shape[1], shape[2]))
    plan = LayersPlan(parse_model(model, arg or []), inputs, options.run_options(device, threads))
    if json not in {None, "-"}:
        check_output(
            str(json), (plan.model.path if isinstance(plan.model, FileModel) else plan.model.source,)
        )
    with progress_bar(quiet=quiet) as on_progress, model_output(verbose=verbose) as on_output:
        listing = run_layers(plan, parse_limit("--timeout", timeout), on_progress, on_output)
    if json is not None and json != "-":
        write_file(json, to_json(listing))
    write_stdout(to_json(listing) if json == "-" else render_layers(listing, stdout_style()))
    return ExitCode.PASSED
