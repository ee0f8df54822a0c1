"""What the pictures of features show, in numbers: how the channels of each layer turn, and its errors."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from eqaudit.report import Audited, ElementError
from eqaudit.reporters.base import layer_name
from eqaudit.reporters.console import Style, render
from eqaudit.reporters.escape import show
from eqaudit.reporters.poses import COLOURS, angle_label
from eqaudit.reporters.terminal import header
from eqaudit.verdict import format_error, format_share


def render_features(audited: Audited, style: Style) -> str:
    """Return a row for each layer and angle: error, floor, share of chance, class; and what is not drawn."""
    report = audited.report
    undrawn = audited.features.undrawn if audited.features is not None else []
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in ("layer", "channels turn as"):
        table.add_column(title, overflow="fold")
    for title in ("angle", "error", "floor", "chance"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("class", no_wrap=True)
    for layer in report.layers:
        found = layer.representation
        names = [layer_name(layer), show(found.words if found is not None else "")]
        if layer.skipped:
            table.add_row(*map(Text, names), Text(""), Text(""), Text(""), Text(""), Text("skipped"))
        for pose, error in zip(report.group.elements, layer.errors, strict=False):
            table.add_row(*map(Text, names), Text(angle_label(pose)), *_cells(error))
            names = ["", ""]
    notes = [f"not drawn  {show(layer.name)}: {show(layer.reason)}" for layer in undrawn]
    notes += [
        f"skipped  {layer_name(layer)}: {show(layer.skipped)}" for layer in report.layers if layer.skipped
    ]
    parts: list[RenderableType] = [header(report), "", table, *map(Text, notes)]
    return render(parts, style)


def _cells(error: ElementError) -> list[Text]:
    numbers = [format_error(error.error), format_error(error.floor), format_share(error.normalised)]
    return [*map(Text, numbers), Text(error.class_, style=COLOURS[error.class_])]
