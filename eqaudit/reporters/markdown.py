"""A comment on a pull request, in Markdown: verdicts, limits, what changed, and the layers, folded away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from eqaudit.gate import incomplete
from eqaudit.report import BaselineRecord, CauseFound, Change, GateCheck, Outcome, Report
from eqaudit.reporters.base import Result, check_result, gate_checks, is_judged, outcome_result
from eqaudit.reporters.diagnosis import describe_diagnosis, describe_effect, describe_layers
from eqaudit.reporters.escape import markdown_code, markdown_text
from eqaudit.reporters.layer_table import layer_cells
from eqaudit.reporters.terminal import describe_images, describe_model, describe_where
from eqaudit.verdict import format_error

LARGEST_COMMENT = 65_536
"""What GitHub takes, in characters; counted here in bytes, which are no fewer."""
MOST_ROWS = (2_000, 1_000, 500, 200, 100, 50, 30, 20, 10, 5, 2, 0)
"""Rows of each table, tried until the comment is short enough: the longest, those of layers, give first."""
MARKS: dict[Result, str] = {"failed": "❌", "could not run": "⚠️", "undecided": "❔", "passed": "✅"}


def render_markdown(outcomes: Sequence[Outcome]) -> bytes:
    """Return the outcomes as GitHub's Markdown, in at most 65,536 bytes."""
    pages = ("\n".join(_page(outcomes, most)).encode() + b"\n" for most in MOST_ROWS)
    return next(page for page in pages if len(page) <= LARGEST_COMMENT)


def _page(outcomes: Sequence[Outcome], most: int) -> Iterator[str]:
    if len(outcomes) == 1 and most:
        yield from _section(outcomes[0], "## eqaudit: ", most)
        return
    counts = Counter(outcome_result(outcome) for outcome in outcomes)
    said = ", ".join(f"{counts[result]} {result}" for result in MARKS if counts[result])
    yield f"## eqaudit, {len(outcomes)} checks: {said}"
    yield from _table(("check", "result", "verdict"), map(_overview, outcomes), most)
    passed = [outcome for outcome in outcomes if outcome_result(outcome) == "passed"]
    others = [outcome for outcome in outcomes if outcome_result(outcome) != "passed"]
    for outcome in others[:most]:
        yield from _section(outcome, "### ", most)
    if passed and most:
        inner = [line for outcome in passed[:most] for line in _section(outcome, "### ", most)]
        yield from _folded(f"Checks that passed ({len(passed)})", inner)


def _overview(outcome: Outcome) -> tuple[str, str, str]:
    said = outcome.error if outcome.report is None else _sentence(outcome.report)
    return markdown_code(outcome.name), _mark(outcome_result(outcome)), markdown_text(said)


def _section(outcome: Outcome, heading: str, most: int) -> Iterator[str]:
    result = outcome_result(outcome)
    yield f"{heading}{MARKS[result]} {markdown_code(outcome.name)}: {result}"
    report = outcome.report
    if report is None:
        yield f"\nThe audit could not run: {markdown_text(outcome.error)}"
        return
    yield f"\n**Verdict.** {markdown_text(_sentence(report))}"
    for line in describe_where(report):
        yield f"\n{markdown_text(line)}"
    if not is_judged(report):
        yield "\nNot judged (`--no-gate`): the limits are shown, the job does not fail by them."
    checks = sorted(gate_checks(report), key=lambda check: check.passed)
    yield from _table(("limit", "value", "allowed", "result", "why"), map(_limit, checks), most)
    if report.gate is not None and report.gate.baseline is not None:
        yield from _baseline(report.gate.baseline, most)
    if report.diagnose is not None:
        yield f"\n**Why.** {markdown_text(describe_diagnosis(report.diagnose))}"
        titles = ("cause", "layers", "what it is", "without it", "what helps")
        yield from _table(titles, map(_cause, report.diagnose.causes), most)
    missing = [(markdown_text(line),) for line in incomplete(report)]
    yield from _table(("not measured",), missing, most)
    yield from _layers(report, most)
    about = f"{describe_model(report.model, len(report.layers))}; input: {describe_images(report.inputs)}"
    yield f"\n<sub>Model: {markdown_text(about)}. eqaudit {markdown_text(report.tool.version)}.</sub>"


def _sentence(report: Report) -> str:
    return report.verdict.sentence if report.verdict is not None else "not judged"


def _limit(check: GateCheck) -> tuple[str, ...]:
    source = f" ({markdown_text(check.source)})" if check.source else ""
    result = _mark(check_result(check))
    return (
        markdown_text(check.name),
        _value(check.value),
        _value(check.limit) + source,
        result,
        markdown_text(check.reason),
    )


def _value(value: float | str | None) -> str:
    if value is None:
        return "-"
    return markdown_text(value) if isinstance(value, str) else f"{value:.4g}"


def _mark(result: Result) -> str:
    return f"{MARKS[result]}&nbsp;{result}"


def _baseline(baseline: BaselineRecord, most: int) -> Iterator[str]:
    counts = Counter(change.judged for change in baseline.changes)
    said = f"{counts['worse']} worse, {counts['better']} better, {counts['same']} the same"
    tolerance = f"tolerance {100 * baseline.tolerance:.3g} %"
    yield f"\n**Against the baseline** {markdown_code(baseline.path)} ({tolerance}): {said}."
    changed = [
        change for judged in ("worse", "better") for change in baseline.changes if change.judged == judged
    ]
    yield from _table(("what", "at", "before → after", "change", "why"), map(_change, changed), most)


def _change(change: Change) -> tuple[str, ...]:
    before, after = change.before, change.after
    known = before is not None and after is not None
    arrow = ("↑ " if (after or 0) > (before or 0) else "↓ ") if known and before != after else ""
    sides = ((before, change.class_before), (after, change.class_after))
    moved = " → ".join(format_error(value) + (f" {name}" if name else "") for value, name in sides)
    where = markdown_text(change.element)
    return markdown_code(change.name), where, moved, f"{arrow}{change.judged}", markdown_text(change.reason)


def _cause(cause: CauseFound) -> tuple[str, ...]:
    layers = describe_layers(cause, markdown_code) or "-"
    said = (cause.explanation, describe_effect(cause), cause.fix)
    return markdown_code(cause.id), layers, *map(markdown_text, said)


def _layers(report: Report, most: int) -> Iterator[str]:
    if not report.layers:
        return
    columns, cells = layer_cells(report)
    rows = ((markdown_code(name), *map(markdown_text, rest)) for name, *rest in cells)
    titles = [column.title.replace("\n", " ") for column in columns]
    yield from _folded(f"Layers ({len(report.layers)})", _table(titles, rows, most))


def _folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    # Markdown inside is read only after an empty line.
    yield f"\n<details><summary>{title}</summary>"
    yield from lines
    yield "\n</details>"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], most: int) -> Iterator[str]:
    """Write a table of cells that are Markdown already; what is cut is said below it."""
    found = list(rows)
    if not found:
        return
    if most:
        yield ""
        yield from (f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *found[:most]))
    if len(found) > most:
        yield f"\n{len(found) - most} of {len(found)} rows are left out, so that this fits into a comment."
