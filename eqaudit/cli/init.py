"""`eqaudit init`: a configuration that passes today, made from one audit."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import PurePath
from typing import Annotated, Any

import msgspec
import typer

from eqaudit.cli.audits import Asked
from eqaudit.cli.configured import commands_of, is_left_out
from eqaudit.cli.files import check_output, write_file
from eqaudit.cli.options import NEVER_CONFIGURED
from eqaudit.cli.streams import stdout_style, write_stdout
from eqaudit.config import OWN
from eqaudit.errors import ExitCode, UsageError
from eqaudit.gate import judge
from eqaudit.holding import holding_groups
from eqaudit.limits import parse_limit_expression
from eqaudit.report import Report
from eqaudit.reporters.escape import show
from eqaudit.reporters.terminal import render_verdict
from eqaudit.verdict import format_error

EXAMPLES = """Examples:

eqaudit init model.pt

eqaudit init model.pt --data slides/ --mean 0.5 --std 0.25 --group C4

eqaudit init models.py:make_net --weights best.pth --force"""

MARGIN = 1.1
"""How much more than today's upper bound is allowed where no group holds."""


def init(
    context: typer.Context,
    force: Annotated[bool, typer.Option("--force", help=f"Write over an {OWN} that is there.")] = False,
) -> ExitCode:
    """Audit MODEL once and write eqaudit.toml, in which what holds today is the limit.

    Takes every option of eqaudit check, and writes down those that were given. Where no group holds, the
    limit is today's error: the upper end of its interval and a tenth. Afterwards eqaudit check passes.
    """
    if os.path.lexists(OWN) and not force:
        raise UsageError(f"{OWN} is there already", "write over it with --force")
    check = commands_of(context)["check"]
    with check.make_context("eqaudit init", list(context.args)) as asking:
        if is_left_out(asking, "model"):
            raise UsageError("MODEL is missing", "for example eqaudit init model.pt")
        asked: Asked = check.invoke(asking)
        given = _given(asking)
    check_output(OWN, (), option=OWN)
    audited = asked.measure()
    if audited is None:
        return ExitCode.PASSED
    report = audited.report
    limits = [] if any(limit.on_output for limit in asked.limits.asked) else _limits(report)
    added = tuple(parse_limit_expression(text, OWN) for text, _ in limits)
    required = msgspec.structs.replace(asked.limits, asked=(*asked.limits.asked, *added))
    report = judge(report, required)
    write_stdout(render_verdict(report, stdout_style()))
    if report.gate is None or not report.gate.passed:
        write_stdout(f"\n{OWN} is not written: nothing passes that could be kept.\n")
        return ExitCode.GATE_FAILED
    write_file(OWN, _configuration(report, given, limits).encode())
    write_stdout(f"\n{OWN} is written; run it with  eqaudit check\n")
    return ExitCode.PASSED


def _given(context: Any) -> dict[str, Any]:
    """Return what the command line said, by the key that a configuration has for it."""
    found = {}
    for param in context.command.params:
        key = max(param.opts, key=len).removeprefix("--")
        if key not in NEVER_CONFIGURED and context.get_parameter_source(param.name).name == "COMMANDLINE":
            found[key] = context.params[param.name]
    return found


def _limits(report: Report) -> list[tuple[str, str]]:
    """Return limits that hold today, each with a comment: the groups that hold, or else the error."""
    held = [group.name for group in holding_groups(report) if group.moving and not group.name.startswith("{")]
    if held:
        return [(f"verdict >= {name}", "holds today") for name in held]
    errors = [error for error in report.gating_output.errors if error.error is not None]
    worst = max(errors, key=lambda error: error.ci95[1] if error.ci95 else math.inf, default=None)
    if worst is None or worst.ci95 is None:
        raise UsageError(
            "today's error has no interval, so no limit can be put on it", "measure more images: --samples 64"
        )
    low, high = (format_error(end) for end in worst.ci95)
    today = f"today {format_error(worst.error)} at {worst.element}, 95 % interval {low} to {high}"
    return [(f"output.error < {_round_up(MARGIN * worst.ci95[1])}", today)]


def _round_up(value: float) -> str:
    """Write a number with three digits, upwards: 1.4151 as 1.42."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2) if value else 1.0
    return f"{math.ceil(value / step) * step:.3g}"


def _configuration(report: Report, given: dict[str, Any], limits: list[tuple[str, str]]) -> str:
    name = re.sub("[^A-Za-z0-9_-]+", "-", PurePath(str(given["model"])).stem).strip("-") or "model"
    verdict = report.verdict.sentence if report.verdict else ""
    written = [_toml_string(text) for text in given.pop("limits", ())]
    lines = [f"  {text}," for text in written]
    lines += [f"  {_toml_string(text)},  # {comment}" for text, comment in limits]
    return "\n".join(
        [
            "# What `eqaudit check` requires. Keys are its options (see eqaudit check --help), paths",
            "# are relative to this file, and keys before the first table are shared by all checks.",
            "",
            f"[check.{name}]",
            f"# {report.inputs.samples} images: {show(verdict)}",
            *(f"{key} = {_toml(value)}" for key, value in given.items()),
            "limits = [",
            *lines,
            "  # 'layers[\"*\"].normalised < 0.5',",
            "]",
            "# To fail when the model gets worse on the same images, keep today's report: say where, and run",
            "# eqaudit check --update-baseline once.",
            f'# baseline = "{name}.baseline.json"',
            "",
        ]
    )


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return _toml_string(value)
        case list() | tuple():
            return f"[{', '.join(_toml(one) for one in value)}]"
        case _:
            return repr(value)


def _toml_string(text: str) -> str:
    """Write a basic string; raises UsageError for a path that is no UTF-8, which TOML cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{text} is no UTF-8, and TOML holds nothing else", "rename it") from error
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
