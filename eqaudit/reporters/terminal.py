"""The audit as a person reads it in a terminal: layers, output by element, verdict, what to do next."""

from __future__ import annotations

from pathlib import PurePath

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from eqaudit.groups import Group
from eqaudit.report import Layer, Model, Report
from eqaudit.reporters.base import (
    NOT_PLAIN,
    first_breaking_layer,
    later_exact,
    layer_name,
    show,
    shown_class,
    worst_error,
)
from eqaudit.reporters.console import Style, render
from eqaudit.verdict import format_error, format_share, holding_groups

KINDS = {"torchscript": "TorchScript", "exported": "exported program", "python": "Python", "onnx": "ONNX"}
COLOURS = {
    "exact": "green",
    "at the floor": "green",
    "approximate": "yellow",
    "broken": "red",
    NOT_PLAIN: "cyan",
    "degenerate": "magenta",
    "unresolved": "magenta",
}
BAR_CELLS = 8
EIGHTHS = " ▏▎▍▌▋▊▉"


def render_check(report: Report, style: Style) -> str:
    """Return the whole report as text."""
    parts: list[RenderableType] = [_header(report), "", _layers(report), "", _by_element(report), ""]
    return render([*parts, _conclusion(report), "", _gate(report)], style)


def render_verdict(report: Report, style: Style) -> str:
    """Return the verdict and the gate alone."""
    return render([_conclusion(report), "", _gate(report)], style)


def describe_model(model: Model, layers: int) -> str:
    """Return one line on a model: name, kind, size."""
    plural = "" if layers == 1 else "s"
    size = f"{model.parameters:,} parameters, {layers} layer{plural}"
    return f"{show(PurePath(model.spec).name)}  {KINDS[model.kind]}, {size}"


def describe_shape(shape: tuple[int, ...] | list[int] | None) -> str:
    """Write the shape of one image's feature as 6x28x28."""
    return "-" if shape is None else "x".join(str(size) for size in shape) or "1"


def _header(report: Report) -> RenderableType:
    inputs, tool = report.inputs, report.tool
    values = inputs.values
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim")
    grid.add_column()
    grid.add_row("model", Text(describe_model(report.model, len(report.layers))))
    grid.add_row(
        "", Text(f"{tool.dtype}, {tool.device}, seed {tool.seed}, torch {tool.torch}, eqaudit {tool.version}")
    )
    grid.add_row(
        "input",
        Text(
            f"{inputs.samples} images ({show(inputs.source)}), {describe_shape(inputs.shape)}, "
            f"values {values.minimum:.3g} to {values.maximum:.3g}, mean {values.mean:.3g}"
        ),
    )
    grid.add_row("", Text(show(inputs.shape_reason)))
    grid.add_row("", Text(show("; ".join(inputs.preprocessing))))
    for skipped in inputs.skipped:
        grid.add_row("skipped", Text(f"{show(skipped.name)}: {show(skipped.reason)}"))
    grid.add_row("group", Text(_describe_group(report)))
    for warning in report.warnings:
        grid.add_row("note", Text(show(warning), style="yellow"))
    return grid


def _describe_group(report: Report) -> str:
    moving = len(report.group.elements) - 1
    mirrors = any(element.mirrored for element in report.group.elements)
    kind = "turns and mirrors" if mirrors else "turns"
    return f"{report.group.name}, {moving} {kind} of the square, all exact (no resampling)"


def _layers(report: Report) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("layer", overflow="fold", min_width=5)
    table.add_column("type", overflow="fold", min_width=4)
    table.add_column("shape", overflow="fold")
    table.add_column("worst", no_wrap=True)
    table.add_column("error ±95%", no_wrap=True)
    table.add_column("of chance", no_wrap=True)
    table.add_column("class", overflow="fold", min_width=9)
    for layer, later in zip(report.layers, later_exact(report), strict=True):
        table.add_row(*_layer_row(layer, later))
    for output in report.outputs:
        table.add_row(*_layer_row(output, frozenset()), style="bold" if output.gating else "")
    return table


