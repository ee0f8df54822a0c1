"""The layers of a model as a table."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from eqaudit.report import Listing, describe_shape
from eqaudit.reporters.console import Style, render
from eqaudit.reporters.escape import show
from eqaudit.reporters.terminal import describe_model


def render_layers(listing: Listing, style: Style) -> str:
    """Return the layers in order of execution, one line each; names are never cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for title in ("layer", "call", "type", "shape", "parameters", "note"):
        table.add_column(title, no_wrap=True, justify="right" if title in {"call", "parameters"} else "left")
    for layer in listing.layers:
        cells = [
            show(layer.name),
            str(layer.call),
            show(layer.type),
            describe_shape(layer.shape),
            f"{layer.parameters:,}",
        ]
        table.add_row(
            *(Text(cell) for cell in cells), Text(f"skipped: {show(layer.skipped)}" if layer.skipped else "")
        )
    head = [
        Text(describe_model(listing.model, len(listing.layers))),
        Text(f"input {describe_shape(listing.input_shape)}: {show(listing.shape_reason)}"),
    ]
    note = [Text(show(listing.model.note))] if listing.model.note else []
    longest = 40 + max(
        (len(layer.name) + len(layer.type) + len(layer.skipped or "") for layer in listing.layers), default=0
    )
    wide = Style(max(style.width, longest + 40), style.colour, style.encoding)
    return render([*head, *note, "", table], wide)
