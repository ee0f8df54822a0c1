"""`eqaudit check` without a model: every check of the configuration, one after the other."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eqaudit.cli.audits import Asked, Writers, parse_reports
from eqaudit.cli.files import resolve_output
from eqaudit.cli.flags import input_files
from eqaudit.cli.options import Options, nearest
from eqaudit.cli.streams import stdout_style, write_stderr, write_stdout
from eqaudit.config import Config, find_config, read_config
from eqaudit.errors import EqauditError, ExitCode, UsageError
from eqaudit.report import Outcome
from eqaudit.reporters.outcomes import render_outcomes
from eqaudit.worker import InternalError

CHECKS = "check"
ELSEWHERE = "another rank has the report"
PATHS = {"FILE", "DIR", "SOURCE", "folders|FILE"}
PRECEDENCE = (
    ExitCode.PASSED,
    ExitCode.GATE_FAILED,
    ExitCode.INCOMPLETE,
    ExitCode.USAGE,
    ExitCode.CANNOT_RUN,
    ExitCode.INTERNAL,
)
"""Of several checks the code that stands last here is the one to end with."""


def is_left_out(context: Any, name: str) -> bool:
    """Return whether nobody, neither the command line nor a configuration, gave a parameter."""
    return bool(context.get_parameter_source(name).name == "DEFAULT")


def commands_of(context: Any) -> Mapping[str, Any]:
    """Return the commands of the program by name."""
    commands: Mapping[str, Any] = context.find_root().command.commands
    return commands


def run_configured(context: Any, path: str | None, only: Sequence[str]) -> ExitCode:
    """Run the checks of a configuration, show them in one table, and return the gravest of their codes.

    Raises
    ------
    UsageError
        The configuration cannot be read, or one of its keys or values is wrong: nothing is measured then.
    """
    config = find_config(Path.cwd()) if path is None else read_config(Path(path))
    given = {
        param.name: _anchored(context.params[param.name], param.metavar)
        for param in context.command.params
        if context.get_parameter_source(param.name).name == "COMMANDLINE"
        and param.name not in {"config", "only"}
    }
    heading = f"configuration {config.name}" + (f" ({config.note})" if config.note else "")
    with contextlib.chdir(config.path.parent):
        asked = dict(_ask(config, commands_of(context), only, given))
        _check_outputs(config, [one for one in asked.values() if isinstance(one, Asked)])
        ended = [_run(name, one) for name, one in asked.items()]
        outcomes = [outcome for outcome, _ in ended]
        audits = [one for one in asked.values() if isinstance(one, Asked)]
        shared = dict.fromkeys(report for one in audits for report in one.writers.reports)
        shared |= dict.fromkeys(parse_reports(given.get("report") or ()))
        Writers(reports=tuple(shared)).write_outcomes(outcomes)
    write_stdout(render_outcomes(outcomes, heading, stdout_style(), quiet=context.params["quiet"]))
    return max((code for _, code in ended), key=PRECEDENCE.index)


def _anchored(value: Any, metavar: str | None) -> Any:
    """Return a path of the command line in full: the configuration's are relative to its own folder."""
    if metavar == "KIND=FILE":
        parts = [text.partition("=") for text in value]
        return [f"{kind}={Path.cwd() / file}" if file else kind for kind, _, file in parts]
    if not isinstance(value, str) or metavar not in PATHS or value == "-":
        return value
    with contextlib.suppress(OSError, ValueError):
        file = value if Path(value).exists() else value.rpartition(":")[0]
        if Path(file or value).exists() or metavar in {"FILE", "DIR"}:
            return str(Path.cwd() / value)
    return value


def _ask(
    config: Config, commands: Mapping[str, Any], only: Sequence[str], given: Mapping[str, Any]
) -> Iterator[tuple[str, Asked | EqauditError]]:
    """Give each check as it is asked for, or why its model or data cannot be had; raises UsageError."""
    tables = _tables(config, only)
    check, sweep = (Options(config, commands[command]) for command in ("check", "sweep-angles"))
    shared = {key: value for key, value in config.table.items() if key != CHECKS}
    for key in shared:
        if not sweep.knows(key):
            check.require((key,), [*sweep.keys, CHECKS])
    for name, table in tables.items():
        options = sweep if "angles" in {**shared, **table} else check
        values = options.read((), {key: value for key, value in shared.items() if options.knows(key)})
        values |= options.read((CHECKS, name), table)
        if "model" not in values:
            raise UsageError(f"{config.where(CHECKS, name)}: {name} has no model", 'add model = "FILE"')
        try:
            yield name, options.ask(values, given)
        except UsageError:
            raise
        except EqauditError as error:
            yield name, error


def _tables(config: Config, only: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the table of each check that is asked for."""
    tables = config.table.get(CHECKS)
    if not isinstance(tables, dict) or not tables:
        raise UsageError(
            f"{config.where(CHECKS)}: there are no checks",
            f"each is a table with a model: [{'.'.join([*map(str, config.root), CHECKS])}.NAME]",
        )
    for name in only:
        if name not in tables:
            raise UsageError(
                f"--only {name!r} is no check of {config.name}{nearest(name, tables)}",
                "without --only all of them run",
            )
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(
                f"{config.where(CHECKS, name)}: {name!r} is no table", f"write [check.{name}], then its keys"
            )
    return {name: tables[name] for name in dict.fromkeys(only) or tables}


def _check_outputs(config: Config, asked: Sequence[Asked]) -> None:
    """Make sure that no check writes over what another one writes or reads, nor over the configuration."""
    paths = Counter(str(resolve_output(path)) for one in asked for path in one.written)
    paths.update({str(resolve_output(path)) for one in asked for _, path in one.writers.reports})
    twice = [path for path, count in paths.items() if count > 1]
    if twice:
        raise UsageError(
            f"{config.name}: several checks write {twice[0]}", "give each check a file of its own"
        )
    read = {str(config.path.resolve())}
    for one in asked:
        inputs = input_files(one.plan.model, one.plan.inputs)
        baseline = one.gate.baseline if not one.gate.update_baseline else None
        read.update(str(resolve_output(path)) for path in (*inputs, baseline) if path)
    for path in paths:
        if path in read:
            raise UsageError(
                f"{config.name}: {path} is an input of a check and would be overwritten", "name another file"
            )
    if any(one.writers.json == "-" for one in asked):
        raise UsageError(
            f"{config.name}: --json - goes with one MODEL", "give each check a json file of its own"
        )


def _run(name: str, asked: Asked | EqauditError) -> tuple[Outcome, ExitCode]:
    try:
        if isinstance(asked, EqauditError):
            raise asked
        audited = asked.measure()
        if audited is None:
            return Outcome(name, None, ELSEWHERE), ExitCode.PASSED
        asked.write(audited)
        return Outcome(name, audited.report), asked.code(audited.report)
    except EqauditError as error:
        return Outcome(
            name, None, "; ".join(part for part in (error.message, error.hint) if part)
        ), error.exit_code
    except InternalError as error:
        write_stderr(str(error))
        return Outcome(name, None, "internal error: a bug of eqaudit, please report it"), ExitCode.INTERNAL
