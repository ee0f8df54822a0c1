"""The command line: options become a plan, the worker measures, reporters write, errors become codes."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

import typer

from eqaudit.bounds import describe_bounds
from eqaudit.cli import check, compare, diagnose, features, init, layers, render, sweep_angles
from eqaudit.cli.audits import Asked
from eqaudit.cli.help import Command, Group, usage_error
from eqaudit.cli.streams import write_error, write_stderr, write_stdout
from eqaudit.errors import EqauditError, ExitCode
from eqaudit.reporters.escape import show
from eqaudit.requirements import import_failure
from eqaudit.version import __version__
from eqaudit.worker import InternalError


def _run(asked: ExitCode | Asked, **_options: Any) -> ExitCode:
    """Run what a command made of its options, if it did not end already."""
    return asked.run() if isinstance(asked, Asked) else asked


app = typer.Typer(
    result_callback=_run,
    name="eqaudit",
    cls=Group,
    help="Audit vision models for equivariance to rotations and reflections.",
    epilog="Example: eqaudit check model.pt --group C4\n\n"
    f"Bounds, beyond which a file is refused: {describe_bounds()}. For time there is --timeout.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=Command, epilog=check.EXAMPLES)(check.check)
app.command(
    cls=Command,
    epilog=init.EXAMPLES,
    options_metavar="MODEL [OPTIONS OF CHECK]",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(init.init)
app.command("sweep-angles", cls=Command, epilog=sweep_angles.EXAMPLES)(sweep_angles.sweep_angles)
app.command(cls=Command, epilog=features.EXAMPLES)(features.features)
app.command(cls=Command, epilog=compare.EXAMPLES)(compare.compare)
app.command(cls=Command, epilog=diagnose.EXAMPLES)(diagnose.diagnose)
app.command(cls=Command, epilog=layers.EXAMPLES)(layers.layers)
app.command(cls=Command, epilog=render.EXAMPLES)(render.render)


def _print_version(value: bool) -> None:
    if value:
        write_stdout(f"eqaudit {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; no exception leaves it.

    Parameters
    ----------
    arguments
        Without the program's name; those of the process when left out.
    """
    try:
        code = int(app(arguments, standalone_mode=False) or ExitCode.PASSED)
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    except EqauditError as error:
        write_error(error)
        return error.exit_code
    except InternalError as error:
        return _report_bug(str(error))
    except ImportError as error:
        failure = import_failure(error)
        write_error(failure)
        return failure.exit_code
    except Exception as error:  # noqa: BLE001 - an uncaught exception would exit with 1, which reads "gate failed"
        usage = usage_error(error)
        if usage is None:
            return _report_bug(traceback.format_exc())
        write_error(usage)
        return usage.exit_code
    # Typer makes Ctrl-C into this code, or into Abort in its older versions.
    if code == ExitCode.INTERRUPTED:
        write_stderr("interrupted: no file is left half-written")
    return code


def _report_bug(trace: str) -> int:
    write_stderr("\n".join(show(line) for line in trace.splitlines()))
    write_stderr(
        f"error: this is a bug of eqaudit {__version__} (Python {sys.version.split()[0]})\n"
        "  please report it with the lines above and the command"
    )
    return ExitCode.INTERNAL
