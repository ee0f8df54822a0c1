"""One root error, with a message, a hint and the exit code it earns; imports nothing of ours."""

from enum import IntEnum


def is_out_of_memory(message: str) -> bool:
    """Tell whether torch, or who loads its libraries, says that memory is used up; they have no exception."""
    said = (
        "can't allocate memory",
        "Cannot allocate memory",
        "failed to map segment",
        "not enough memory",
        "out of memory",
    )
    return any(words in message for words in said)


class ExitCode(IntEnum):
    """Every code that a command can end with."""

    PASSED = 0
    GATE_FAILED = 1
    USAGE = 2
    CANNOT_RUN = 3
    INTERNAL = 4
    INCOMPLETE = 5
    INTERRUPTED = 130


class EqauditError(Exception):
    """The audit cannot be done: says what, where, expected and got, and what to do next.

    Parameters
    ----------
    message
        One line: what is wrong and where. It may hold foreign text (file names, messages of a
        model); whoever shows it escapes it.
    hint
        One line that says what to do next; may be empty.
    """

    exit_code = ExitCode.CANNOT_RUN

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return the message, with what callers have added to it."""
        return self.message


class UsageError(EqauditError):
    """The request itself is wrong: an option, a spec, a pattern, an output path."""

    exit_code = ExitCode.USAGE


class ExpressionError(UsageError):
    """A text in a small language of ours cannot be read from ``column`` on, which counts from 1."""

    def __init__(self, message: str, hint: str, text: str, column: int) -> None:
        super().__init__(message, hint)
        self.text = text
        self.column = column


class ModelError(EqauditError):
    """The model is missing, refused, damaged, or raises when it is called."""


class DataError(EqauditError):
    """The images are missing, unreadable, or of a shape that the model does not take."""


class WorkerError(EqauditError):
    """The measuring process died, ran out of time or of memory."""
