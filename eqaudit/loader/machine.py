"""What the inert readers of pickles share: a stack machine that steps through opcodes and makes nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Generic, Self, TypeVar

from eqaudit.bounds import BOUNDS

Value = TypeVar("Value")


class RefusedError(Exception):
    """What in the pickle is refused, and the way out if the file is whole."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


class PickleMachine(Generic[Value]):
    """A stack machine over inert values; a value below an open mark is out of reach."""

    def __init__(self, data: bytes | bytearray, start: int = 0) -> None:
        self.data = data
        self.at = start
        self.stack: list[Value] = []
        self.marks: list[int] = []
        self.memo: dict[int, Value] = {}

    def step_to_end(self, steps: Mapping[int, Callable[[Self], object]], not_written: str) -> None:
        """Take one step after the other until the pickle ends.

        Parameters
        ----------
        steps
            What each allowed opcode does.
        not_written
            What is said of any other.

        Raises
        ------
        RefusedError
            An opcode is not allowed, or there are too many.
        """
        for _ in range(BOUNDS.pickle_steps):
            code = self.data[self.at]
            self.at += 1
            if code == ord("."):
                return
            step = steps.get(code)
            if step is None:
                raise RefusedError(f"pickle opcode 0x{code:02x}, {not_written}")
            step(self)
        raise RefusedError(f"too large: more than {BOUNDS.pickle_steps} pickle steps")

    def bytes(self, count: int) -> bytes:
        """Take that many bytes."""
        if count > len(self.data) - self.at:
            raise RefusedError("the pickle is cut short")
        self.at += count
        return bytes(self.data[self.at - count : self.at])

    def number(self, code: str) -> Any:
        """Take one number, by its struct code."""
        (value,) = struct.unpack(code, self.bytes(struct.calcsize(code)))
        return value

    def peek(self) -> Value:
        """Return the value on top."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise RefusedError("it takes a value that is not there")
        return self.stack[-1]

    def pop(self) -> Value:
        """Take the value on top."""
        value = self.peek()
        del self.stack[-1]
        return value

    def since_mark(self) -> list[Value]:
        """Take the values above the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items
