"""`python -m eqaudit`, and the command that is installed."""

import os
import sys
from contextlib import suppress

if __name__ == "__main__" and not sys.flags.safe_path:
    # Python's -m looks into the current folder first: its json.py is none of ours.
    del sys.path[0]

from eqaudit.errors import ExitCode
from eqaudit.reporters.escape import show
from eqaudit.requirements import import_failure
from eqaudit.stopping import Stopper


def main() -> int:
    """Run the command line; a package that is missing is told in one line, as any error is."""
    _fill_standard_streams()
    stopper = Stopper()
    stopper.listen()
    try:
        from eqaudit.cli import main as run  # noqa: PLC0415 - what it needs may be missing

        code = run()
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except ImportError as error:
        failure = import_failure(error)
        # The usual way to write an error needs packages itself. Without a standard error the code must do.
        with suppress(OSError, AttributeError):
            sys.stderr.write(f"error: {show(failure.message)}\n  {show(failure.hint)}\n")
        code = failure.exit_code
    stopper.ignore()
    return code


def _fill_standard_streams() -> None:
    """Open what is closed, so that no pipe and no report of ours gets the number of a standard stream."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


if __name__ == "__main__":
    sys.exit(main())