def _layer_row(layer: Layer, later: frozenset[str]) -> list[Text]:
    start = [Text(layer_name(layer)), Text(show(layer.type)), Text(describe_shape(layer.shape))]
    error = worst_error(layer)
    if error is None:
        return [
            *start,
            Text(""),
            Text("skipped", style="magenta"),
            Text(""),
            Text(show(layer.skipped or ""), style="magenta"),
        ]
    name = shown_class(error, later)
    return [
        *start,
        Text(error.element),
        Text(f"{format_error(error.error)}{_plus_minus(error.ci95)}"),
        Text(f"{_bar(error.normalised)} {format_share(error.normalised):>6}"),
        Text(name, style=COLOURS[name]),
    ]


def _plus_minus(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    half = (interval[1] - interval[0]) / 2
    return f" ±{half:.2g}" if half >= 0.001 else f" ±{format_error(half)}"  # noqa: PLR2004 - as format_error


def _bar(share: float | None) -> str:
    """Draw a share of chance in eighths of a cell; beyond 100 % it stays full."""
    eighths = round(8 * BAR_CELLS * min(max(share or 0.0, 0.0), 1.0))
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()).ljust(BAR_CELLS)


def _by_element(report: Report) -> RenderableType:
    output = report.gating_output
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column(layer_name(output), no_wrap=True)
    for error in output.errors:
        table.add_column(error.element, justify="right", overflow="fold")
    table.add_row("error", *(format_error(error.error) for error in output.errors))
    table.add_row("of chance", *(format_share(error.normalised) for error in output.errors))
    confirmed = [error.float64_error if error.class_ == "exact" else None for error in output.errors]
    if any(value is not None for value in confirmed):
        table.add_row("in float64", *(format_error(value) for value in confirmed))
    if report.predictions is not None:
        table.add_row("same class", *(_percent(row.consistency) for row in report.predictions.by_element))
    table.add_row(
        "class", *(Text(_short(error.class_), style=COLOURS[error.class_]) for error in output.errors)
    )
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _short(name: str) -> str:
    return "approx" if name == "approximate" else name


def _conclusion(report: Report) -> RenderableType:
    lines = [report.verdict.sentence if report.verdict else ""]
    if report.predictions is not None and len(report.group.elements) > 1:
        share = _percent(report.predictions.orbit_consistency)
        lines.append(f"The predicted class survives all of {report.group.name} for {share} of the images.")
    if report.float64_images:
        lines.append(_float64_line(report))
    breaking = first_breaking_layer(report)
    if breaking is not None and not (report.gate and report.gate.passed):
        lines.append(f"First layer that breaks: {layer_name(breaking)}.")
    return Text("\n".join(show(line) for line in lines))


def _float64_line(report: Report) -> str:
    errors = [error for error in report.gating_output.errors if error.float64_error is not None]
    exact = [error for error in errors if error.class_ == "exact"]
    if all(error.class_ in {"unresolved", "degenerate"} for error in errors):
        return f"Rerun in float64 on {report.float64_images} images: nothing to tell."
    said = f"Rerun in float64 on {report.float64_images} images"
    if not exact:
        return f"{said}: the errors are the model's, not rounding."
    largest = max(error.float64_error or 0.0 for error in exact)
    rounding = max(error.error or 0.0 for error in exact)
    return f"{said}: {format_error(largest)} where exact, so the {format_error(rounding)} is rounding."


def _gate(report: Report) -> RenderableType:
    if report.gate is None:
        return Text("")
    if report.gate.passed:
        reasons = [check.reason for check in report.gate.checks[-1:]]
        return Text.assemble(("PASSED", "bold green"), "  ", show("; ".join(reasons)))
    failed = [show(check.reason) for check in report.gate.checks if not check.passed]
    text = Text.assemble(("FAILED", "bold red"), "  ", "\n        ".join(failed))
    for hint in _hints(report):
        text.append(f"\n  {hint}")
    return text


def _hints(report: Report) -> list[str]:
    hints = []
    group = Group.named(report.group.name)
    named = [
        held.name
        for held in holding_groups(report)
        if held.moving and held != group and not held.name.startswith("{")
    ]
    if named and not report.determinism.cause:
        hints.append(f"{named[0]} holds: to require just that, add  --group {named[0]}")
    if report.inputs.source.startswith("builtin:"):
        hints.append("builtin pictures are not your data: add --data FOLDER (and --mean, --std)")
    return [*hints, "to see numbers without judging add --no-gate; to allow some, --max-error 0.1"]
