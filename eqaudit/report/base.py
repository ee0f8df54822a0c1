"""What every part of a report is made of, and the words that several of them use."""

from typing import Literal

import msgspec

Class = Literal["exact", "at the floor", "approximate", "broken", "unresolved", "degenerate"]


Cause = Literal["random", "depends on the batch", "changes its input"]


DETERMINISM_LIMIT = 1e-5
"""Relative difference of an output run twice, above which it is more than rounding."""


HOLDING: frozenset[Class] = frozenset({"exact", "at the floor"})


class Record(msgspec.Struct, frozen=True):
    """A part of the report. Numbers are finite or None; unknown keys of later versions are passed over."""
