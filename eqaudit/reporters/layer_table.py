"""The table of layers: how each fails as plain maps or, where channels turn, how they do and what holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len
from rich.console import JustifyMethod, OverflowMethod, RenderableType
from rich.table import Table
from rich.text import Text

from eqaudit.holding import Candidates, names_of, turns_channels
from eqaudit.report import ElementError, Layer, Output, Report, describe_shape
from eqaudit.reporters.base import (
    NOT_PLAIN,
    SEVERITY,
    layer_name,
    layer_rows,
    shown_class,
    worst_error,
)
from eqaudit.reporters.escape import show
from eqaudit.reporters.poses import COLOURS as CLASS_COLOURS
from eqaudit.verdict import describe_fields, format_error, format_share

COLOURS = CLASS_COLOURS | {NOT_PLAIN: "cyan"}
MOST_BAR_CELLS = 10
SHARE_WIDTH = 7  # "  1.5 %" and the blank after the bar
EIGHTHS = " ▏▎▍▌▋▊▉"
AS_ABOVE = '"'
OBVIOUS = ("BC", "HW")
"""Layouts that end so need no word: a vector, or maps with space last."""


@dataclass(frozen=True, slots=True)
class Column:
    """How wide a column is: ``least``, down to which it gives way, earliest by ``order``; None for never.

    ``most`` is what it takes where there is room.
    """

    title: str
    least: int | None = None
    order: int = 0
    most: int = 0
    folds: bool = False
    justify: JustifyMethod = "left"


NAME = Column("layer", least=12, order=3, folds=True)
TYPE = Column("type", least=6, order=1)
SHARE = Column("of chance", most=SHARE_WIDTH + MOST_BAR_CELLS)
PLAIN = (NAME, TYPE, Column("shape"), Column("worst"), Column("error ±95%"), SHARE, Column("class"))
TURNING = (
    NAME,
    TYPE,
    Column("shape"),
    Column("channels turn as", least=16, order=2, folds=True),
    Column("error", justify="right"),
    Column("if read as\nplain maps", justify="right"),
    Column("holds", least=10, order=4, folds=True),
)


def layer_table(report: Report, width: int) -> list[RenderableType]:
    """Return the table of layers and outputs, what it does not say itself, and why some were skipped."""
    layers = [*report.layers, *report.outputs]
    columns, cells = layer_cells(report)
    table, below = (_turning_table if columns is TURNING else _plain_table)(report, cells, width)
    layouts = dict.fromkeys(layer.layout for layer in layers if layer.layout and ":" in layer.layout)
    reasons = [(layer_name(layer), layer.skipped) for layer in layers if layer.skipped]
    return [
        table,
        *(Text(line) for line in below),
        *(Text(show(layout)) for layout in layouts),
        *(Text(f"skipped  {name}: {show(reason)}") for name, reason in reasons),
    ]


def layer_cells(report: Report) -> tuple[Sequence[Column], list[list[str]]]:
    """Return what any table of layers says: its columns, and the cells of each layer and output."""
    layers = [*report.layers, *report.outputs]
    if any(turns_channels(layer) and not layer.skipped for layer in layers):
        candidates = Candidates.of(report)
        return TURNING, [_turning_cells(layer, candidates) for layer in layers]
    return PLAIN, [_plain_cells(layer, later) for layer, later in layer_rows(report)]


def _plain_table(report: Report, cells: list[list[str]], width: int) -> tuple[Table, list[str]]:
    widths = fit(PLAIN, cells, width)
    table, share = _empty(PLAIN, widths), widths[PLAIN.index(SHARE)]
    bars = share - SHARE_WIDTH if share > len(SHARE.title) else 0
    for layer, row in zip([*report.layers, *report.outputs], cells, strict=True):
        error = worst_error(layer)
        drawn = "" if error is None else f"{_bar(error.normalised, bars)} {row[5]:>6}".rjust(share)
        name = Text(row[6], style=COLOURS.get(row[6], "magenta"))
        table.add_row(*map(Text, row[:5]), Text(drawn), name, style=_style(layer))
    return table, []


def _plain_cells(layer: Layer, later: frozenset[str]) -> list[str]:
    error = worst_error(layer)
    if error is None:
        return [*_first_cells(layer), "", "", "", "skipped"]
    size = f"{format_error(error.error)}{_plus_minus(error.ci95)}"
    share = format_share(error.normalised)
    return [*_first_cells(layer), error.element, size, share, shown_class(error, later)]


def _turning_table(report: Report, cells: list[list[str]], width: int) -> tuple[Table, list[str]]:
    layers = [*report.layers, *report.outputs]
    widths = fit(TURNING, cells, width)
    table = _empty(TURNING, widths)
    for layer, row, words in zip(layers, cells, _fitting_words(layers, widths[3]), strict=True):
        colour = {report.group.name: "green", "-": "red"}.get(row[6], COLOURS.get(row[6], "yellow"))
        shown = [*row[:3], words, *row[4:6]]
        table.add_row(*map(Text, shown), Text(row[6], style=colour), style=_style(layer))
    return table, list(_worst_failure(report))


def _turning_cells(layer: Layer, candidates: Candidates) -> list[str]:
    """Return the cells of one layer: errors are the largest at the elements at which its group holds."""
    if layer.skipped or not layer.errors:
        return [*_first_cells(layer), "", "", "", "skipped"]
    groups = candidates.held(layer)
    held = candidates.names(groups)
    errors = [error for error in layer.errors if error.element in held] or layer.errors
    error = format_error(_largest(errors, lambda error: error.error))
    plain = format_error(_largest(errors, lambda error: error.trivial_error))
    dead = all(error.class_ == "degenerate" for error in layer.errors)
    name = "degenerate" if dead else names_of([group for group in groups if group.moving]) or "-"
    return [*_first_cells(layer), _words(layer), error, plain, name]


def _first_cells(layer: Layer) -> list[str]:
    letters = (layer.layout or "").partition(":")[0]
    order = "" if not letters or letters.endswith(OBVIOUS) else f" {show(letters)}"
    return [layer_name(layer), show(layer.type), describe_shape(layer.shape) + order]


def _largest(errors: Sequence[ElementError], read: Callable[[ElementError], float | None]) -> float | None:
    values = [read(error) for error in errors]
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def _fitting_words(layers: Sequence[Layer], width: int) -> list[str]:
    """Return how the channels of each layer turn: in one line where it can, else the first time only."""
    words = [_fitting(layer, width) for layer in layers]
    below = [AS_ABOVE if one == two and len(one) > width else two for one, two in pairwise(words)]
    return [*words[:1], *below]


def _fitting(layer: Layer, width: int) -> str:
    """Return the words for an action, without the roll, then without the axis where that is too long."""
    words = _words(layer)
    if len(words) <= width or layer.representation is None or layer.representation.kind != "permutation":
        return words
    without_roll = words.partition(", roll ")[0]
    return without_roll if len(without_roll) <= width else show(describe_fields(layer.representation))


def _words(layer: Layer) -> str:
    found = layer.representation
    if found is None:
        return ""
    return f"vacuous ({show(found.words)})" if found.kind == "vacuous" else show(found.words)


def _worst_failure(report: Report) -> Iterator[str]:
    """Say in one line where a layer fails most, its own action or plain maps taken."""
    failing = [
        (layer, error, shown_class(error, later))
        for layer, later in layer_rows(report)
        for error in layer.errors
        if error.class_ in {"approximate", "broken"}
    ]
    if failing:
        layer, error, name = max(
            failing, key=lambda found: (SEVERITY.index(found[1].class_), found[1].normalised or 0.0)
        )
        share = format_share(error.normalised)
        size = f"{format_error(error.error)}, {share} of chance"
        yield f"worst: {layer_name(layer)} at {error.element}, {size}: {name}"


def fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the width of each column: some take what is left; where it is short, others give."""
    titles = [max(column.title.split("\n"), key=len) for column in columns]
    widths = [max(cell_len(cell) for cell in cells) for cells in zip(titles, *rows, strict=True)]
    left = width - sum(widths) - len(widths) + 1
    for place, column in enumerate(columns):
        taken = min(max(left, 0), max(column.most - widths[place], 0))
        widths[place] += taken
        left -= taken
    for place in sorted(range(len(columns)), key=lambda place: columns[place].order):
        least = columns[place].least
        if least is not None:
            taken = min(max(-left, 0), max(widths[place] - least, 0))
            widths[place] -= taken
            left += taken
    return widths


def _empty(columns: Sequence[Column], widths: Sequence[int]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", collapse_padding=True)
    for column, cells in zip(columns, widths, strict=True):
        # A name that does not fit goes on in the next line; what a layer is may be cut.
        overflow: OverflowMethod = "fold" if column.folds else "ellipsis"
        table.add_column(
            column.title, width=cells, overflow=overflow, no_wrap=not column.folds, justify=column.justify
        )
    return table


def _style(layer: Layer) -> str:
    return "bold" if isinstance(layer, Output) and layer.gating else ""


def _plus_minus(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    half = (interval[1] - interval[0]) / 2
    return f" ±{half:.2g}" if half >= 0.001 else f" ±{format_error(half)}"  # noqa: PLR2004 - as format_error


def _bar(share: float | None, cells: int) -> str:
    """Draw a share of chance in eighths of a cell; beyond 100 % it stays full."""
    eighths = round(8 * cells * min(max(share or 0.0, 0.0), 1.0))
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()).ljust(cells)
