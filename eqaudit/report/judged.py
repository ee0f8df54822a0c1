"""What the gate and the verdict make of what was measured."""

from typing import Literal

import msgspec

from eqaudit.report.base import Class, Record


class ElementClass(Record, frozen=True):
    """The class of the gating output at one element."""

    element: str
    class_: Class = msgspec.field(name="class")


class LayerRange(Record, frozen=True):
    """Layers in order of execution, from ``first`` to ``last``, at which the same group holds.

    ``group`` is C1 where nothing does; ``by`` says how channels turn in them, as in ``a regular
    representation``.
    """

    first: str
    last: str
    group: str
    by: str


class Verdict(Record, frozen=True):
    """The largest group that holds on the gating output, and one sentence to quote.

    ``by_layer`` are the layers in ranges; ``broken_from`` is the first layer from which on the group that
    held before holds no more, None where it holds to the end.
    """

    holds: str
    sentence: str
    by_element: list[ElementClass]
    by_layer: list[LayerRange] = []
    broken_from: str | None = None


class GateCheck(Record, frozen=True):
    """One limit that was compared.

    ``undecided``: neither a pass nor a failure is certain, which fails too. ``source`` says where the limit
    was set (``--max-error``, ``eqaudit.toml:12``); empty for what is always asked.
    """

    name: str
    value: float | str | None
    limit: float | str
    passed: bool
    reason: str
    undecided: bool = False
    source: str = ""


class Change(Record, frozen=True):
    """One number beside the same number of a baseline; ``reason`` says in words why it is judged so."""

    name: str
    element: str
    before: float | None
    after: float | None
    class_before: Class | None
    class_after: Class | None
    judged: Literal["worse", "better", "same"]
    reason: str


class BaselineRecord(Record, frozen=True):
    """The report that this one was compared with; ``tolerance`` is relative."""

    path: str
    tolerance: float
    changes: list[Change]


class Gate(Record, frozen=True):
    """Whether the audit passed, and what decided it; ``judged`` is False where nothing hangs on it."""

    passed: bool
    checks: list[GateCheck]
    baseline: BaselineRecord | None = None
    judged: bool = True
