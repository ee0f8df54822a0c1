"""What the pictures of a comparison share: how a model looks, what it is called, the title."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eqaudit.comparison import LETTERS, Comparison
from eqaudit.report import Report
from eqaudit.reporters.escape import brief, shorten
from eqaudit.reporters.figures import BLUE, GREEN, ORANGE, SKY, VERMILION, add_legend, wrap

LONGEST_LABEL = 32
LOOKS = (
    (BLUE, "o", "-"),
    (VERMILION, "^", "--"),
    (GREEN, "s", "-."),
    (ORANGE, "D", ":"),
    ("#CC79A7", "v", "-"),
    (SKY, "P", "--"),
    ("black", "X", "-."),
    ("0.5", "*", ":"),
)
"""Colour, mark and line of each model: lines that lie on each other are still told apart."""
COLUMNS = ((14, 4), (24, 3), (34, 2))
"""Letters of the longest label, up to which so many stand beside each other."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One model of a comparison, and how it is drawn."""

    letter: str
    report: Report
    colour: str
    marker: str
    style: str

    @property
    def label(self) -> str:
        """The letter and the name of the model."""
        name = shorten(brief(PurePath(self.report.model.spec).name), LONGEST_LABEL)
        return f"{self.letter}  {name}"


def compared_models(comparison: Comparison) -> list[Compared]:
    """Return the models in their order."""
    rows = zip(LETTERS, comparison.reports, LOOKS, strict=False)
    return [Compared(letter, report, *look) for letter, report, look in rows]


def line_of(model: Compared, *, marked: bool = True) -> Line2D:
    """Return the line that stands for a model in a legend."""
    look: dict[str, Any] = {"color": model.colour, "linestyle": model.style, "label": model.label}
    return Line2D([], [], marker=model.marker if marked else "", **look)


def name_models(figure: Figure, handles: Sequence[Artist]) -> None:
    """Say below the axes which line is which model: long names below each other."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    add_legend(figure, handles, next((columns for letters, columns in COLUMNS if longest <= letters), 1))


def set_comparison_title(figure: Figure, comparison: Comparison, text: str) -> None:
    """Say what a figure shows, and of which images."""
    inputs = comparison.reports[0].inputs
    lines = [text, *wrap(f"{inputs.samples} images of {brief(inputs.source)}")]
    figure.suptitle("\n".join(lines), fontsize=10, parse_math=False)
