"""Options that say what is required of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from eqaudit.baseline import Baseline
from eqaudit.cli.files import check_output, per_image_path
from eqaudit.cli.saved import read_whole_report
from eqaudit.errors import DataError, UsageError
from eqaudit.gate import Limits
from eqaudit.judging import By
from eqaudit.limits import Limit, parse_limit_expression, shorthand_limits
from eqaudit.parsing import exists, parse_limit, parse_optional_limit

GATE = "Gate"


@dataclass(frozen=True, slots=True)
class GateFlags:
    """What must hold, and what a failure does to the exit code."""

    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            "--limits",
            metavar="LIMIT",
            help="What must hold (repeatable): 'output.error < 1e-3', 'dice.p5 > 0.9 @ 30..60', ...",
            rich_help_panel=GATE,
        ),
    ] = None
    judge: Annotated[
        By,
        typer.Option(
            help="bound: a limit must hold for the whole 95 % interval; point: for the number alone.",
            rich_help_panel=GATE,
        ),
    ] = "bound"
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Require to be no worse than in this report of the same images (.json).",
            rich_help_panel=GATE,
        ),
    ] = None
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="T",
            help="How much worse than the baseline is allowed; 0.05 is 5 %.",
            rich_help_panel=GATE,
        ),
    ] = 0.05
    update_baseline: Annotated[
        bool,
        typer.Option(
            "--update-baseline",
            help="Write the new report to --baseline when the gate passes; the first time too.",
            rich_help_panel=GATE,
        ),
    ] = False
    no_gate: Annotated[
        bool, typer.Option("--no-gate", help="Exit with 0 also when the gate fails.", rich_help_panel=GATE)
    ] = False
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with 5 when a layer was skipped or not finite, or an image unreadable.",
            rich_help_panel=GATE,
        ),
    ] = False

    def parse(self, shorthands: Sequence[Limit] = ()) -> Limits:
        """Check the options, read the baseline, and return what is required."""
        asked = tuple(parse_limit_expression(text) for text in self.limit or ())
        return Limits((*asked, *shorthands), self.judge, self._read_baseline(), not self.no_gate)

    def _read_baseline(self) -> Baseline | None:
        tolerance = parse_limit("--tolerance", self.tolerance)
        if self.baseline is None:
            if self.update_baseline:
                raise UsageError("--update-baseline goes with --baseline", "add --baseline FILE")
            return None
        if not self.baseline:
            raise UsageError("--baseline is empty", "name a report written with --json")
        if exists(self.baseline, "--baseline") or not self.update_baseline:
            try:
                return Baseline(self.baseline, tolerance, read_whole_report(self.baseline))
            except DataError as error:
                raise DataError(f"--baseline: {error.message}", _BASELINE_HINT) from error
        return Baseline(self.baseline, tolerance, None)

    def check(self, inputs: tuple[str, ...]) -> None:
        """Make sure, before anything is measured, that the baseline can be written if it is to be."""
        if self.update_baseline and self.baseline:
            check_output(self.baseline, inputs, option="--baseline")
            check_output(per_image_path(self.baseline), inputs, option="--baseline")


_BASELINE_HINT = "write one with --update-baseline, or with eqaudit check --json"


@dataclass(frozen=True, slots=True)
class ShorthandFlags:
    """Limits that are asked so often that they have an option of their own."""

    max_error: Annotated[
        float | None,
        typer.Option(
            metavar="E",
            help="Allow this relative error, instead of asking that the group holds.",
            rich_help_panel=GATE,
        ),
    ] = None
    max_normalised_error: Annotated[
        float | None,
        typer.Option(
            metavar="S", help="Allow this share of chance (0.1 is 10 %), likewise.", rich_help_panel=GATE
        ),
    ] = None
    max_layer_error: Annotated[
        float | None,
        typer.Option(
            metavar="E",
            help="Also require of every measured layer, under the action found.",
            rich_help_panel=GATE,
        ),
    ] = None
    min_consistency: Annotated[
        float | None,
        typer.Option(
            metavar="P", help="Also require this share of equal predictions (0 to 1).", rich_help_panel=GATE
        ),
    ] = None

    def parse(self) -> tuple[Limit, ...]:
        """Return the limits that these stand for."""
        return shorthand_limits(
            max_error=parse_optional_limit("--max-error", self.max_error),
            max_normalised_error=parse_optional_limit("--max-normalised-error", self.max_normalised_error),
            max_layer_error=parse_optional_limit("--max-layer-error", self.max_layer_error),
            min_consistency=parse_optional_limit("--min-consistency", self.min_consistency, largest=1.0),
        )
