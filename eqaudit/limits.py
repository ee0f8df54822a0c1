"""The language of limits: what ``layers["encoder.*"].error < 2 * floor @ r90,r270`` asks.

limit    = quantity comparison bound ["@" places]
quantity = "output" "." kind | "layers" "[" string "]" "." kind | "dice" "." ("mean" | "p5" | "p25" | "p50")
         | "consistency" | "accuracy" ["." "worst_angle"] | "verdict"
kind     = "error" | "normalised"
bound    = number ["*" "floor"] | "floor" | group
places   = place {"," place}        place = element | degrees ".." degrees
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import re
from collections.abc import Sequence
from typing import NoReturn

import msgspec

from eqaudit.errors import ExpressionError, UsageError
from eqaudit.groups import Group

LONGEST = 1_000
KINDS = ("error", "normalised")
WHOLE = ""
QUANTITIES = {
    "output": KINDS,
    "layers": KINDS,
    "dice": ("mean", "p5", "p25", "p50"),
    "consistency": (WHOLE,),
    "accuracy": (WHOLE, "worst_angle"),
    "verdict": (WHOLE,),
}
EXAMPLE = "for example 'output.error < 1e-3' or 'layers[\"*\"].normalised < 0.1 @ r90,30..60'"
TOKEN = re.compile(
    r"""\s*(?: (?P<string>"[^"]*"|'[^']*')
             | (?P<number>[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
             | (?P<word>[A-Za-z_](?:[A-Za-z0-9_-]|\.(?=[0-9]))*)
             | (?P<sign><=|>=|<|>|\.\.|[.*@,\[\]])
             | (?P<end>$) )""",
    re.VERBOSE,
)


class Places(msgspec.Struct, frozen=True):
    """Where a limit holds: elements by name, and ranges of degrees, ends included."""

    names: tuple[str, ...] = ()
    ranges: tuple[tuple[float, float], ...] = ()


class Limit(msgspec.Struct, frozen=True):
    """One limit. ``source`` says where it was set; ``pattern`` is of ``layers``, ``group`` of ``verdict``.

    ``bound`` is a number, or with ``floor`` how many floors. ``places`` None is everywhere.
    """

    text: str
    source: str
    quantity: str
    kind: str = WHOLE
    pattern: str = ""
    comparison: str = "<"
    bound: float = 0.0
    floor: bool = False
    group: str = ""
    places: Places | None = None

    @property
    def on_output(self) -> bool:
        """Whether this says what the output must be, in place of the demand that the group holds."""
        return self.quantity in {"output", "verdict"}


def parse_limit_expression(text: str, source: str = "--limit") -> Limit:
    """Read a limit.

    Raises
    ------
    ExpressionError
        The text is no limit; says at which column, and the nearest good word.

    Examples
    --------
    >>> limit = parse_limit_expression('layers["conv*"].error <= 2 * floor @ r45,60..80')
    >>> limit.pattern, limit.bound, limit.floor, limit.places.ranges
    ('conv*', 2.0, True, ((60.0, 80.0),))
    """
    return _Parser(text, source).limit()


def shorthand_limits(
    *,
    max_error: float | None = None,
    max_normalised_error: float | None = None,
    max_layer_error: float | None = None,
    min_consistency: float | None = None,
) -> tuple[Limit, ...]:
    """Return the limits that the options of these names stand for."""
    asked = (
        ("--max-error", "output.error <=", max_error),
        ("--max-normalised-error", "output.normalised <=", max_normalised_error),
        ("--max-layer-error", 'layers["*"].error <=', max_layer_error),
        ("--min-consistency", "consistency >=", min_consistency),
    )
    return tuple(
        parse_limit_expression(f"{start} {bound!r}", option)
        for option, start, bound in asked
        if bound is not None
    )


def limited_layers(limits: Sequence[Limit]) -> tuple[str, ...]:
    """Return the patterns of layers that some limits are on."""
    return tuple(limit.pattern for limit in limits if limit.quantity == "layers")


def matches(name: str, pattern: str) -> bool:
    """Whether the name of a layer is meant by a pattern of the user's."""
    # The parts of a tuple are named with brackets, which a glob would read as a set of characters.
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


class _Parser:
    """Recursive descent, one method for each rule of the grammar."""

    def __init__(self, text: str, source: str) -> None:
        self.text, self.source = text, source
        self.type = self.current = ""
        self.column, self._end = 1, 0
        if len(text) > LONGEST:
            self.text = text[:40]
            self._fail(f"a limit has at most {LONGEST:,} characters, this one {len(text):,}")
        self._advance()

    def limit(self) -> Limit:
        quantity = self._word(tuple(QUANTITIES), "a quantity")
        pattern = self._pattern() if quantity == "layers" else ""
        kind = self._kind(quantity)
        comparison = self._comparison(quantity)
        bound, floor, group = 0.0, False, ""
        if quantity == "verdict":
            group = self._group()
        else:
            bound, floor = self._bound(quantity, kind)
        places = (
            self._places() if self._take("@", refuse=quantity == "verdict" or kind == "worst_angle") else None
        )
        if self.current:
            self._fail(f"expected the end or '@', got {self.current!r}")
        return Limit(self.text, self.source, quantity, kind, pattern, comparison, bound, floor, group, places)

    def _pattern(self) -> str:
        self._expect("[")
        if self.type != "string" or len(self.current) == len('""'):
            self._fail('expected a pattern of layer names in quotes, as in layers["conv*"]')
        pattern = self.current[1:-1]
        self._advance()
        self._expect("]")
        return pattern

    def _kind(self, quantity: str) -> str:
        kinds = QUANTITIES[quantity]
        if WHOLE in kinds and (len(kinds) == 1 or self.current != "."):
            return WHOLE
        self._expect(".")
        return self._word(tuple(kind for kind in kinds if kind), f"a number of {quantity}")

    def _comparison(self, quantity: str) -> str:
        signs = {"output": ("<", "<="), "layers": ("<", "<="), "verdict": (">=",)}.get(quantity, (">", ">="))
        if self.current not in signs:
            self._fail(f"{quantity} is limited by {' or '.join(signs)}, got {self._got()}")
        return self._advance()

    def _bound(self, quantity: str, kind: str) -> tuple[float, bool]:
        errors = kind == "error"
        if errors and self.current == "floor":
            self._advance()
            return 1.0, True
        if self.type != "number":
            self._fail(f"expected a finite number from 0 on{', or floor' * errors}, got {self._got()}")
        value = float(self.current)
        if not math.isfinite(value) or math.copysign(1, value) < 0:
            self._fail(f"expected a finite number from 0 on, got {self.current}")
        if quantity in {"dice", "consistency", "accuracy"} and value > 1:
            self._fail(f"{quantity} is a share from 0 to 1, got {self.current}")
        self._advance()
        floor = self._take("*", refuse=not errors)
        if floor:
            self._word(("floor",), "floor")
        return value, floor

    def _group(self) -> str:
        try:
            group = Group.named(self.current)
        except UsageError as error:
            self._fail(f"expected a group such as C4 or D4, got {self._got()}", error.hint)
        if not group.moving:
            self._fail("C1 holds for every model: it is no limit")
        self._advance()
        return group.name

    def _places(self) -> Places:
        names, ranges = [], []
        while True:
            if self.type == "number":
                ranges.append(self._range())
            elif re.fullmatch(r"e|m|(m-)?r[0-9.]+", self.current):
                names.append(self._advance())
            else:
                self._fail(f"expected an element such as r90, or degrees such as 30..60, got {self._got()}")
            if not self._take(","):
                return Places(tuple(names), tuple(ranges))

    def _range(self) -> tuple[float, float]:
        low = float(self._advance())
        self._expect("..")
        if self.type != "number" or not low <= float(self.current) < math.inf:
            self._fail(f"expected degrees from {low:g} on, got {self._got()}")
        return low, float(self._advance())

    def _word(self, expected: Sequence[str], what: str) -> str:
        if self.current not in expected:
            near = difflib.get_close_matches(self.current, expected, 1, 0.4)
            meant = f"; did you mean {near[0]}?" if near else f": {', '.join(expected)}"
            self._fail(f"expected {what}, got {self._got()}{meant}")
        return self._advance()

    def _expect(self, sign: str) -> None:
        if self.current != sign:
            self._fail(f"expected '{sign}', got {self._got()}")
        self._advance()

    def _take(self, sign: str, *, refuse: bool = False) -> bool:
        if self.current != sign:
            return False
        if refuse:
            self._fail(f"there can be no '{sign}' here")
        self._advance()
        return True

    def _advance(self) -> str:
        """Return the token and go on to the next; at the end the token is empty."""
        gone, found = self.current, TOKEN.match(self.text, self._end)
        if found is None:
            self.column = len(self.text) - len(self.text[self._end :].lstrip()) + 1
            self._fail(f"nothing can begin with {self.text[self.column - 1]!r}")
        self.type = str(found.lastgroup)
        self.current, self._end = found[self.type], found.end()
        self.column = found.start(self.type) + 1
        return gone

    def _got(self) -> str:
        return repr(self.current) if self.current else "the end"

    def _fail(self, message: str, hint: str = EXAMPLE) -> NoReturn:
        raise ExpressionError(f"{self.source}: column {self.column}: {message}", hint, self.text, self.column)
