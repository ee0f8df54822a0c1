"""The audit as a person reads it in a terminal: layers, output by element, verdict, what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from eqaudit.gate import GROUP_HOLDS, SOUND, unsound
from eqaudit.groups import IDENTITY, Group
from eqaudit.holding import NOTHING, describe_ranges, holding_groups, turns_channels
from eqaudit.plan import AUTO, AUTO_GROUPS
from eqaudit.report import HOLDING, Gate, GateCheck, Inputs, Layer, Model, Report, Resampling, describe_shape
from eqaudit.reporters.base import first_breaking_layer, gate_checks, is_judged, layer_name, worst_error
from eqaudit.reporters.console import NARROWEST, Style, render
from eqaudit.reporters.diagnosis import cause_parts, diagnosis_parts
from eqaudit.reporters.escape import show
from eqaudit.reporters.layer_table import COLOURS, layer_table
from eqaudit.reporters.poses import class_table, percent, pose_table
from eqaudit.verdict import describe_elements, format_error, format_share

KINDS = {"torchscript": "TorchScript", "exported": "exported program", "python": "Python", "onnx": "ONNX"}
MOST_COLUMNS = 7
MOST_FAILURES = 9


def render_report(report: Report, style: Style) -> str:
    """Return the whole report as text."""
    parts: list[RenderableType] = [header(report), ""]
    if report.layers or report.kind == "check":
        parts += [*layer_table(report, max(style.width, NARROWEST)), ""]
    upright = report.kind == "sweep" or report.resampling or len(report.gating_output.errors) > MOST_COLUMNS
    parts += [pose_table(report) if upright else _by_element(report), ""]
    classes = class_table(report)
    if classes is not None:
        parts += ["accuracy by class", classes, ""]
    return render([*parts, *_end(report)], style)


def render_why(report: Report, style: Style) -> str:
    """Return what a diagnosis found, without the tables of errors."""
    return render([header(report), "", *_end(report)], style)


def render_verdict(report: Report, style: Style) -> str:
    """Return the verdict, the causes if they were asked for, and the gate."""
    causes = [] if report.diagnose is None else [*cause_parts(report.diagnose), ""]
    return render([_conclusion(report), "", *causes, _gate(report)], style)


def _end(report: Report) -> list[RenderableType]:
    why = [] if report.diagnose is None else [*diagnosis_parts(report.diagnose), ""]
    return [_conclusion(report), "", *why, _gate(report)]


def render_failure(report: Report) -> str:
    """Return why a report did not pass, in a few lines: for an assertion."""
    output = report.gating_output
    breaking = first_breaking_layer(report)
    rows = [(breaking, worst_error(breaking))] if breaking is not None else []
    failing = sorted(output.errors, key=lambda error: -(error.error or 0.0))
    rows += [(output, error) for error in failing if error.class_ not in HOLDING]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("layer", "element", "error", "of chance", "class"):
        table.add_column(title)
    for layer, error in rows[:MOST_FAILURES]:
        if error is not None:
            cells = error.element, format_error(error.error), format_share(error.normalised), error.class_
            table.add_row(*map(Text, (layer_name(layer), *cells)))
    more = len(rows) - MOST_FAILURES
    said = [report.verdict.sentence if report.verdict else "", *describe_where(report)]
    said += [f"FAILED  {check.reason}" for check in gate_checks(report) if not check.passed]
    parts: list[RenderableType] = [Text("\n".join(map(show, said)))]
    parts += ["", table] if rows else []
    parts += [f"and {more} more"] if more > 0 else []
    return render(parts, Style())


def describe_model(model: Model, layers: int | None) -> str:
    """Return one line on a model: name, kind, size; ``layers`` None where they were not looked at."""
    size = f"{model.parameters:,} parameters"
    if layers is not None:
        size += f", {layers} layer{'' if layers == 1 else 's'}"
    return f"{show(PurePath(model.spec).name)}  {KINDS[model.kind]}, {size}"


def describe_images(inputs: Inputs) -> str:
    """Return how many images there were, from where, and their shape."""
    plural = "" if inputs.samples == 1 else "s"
    return f"{inputs.samples} image{plural} ({show(inputs.source)}), {describe_shape(inputs.shape)}"


def header(report: Report) -> RenderableType:
    """Return what was measured, on which images and how: the head of every table."""
    inputs, tool = report.inputs, report.tool
    values = inputs.values
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim")
    grid.add_column()
    layers = len(report.layers) if report.layers or report.kind == "check" else None
    grid.add_row("model", Text(describe_model(report.model, layers)))
    grid.add_row(
        "",
        Text(
            f"{tool.dtype}{' with TF32' if tool.tf32 else ''}, {tool.device}, seed {tool.seed}, "
            f"torch {tool.torch}, eqaudit {tool.version}"
        ),
    )
    grid.add_row(
        "input",
        Text(
            f"{describe_images(inputs)}, "
            f"values {values.minimum:.3g} to {values.maximum:.3g}, mean {values.mean:.3g}"
        ),
    )
    grid.add_row("", Text(show(inputs.shape_reason)))
    grid.add_row("", Text(show("; ".join(inputs.preprocessing))))
    for skipped in inputs.skipped:
        grid.add_row("skipped", Text(f"{show(skipped.name)}: {show(skipped.reason)}"))
    grid.add_row("angles" if report.kind == "sweep" else "group", Text(describe_group(report)))
    if report.resampling is not None:
        grid.add_row("", Text(describe_resampling(report.resampling)))
    for reason in _describe_task(report):
        grid.add_row("task", Text(show(reason)))
    for warning in [*report.warnings, *_turning_output(report)]:
        grid.add_row("note", Text(show(warning), style="yellow"))
    return grid


def _turning_output(report: Report) -> Iterator[str]:
    output = report.gating_output
    if turns_channels(output):
        yield (
            f"the channels of {layer_name(output)} turn with the image; if they are class scores, say "
            "--task classification (or segmentation), which reads them as they are"
        )


def describe_group(report: Report) -> str:
    """Return which turns and mirrors there were, and how many of them resample."""
    poses = report.group.elements
    mirrors = any(pose.mirrored for pose in poses)
    if report.kind == "sweep":
        lowest, highest = (pick(pose.degrees for pose in poses) for pick in (min, max))
        moves = f"{lowest:g} to {highest:g} degrees, {len(poses)} turns{' and mirrors' if mirrors else ''}"
    else:
        name = f"the largest of {', '.join(AUTO_GROUPS)}" if report.group.name == AUTO else report.group.name
        count = sum(pose.name != str(IDENTITY) for pose in poses)
        moves = f"{name}, {count} {'turns and mirrors' if mirrors else 'turns'}"
    resampled = sum(not pose.exact for pose in poses)
    if not resampled:
        return f"{moves} of the square, all exact (no resampling)"
    unmoved = report.kind == "check" and any(pose.name == str(IDENTITY) for pose in poses)
    return f"{moves}: {len(poses) - resampled - unmoved} exact, {resampled} resampled"


def describe_resampling(found: Resampling) -> str:
    """Return how images were resampled, and what that did to the output."""
    methods = dict.fromkeys([found.interpolation, found.feature_interpolation])
    margin = "the receptive radius" if found.margin is None else f"{found.margin:.3g} px"
    parts = [f"{' and '.join(methods)} resampling", f"boundary {found.boundary}, margin {margin}"]
    parts.append(f"floor from {found.floor_images} images" if found.floor_images else "no floor measured")
    if found.window is not None and found.window.error is not None:
        kept = (
            "" if found.window.kept is None else f" and keeps {percent(found.window.kept)} of what it decides"
        )
        parts.append(f"the window alone changes the output by {format_error(found.window.error)}{kept}")
    return "; ".join(parts)


def _describe_task(report: Report) -> Iterator[str]:
    if report.predictions is not None:
        found = report.predictions
        kind = "" if found.kind == "multi-class" else f", {found.kind}, threshold {found.threshold:g}"
        yield f"classification, {found.classes} {found.scores}{kind}: {found.reason}"
    if report.segmentation is not None:
        masks = report.segmentation
        how = (
            "the largest score"
            if masks.threshold is None
            else f"{masks.scores}, threshold {masks.threshold:g}"
        )
        yield f"segmentation, {', '.join(masks.classes)} by {how}: {masks.reason}"
    if report.dense is not None:
        yield f"dense: {report.dense.reason}"
    if report.embedding is not None:
        yield f"embedding: {report.embedding.reason}"


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
        table.add_row("same class", *(percent(row.consistency) for row in report.predictions.by_element))
    table.add_row(
        "class", *(Text(_short(error.class_), style=COLOURS[error.class_]) for error in output.errors)
    )
    return table


def _short(name: str) -> str:
    return "approx" if name == "approximate" else name


def _conclusion(report: Report) -> RenderableType:
    lines = [report.verdict.sentence if report.verdict else ""]
    if not unsound(report.gate):
        lines += _details(report)
    return Text("\n".join(show(line) for line in lines))


def _details(report: Report) -> Iterator[str]:
    yield from _decisions(report)
    if report.gating_output.no_floor is not None:
        yield f"{layer_name(report.gating_output)}: {report.gating_output.no_floor}."
    errors = [error for error in report.gating_output.errors if error.float64_error is not None]
    exact = [error for error in errors if error.class_ == "exact"]
    said = f"Rerun in float64 on {report.float64_images} images"
    if exact and any(error.error for error in exact):
        largest = max(error.float64_error or 0.0 for error in exact)
        rounding = max(error.error or 0.0 for error in exact)
        yield f"{said}: {format_error(largest)} where exact, so the {format_error(rounding)} is rounding."
    elif errors and len(exact) == len(errors):
        largest = max(error.float64_error or 0.0 for error in exact)
        yield f"{said}: {format_error(largest)}, exact with the weights as stored."
    elif errors:
        yield f"{said}: the errors are the model's, not rounding."
    yield from describe_where(report)


def describe_where(report: Report) -> Iterator[str]:
    """Say at which layers a group holds, where that is not in the sentence, and which layer breaks first."""
    ranges = report.verdict.by_layer if report.verdict else []
    turning = any(turns_channels(layer) for layer in report.layers)
    if turning and ranges and (report.kind == "sweep" or ranges[-1].group != NOTHING):
        yield f"{describe_ranges(ranges)}."
    breaking = first_breaking_layer(report)
    if breaking is not None and not (report.gate and report.gate.passed):
        yield f"First layer that breaks: {layer_name(breaking)}{_breaking_elements(report, breaking)}."


def _breaking_elements(report: Report, layer: Layer) -> str:
    """Say at which elements a layer breaks, of a group that has turns and mirrors."""
    if report.kind == "sweep" or report.group.name == AUTO:
        return ""
    failing = [error for error in layer.errors if error.class_ in {"approximate", "broken"}]
    group = Group.named(report.group.name)
    return f" ({describe_elements(failing, group)})" if group.mirror is not None else ""


def _decisions(report: Report) -> Iterator[str]:
    found = report.predictions
    if found is not None and found.orbit_consistency is not None:
        orbit = (
            f"all {len(found.by_element)} poses"
            if report.kind == "sweep" or report.group.name == AUTO
            else f"all of {report.group.name}"
        )
        share = percent(found.orbit_consistency)
        yield f"The predicted class survives {orbit} for {share} of the images."
    if found is not None and found.worst_accuracy is not None and found.unmoved and found.unmoved.accuracy:
        worst = found.worst_accuracy
        unmoved = percent(found.unmoved.accuracy.value)
        yield f"Accuracy is {unmoved} unmoved and {percent(worst.accuracy)} at {worst.element}, the worst."
        row = next(row for row in found.by_element if row.element == worst.element)
        if row.consistency_when_right is not None:
            share = percent(row.consistency_when_right.value)
            yield f"Of the images right when unmoved, {share} keep their class there."
    if report.segmentation is not None:
        rows = report.segmentation.by_element
        lowest = min(rows, key=lambda row: row.dice.mean)
        yield (
            f"Dice with the turned mask is least at {lowest.element}: {lowest.dice.mean:.4f} on average, "
            f"least for {show(lowest.dice.worst_image)}."
        )
        empty = sum(row.both_empty for row in rows), sum(row.one_empty for row in rows)
        if any(empty):
            yield f"Both masks were empty in {empty[0]} pairs (Dice 1), one in {empty[1]} (Dice 0)."


def _gate(report: Report) -> RenderableType:
    if report.gate is None:
        return Text("")
    if report.gate.passed:
        reasons = [_reason(check) for check in report.gate.checks if check.name not in SOUND]
        return Text.assemble(("PASSED", "bold green"), "  ", "\n        ".join(reasons))
    failed = [_reason(check) for check in report.gate.checks if not check.passed]
    text = Text.assemble(("FAILED", "bold red"), "  ", "\n        ".join(failed))
    for hint in _hints(report, report.gate):
        text.append(f"\n  {hint}")
    return text


def _reason(check: GateCheck) -> str:
    return show(check.reason + (f" [{check.source}]" if check.source else ""))


def _hints(report: Report, gate: Gate) -> list[str]:
    ending = "to see numbers without judging add --no-gate" if is_judged(report) else "not judged: --no-gate"
    if unsound(gate):
        return [ending]  # no limit would help
    if all(check.passed for check in gate.checks if check.name == GROUP_HOLDS):
        return [ending]
    hints = []
    held = [group.name for group in holding_groups(report) if group.moving and not group.name.startswith("{")]
    if held:
        hints.append(f"{held[0]} holds: to require just that, add  --group {held[0]}")
    if report.inputs.source.startswith("builtin:"):
        hints.append("builtin pictures are not your data: add --data FOLDER (and --mean, --std)")
    return [*hints, f"{ending}; to allow some, --max-error 0.1"]
