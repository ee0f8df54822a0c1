"""The options of a command as a configuration spells them: names, types and values are those of its flags."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from eqaudit.cli.audits import Asked
from eqaudit.cli.help import usage_error
from eqaudit.config import Config
from eqaudit.errors import UsageError
from eqaudit.limits import Limit

NEVER_CONFIGURED = frozenset({"config", "only", "update-baseline", "help"})
"""What is said to the command alone: which configuration, which part of it, and an action."""

Values = dict[str, tuple[Any, tuple[str, ...]]]
"""Values by the name of their parameter, each with the path of its key in the configuration."""


def nearest(word: str, words: Iterable[str]) -> str:
    """Return what may have been meant, as the end of a message; empty where nothing is near."""
    near = difflib.get_close_matches(word, list(words), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


class Options:
    """One command, and what a configuration may say to it."""

    def __init__(self, config: Config, command: Any) -> None:
        self.config, self.command = config, command
        self.types = inspect.signature(command.callback).parameters
        self.names: dict[str, str] = {
            option.removeprefix("--"): param.name
            for param in command.params
            for option in param.opts
            if option.removeprefix("--") not in NEVER_CONFIGURED and not re.match("-[^-]", option)
        }

    @property
    def keys(self) -> list[str]:
        """Every key, as it is written."""
        return list(self.names)

    def knows(self, key: str) -> bool:
        """Return whether the command has an option of that name."""
        return key in self.names

    def require(self, path: tuple[str, ...], others: Sequence[str] = ()) -> str:
        """Return the name of the parameter that a key sets; raises UsageError where there is none."""
        key = path[-1]
        if key not in self.names:
            raise UsageError(
                f"{self.config.where(*path)}: unknown key {key!r}{nearest(key, [*self.names, *others])}",
                f"keys are the options of eqaudit {self.command.name}, without their dashes",
            )
        return self.names[key]

    def read(self, table: tuple[str, ...], entries: Mapping[str, Any]) -> Values:
        """Return the values of a table; raises UsageError for an unknown key, a wrong type, a repetition."""
        found: Values = {}
        for key, value in entries.items():
            place = (*table, key)
            name = self.require(place)
            if name in found:
                raise UsageError(
                    f"{self.config.where(*place)}: {key!r} is said twice, also as {found[name][1][-1]!r}",
                    "leave one out",
                )
            self._check_type(place, value, self.types[name].annotation)
            found[name] = (value, place)
        return found

    def _check_type(self, place: tuple[str, ...], value: object, annotation: Any) -> None:
        try:
            msgspec.convert(value, annotation)
        except msgspec.ValidationError as error:
            said = str(error).replace(" | null", "").replace("`array`", "`list`")
            # Of a wrong choice the command itself says which there are.
            if not said.startswith("Invalid enum value"):
                raise UsageError(
                    f"{self.config.where(*place)}: {place[-1]!r}: {said}", "see eqaudit check --help"
                ) from error

    def ask(self, values: Values, given: Mapping[str, Any]) -> Asked:
        """Let the command parse the values, those of the command line before all others.

        Raises
        ------
        UsageError
            A value is wrong; says where it stands in the configuration.
        EqauditError
            The model, the data or the baseline cannot be had.
        """
        configured = {name: pair for name, pair in values.items() if name not in given}
        known = {name: value for name, value in given.items() if name in self.types}
        defaults = {name: value for name, (value, _) in configured.items()} | known
        try:
            with self.command.make_context(
                f"eqaudit {self.command.name}", [], default_map=defaults
            ) as context:
                asked: Asked = self.command.invoke(context)
        except UsageError as error:
            error.message = self._placed(error.message, configured, getattr(error, "text", ""))
            raise
        except Exception as error:
            usage = usage_error(error)
            if usage is None:
                raise
            raise UsageError(self._placed(usage.message, configured), usage.hint) from error
        limits = tuple(self._sourced(limit, configured) for limit in asked.limits.asked)
        return dataclasses.replace(asked, limits=msgspec.structs.replace(asked.limits, asked=limits))

    def _placed(self, message: str, configured: Values, text: str = "") -> str:
        """Put before an error where the option that it names stands, if it was configured."""
        found = re.search(r"--([a-z][a-z-]*)|MODEL", message)
        place = self._place(found[1] or "model", configured, text) if found else None
        return message if place is None else f"{place}: {message}"

    def _place(self, option: str, configured: Values, text: str) -> str | None:
        value, keys = configured.get(self.names.get(option, ""), (None, ()))
        if not keys:
            return None
        number = value.index(text) if isinstance(value, list) and text in value else None
        return self.config.where(*keys, *([] if number is None else [number]))

    def _sourced(self, limit: Limit, configured: Values) -> Limit:
        place = self._place(limit.source.removeprefix("--"), configured, limit.text)
        return limit if place is None else msgspec.structs.replace(limit, source=place)
