"""Configuration files: found, read within bounds, and every key with its place in the text."""

from __future__ import annotations

import bisect
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from eqaudit.bounds import BOUNDS, format_bytes
from eqaudit.errors import UsageError

OWN, SHARED = "eqaudit.toml", "pyproject.toml"
TABLE = ("tool", "eqaudit")
TOKEN = re.compile(
    r'''"""(?:\\[\s\S]|(?!""")[^\\])*"{3,5}|\'\'\'(?:(?!\'\'\')[\s\S])*\'{3,5}'''
    r"""|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*|\n|[^\S\n]+|[\[\]{},=]|[^\s\[\]{},=#"']+"""
)

Keys = tuple[str | int, ...]


class Config(msgspec.Struct, frozen=True):
    """The tables of one file, from ``root`` on; ``name`` is its path as seen from the current folder.

    ``places`` are (line, column) from 1 of every key and element by its whole path; ``note`` says which other
    file was passed over.
    """

    path: Path
    name: str
    table: dict[str, Any]
    root: Keys
    places: dict[Keys, tuple[int, int]]
    note: str = ""

    def where(self, *keys: str | int) -> str:
        """Return ``file:line:column`` of a key, or of the nearest table around it."""
        path = (*self.root, *keys)
        known = (path[:size] for size in range(len(path), -1, -1) if path[:size] in self.places)
        line, column = self.places[next(known)]
        return f"{self.name}:{line}:{column}"


def find_config(folder: Path) -> Config:
    """Return the configuration of the nearest folder that has one, upwards.

    In one folder ``eqaudit.toml`` goes before the table ``[tool.eqaudit]`` of ``pyproject.toml``.

    Raises
    ------
    UsageError
        There is none, or it cannot be read.
    """
    for place in (folder, *folder.parents):
        own, shared = place / OWN, place / SHARED
        if os.path.lexists(own):
            return msgspec.structs.replace(
                read_config(own), note=f"{SHARED} beside it is not read" if os.path.lexists(shared) else ""
            )
        found = read_config(shared) if os.path.lexists(shared) else None
        if found is not None and found.table:
            return found
    raise UsageError(
        f"MODEL is missing, and there is no configuration: no {OWN}, nor {SHARED} with [tool.eqaudit], "
        "here or above",
        "name a model, or make a configuration with eqaudit init MODEL",
    )


def read_config(path: Path) -> Config:
    """Read ``eqaudit.toml``, or the table ``[tool.eqaudit]`` of a file named ``pyproject.toml``.

    Raises
    ------
    UsageError
        The file is missing, no regular file, too large, or no TOML; says where.
    """
    name = os.path.relpath(path)
    text = _read_text(path, name)
    root: Keys = TABLE if path.name == SHARED else ()
    try:
        _check_depth(text)
        table: Any = tomllib.loads(text)
        places = locate(text)
    except RecursionError as error:
        raise UsageError(
            f"{name} is nested too deeply: more than {BOUNDS.configuration_depth} levels",
            "a configuration needs three",
        ) from error
    except ValueError as error:
        raise _syntax_error(name, str(error)) from error
    for depth, key in enumerate(root, 1):
        table = table.get(key, {})
        if not isinstance(table, dict):
            line, column = places[root[:depth]]
            raise UsageError(f"{name}:{line}:{column}: {key} is no table", "write [tool.eqaudit]")
    return Config(path.absolute(), name, table, root, places)


def _read_text(path: Path, name: str) -> str:
    try:
        if not path.is_file():
            raise UsageError(
                f"{name} is no regular file" if os.path.lexists(path) else f"no such configuration: {name}",
                "name a TOML file",
            )
        if path.stat().st_size > BOUNDS.configuration_bytes:
            most = format_bytes(BOUNDS.configuration_bytes)
            raise UsageError(
                f"{name} is too large for a configuration: more than {most}", "keep only the checks in it"
            )
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is no UTF-8 from byte {error.start} on", "save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{name} cannot be read: {error}", "check its path and permissions") from error


def _check_depth(text: str) -> None:
    """Raise RecursionError for a dotted key of many parts, whose square tomllib takes in time and memory."""
    dots = 0
    for found in TOKEN.finditer(text):
        if found[0][0] in "[]{},=\n":
            dots = 0
        elif found[0][0] not in "\"'#":
            dots += found[0].count(".")
        if dots >= BOUNDS.configuration_depth:
            raise RecursionError


def _syntax_error(name: str, said: str) -> UsageError:
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", said)
    if found is None:  # a number of more digits than Python reads
        return UsageError(f"{name} cannot be read: {said.partition(';')[0]}", "write a smaller number")
    place = f":{found[1]}:{found[2]}" if found[1] else ""
    return UsageError(
        f"{name}{place}: {said[: found.start()]}{'' if found[1] else ' at the end of the file'}",
        "correct the TOML there",
    )


def locate(text: str) -> dict[Keys, tuple[int, int]]:
    r"""Return line and column, from 1, of every key, table and element of an array, by its path.

    The text must be valid TOML: `tomllib` reads it, and says where it is not, but not where a key stands.

    Examples
    --------
    >>> locate('a.b = 1\n[c]\nd = ["x",\n  "y"]')[("c", "d", 1)]
    (4, 3)
    """
    return _Finder(text).places


class _Finder:
    """Walks through the tokens of a valid document."""

    def __init__(self, text: str) -> None:
        self.lines = [0, *(found.end() for found in re.finditer("\n", text))]
        self.places: dict[Keys, tuple[int, int]] = {(): (1, 1)}
        self.tokens = [(found[0], found.start()) for found in TOKEN.finditer(text)]
        self.at = 0
        table: Keys = ()
        while self._skip("\n"):
            if self._peek() != "[":
                self._pair(table)
                continue
            double = self.tokens[self.at + 1][0] == "["
            self.at += 2 if double else 1
            table = self._key((), "]")
            self.at += 2 if double else 1

    def _pair(self, table: Keys) -> None:
        path = self._key(table, "=")
        self.at += 1
        self._value(path)

    def _key(self, table: Keys, end: str) -> Keys:
        """Note the place of each part of a dotted key, and return its path."""
        self._skip()
        start, offset = self.at, self.tokens[self.at][1]
        while self._peek() != end:
            self.at += 1
        inner: Any = tomllib.loads("".join(word for word, _ in self.tokens[start : self.at]) + " = 0")
        while isinstance(inner, dict):
            ((part, inner),) = inner.items()
            table = (*table, part)
            self._note(table, offset)
        return table

    def _value(self, path: Keys) -> None:
        self._skip()
        opening = self._peek()
        if opening not in {"[", "{"}:
            while self.at < len(self.tokens) and self._peek() not in {",", "]", "}", "\n"}:
                self.at += 1
            return
        self.at += 1
        number = 0
        while self._skip("\n,") and self._peek() not in {"]", "}"}:
            if opening == "{":
                self._pair(path)
            else:
                self._note((*path, number), self.tokens[self.at][1])
                self._value((*path, number))
                number += 1
        self.at += 1

    def _note(self, path: Keys, offset: int) -> None:
        line = bisect.bisect_right(self.lines, offset)
        self.places.setdefault(path, (line, offset - self.lines[line - 1] + 1))

    def _skip(self, more: str = "") -> bool:
        """Pass over space, comments and some signs; return whether anything is left."""
        while self.at < len(self.tokens):
            word = self._peek()
            if not (word[0] in " \t\r#" or word in more):
                return True
            self.at += 1
        return False

    def _peek(self) -> str:
        return self.tokens[self.at][0]
