"""Options in groups: a dataclass of options becomes the options of a command."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints


def with_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let typer see the fields of each parameter that is a group of flags as options of the command."""
    hints = get_type_hints(command, include_extras=True)
    taken = {name: hint for name, hint in hints.items() if name != "return"}
    groups: dict[str, Any] = {name: hint for name, hint in taken.items() if dataclasses.is_dataclass(hint)}
    parameters = list(_parameters(command, hints, groups))

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        for name, group in groups.items():
            fields = [field.name for field in dataclasses.fields(group)]
            values[name] = group(**{field: values.pop(field) for field in fields})
        return command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameters(
    command: Callable[..., Any], hints: dict[str, Any], groups: dict[str, Any]
) -> Iterator[inspect.Parameter]:
    for name, parameter in inspect.signature(command).parameters.items():
        fields = [(name, hints[name], parameter.default)]
        if name in groups:
            inner = get_type_hints(groups[name], include_extras=True)
            fields = [
                (field.name, inner[field.name], field.default) for field in dataclasses.fields(groups[name])
            ]
        for label, annotation, default in fields:
            empty = inspect.Parameter.empty if default is dataclasses.MISSING else default
            yield inspect.Parameter(
                label, inspect.Parameter.KEYWORD_ONLY, default=empty, annotation=annotation
            )
