"""Help pages, written as every other output is: a full disk or a closed pipe is no bug."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from eqaudit.cli.output import collected_stdout


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
