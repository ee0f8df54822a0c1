"""Values and strings that are valid where they stand and wrong in what they say."""

import json
import re
from random import Random
from typing import Any

from test_hostile_names import ALONE

from . import raw

NUMBERS = (0, 1, -1, 2, 7, 360, 10**5, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e-320, 1e308, 1e400)
LONGEST = 5_000
STRINGS = [name[:LONGEST] for name in ALONE]
"""Hostile names; a megabyte of one is a test of its own."""
DEPTHS = (3, 300, 100_000)

LIMITS = (
    "output.error < 1e-3",
    'layers["conv*"].normalised <= 0.1 @ r90,30..60',
    "output.error < 2 * floor @ m",
    "dice.p5 > 0.9",
    "consistency >= 0.5",
    "accuracy.worst_angle > 0.5",
    "verdict >= C4",
)
LIMIT_WORD = re.compile(r'"[^"]*"|\w+|\S')
ODD_LIMITS = (
    "nan",
    "1e999",
    "-1",
    '""',
    "C1",
    "C0",
    "''",
    "@",
    "floor",
    "r90..",
    "%",
    "9" * 2_000,
    "verdict",
)


def string(random: Random) -> str:
    """Return a hostile string."""
    return random.choice(STRINGS)


def value(random: Random) -> Any:
    """Return a JSON value that few expect, numbers beyond every range among them."""
    plain: tuple[Any, ...] = (None, True, False, float("nan"), float("inf"), [], {}, "", "1", "C4", {"a": 1})
    return random.choice((random.choice(plain), random.choice(NUMBERS), string(random)))


def json_text(text: bytes, random: Random) -> bytes:
    """Return a JSON text with one value changed, dropped, renamed, moved, said twice, or nested deep."""
    tree = json.loads(text)
    holder, key = _place(tree, random)
    match random.randrange(7):
        case 0 | 1 | 2:
            holder[key] = value(random)
        case 3:
            del holder[key]
        case 4:
            other, at = _place(tree, random)
            # Through text, for a tree may not hold itself.
            holder[key] = json.loads(json.dumps(other[at]))
        case 5 if isinstance(holder, dict):
            holder[string(random)] = holder.pop(key) if random.random() < 0.5 else holder[key]
        case _:
            return _textual(tree, holder, key, random)
    return json.dumps(tree).encode()


def _place(tree: Any, random: Random) -> tuple[Any, Any]:
    """Return a container in a tree and a key of it, the shallow ones as likely as the many deep ones."""
    holder: Any = {"": tree}
    key: Any = ""
    stop = random.choice((0.1, 0.3, 0.7))
    while isinstance(holder[key], dict | list) and holder[key] and (key == "" or random.random() > stop):
        holder = holder[key]
        key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    return holder, key


def _textual(tree: Any, holder: Any, key: Any, random: Random) -> bytes:
    """Say a key twice, or nest a value deeper than a parser may go."""
    mark = "3c1f"
    old = holder[key]
    holder[key] = mark
    text, was = json.dumps(tree), json.dumps(old)
    depth = random.choice(DEPTHS)
    nested = "[" * depth + was + "]" * depth
    twice = f"{json.dumps(value(random))}, {json.dumps(key)}: {was}"
    new = twice if isinstance(holder, dict) and random.random() < 0.5 else nested
    return text.replace(json.dumps(mark), new, 1).encode()


def toml_text(text: str, random: Random) -> str:
    """Return a TOML text with one line changed in its key, value or place."""
    lines = text.splitlines()
    number = random.choice([at for at, line in enumerate(lines) if line])
    key, equals, said = lines[number].partition(" = ")
    match random.randrange(6):
        case 0 | 1 | 2 if equals:
            lines[number] = f"{key} = {_toml(random)}"
        case 3 if equals:
            lines[number] = f"{_toml_key(key, random)} = {said}"
        case 4:
            lines[number] = f"[{_toml_key('check.first', random)}]"
        case _:
            lines = raw.rearrange(lines, random)
    return "\n".join(lines) + "\n"


def limit(random: Random) -> str:
    """Return a limit with one of its words changed."""
    words: list[str] = LIMIT_WORD.findall(random.choice(LIMITS))
    if random.random() < 0.5:
        words[random.randrange(len(words))] = random.choice(
            (*ODD_LIMITS, *LIMIT_WORD.findall(random.choice(LIMITS)))
        )
    return "".join(raw.rearrange(words, random) if random.random() < 0.6 else words)


def _toml(random: Random) -> str:
    depth = random.choice(DEPTHS[:2])
    odd = ("nan", "-inf", "true", "1979-05-27", "0x10", "1_000", "[1, 'a']", "{a = 1}", "'''\na'''", "1e400")
    nested = "[" * depth + "]" * depth
    asked = json.dumps([limit(random)])
    found = random.choice((random.choice(odd), str(random.choice(NUMBERS)), None, nested, asked, asked))
    return json.dumps(string(random)) if found is None else found


def _toml_key(key: str, random: Random) -> str:
    near = (f"{key}s", key[1:] or "x", key.replace("-", "_"), "device", "strict", "limit", "a.b", '""')
    return random.choice((*near, json.dumps(string(random))))
