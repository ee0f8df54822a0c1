"""What the option parser writes: help pages, as every other output is written, and its errors as our own."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from eqaudit.cli.streams import collected_stdout
from eqaudit.errors import UsageError


class Group(TyperGroup):
    """The program. Typer prints help while it parses, and makes a closed pipe into exit code 1."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and write the help page or the version if one was asked for."""
        with collected_stdout():
            return super().parse_args(ctx, args)


class Command(TyperCommand):
    """A command, likewise."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and write the help page if it was asked for."""
        with collected_stdout():
            return super().parse_args(ctx, args)


def usage_error(error: Exception) -> UsageError | None:
    """Translate an error of the option parser, whichever copy of click typer brings."""
    describe = getattr(error, "format_message", None)
    if describe is None:
        return None
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "eqaudit"
    # After a help page that nobody asked for, typer has nothing more to say.
    message = " ".join(describe().split()) or "no command was given"
    return UsageError(message, f"see {command} --help")
